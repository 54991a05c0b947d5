"""The register maps of the press line: one truth for what the units serve and what the gateway's config asks for."""

from simulators.registers import Point

VOLUME = range(1000, 2000)
"""Holding registers that hold a slowly changing pattern, for tests and measurements that need many."""


def volume_value(address: int, ticks: int) -> int:
    """What a register of `VOLUME` holds after so many steps: each goes up by one every ten steps, a tenth at a time."""
    return (address + (ticks + -address % 10) // 10) & 0xFFFF


COUNTERS = (
    Point("ticks", "holding:0", "uint32"),
    Point("served", "holding:2", "uint32"),
)

PRESS_POINTS = (
    Point("running", "coil:0", "bool", deadband=0),
    Point("pump_on", "coil:1", "bool", deadband=0),
    Point("cooler_on", "coil:2", "bool", deadband=0),
    Point("alarm", "coil:3", "bool", deadband=0),
    Point("at_top", "discrete:0", "bool", deadband=0),
    Point("die_closed", "discrete:1", "bool", deadband=0),
    Point("guard_closed", "discrete:2", "bool", deadband=0),
    Point("setpoint", "holding:4", "uint16", scale=0.1, unit="bar", deadband=0),
    Point("oil_temperature", "holding:5", "int16", scale=0.1, unit="Cel"),
    Point("pressure", "holding:6", "float32", "CDAB", unit="bar"),
    Point("energy", "holding:8", "float64", unit="kJ"),
    Point("strokes_total", "holding:12", "uint64"),
    Point("strokes", "holding:16", "uint32"),
    Point("alarm_word", "holding:18", "uint16", deadband=0),
    Point("motor_duty", "holding:19", "uint16", scale=0.1, unit="%"),
    Point("vibration", "holding:20", "float32", unit="mm/s"),
    Point("program", "holding:22", "uint16", deadband=0),
    Point("motor_current", "input:0", "uint16", scale=0.01, unit="A"),
    Point("motor_speed", "input:1", "float32", unit="{rpm}"),
    Point("ambient", "input:3", "int16", scale=0.1, unit="Cel", deadband=0.2),
    Point("serial", "input:100", "string", length=16, interval="60s"),
)

PRESS_BITS = (
    Point("oil_hot", "holding:18.0", "bool", deadband=0),
    Point("overpressure", "holding:18.1", "bool", deadband=0),
    Point("guard_open", "holding:18.5", "bool", deadband=0),
)
"""The bits of the press's alarm word that have a name; bits 0, 1 and 5 are used."""

METER_POINTS = (
    *(Point(f"voltage_l{phase + 1}", f"input:{2 * phase}", "float32", unit="V") for phase in range(3)),
    *(Point(f"current_l{phase + 1}", f"input:{6 + 2 * phase}", "float32", unit="A") for phase in range(3)),
    Point("power", "input:12", "float32", unit="W"),
    Point("power_factor", "input:14", "float32"),
    Point("frequency", "input:16", "float32", unit="Hz"),
    Point("energy_kwh", "input:18", "float32", unit="kW.h"),
    Point("energy_wh", "input:20", "uint64", unit="W.h"),
)
