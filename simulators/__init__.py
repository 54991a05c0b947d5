"""A plant of simulated PLCs: a press line that behaves, and misbehaves on demand. For tests, the demo and your desk.

    from simulators import MeterUnit, ModbusRtuSimulator, ModbusSimulator, OpcuaSimulator, Plant, PressUnit, Unit

    press, meter = PressUnit(seed=1), MeterUnit(seed=2)
    async with ModbusSimulator([press, meter]) as modbus:   # 127.0.0.1, a free port: modbus.port
        plant = Plant([press, meter])
        plant.step(10)                                      # by hand, or: async with plant.running(step_s=0.1):
        press.faults.refuse("holding", [6])                 # one unit's fault; modbus.faults: the endpoint's
        press.nan()
        await modbus.stop()                                 # port closed; start() opens the same port again
        modbus.requests, modbus.function_codes, press.served

    async with ModbusRtuSimulator([press]) as line:         # a serial line, on a pseudo-terminal: line.port

    async with OpcuaSimulator(pki_dir=folder) as opcua:     # opcua.endpoint, opcua.certificate_path
        await opcua.step()                                  # robot and nodes move on; opcua.robot.ticks counts
        opcua.freeze(); opcua.resume(); await opcua.restart(); await opcua.restart(graceful=True, announced_s=2)
        await opcua.status("Robot.Axis1.Speed", "BadSensorFailure")
        await opcua.forget_subscriptions(); await opcua.drop_sessions(); opcua.faults.stop_publishing()
        opcua.faults.refuse_services(["CreateSubscription"]); await opcua.limit(nodes_per_read=5, announced=False)
        await opcua.burst(50); await opcua.history(on=True); await opcua.clock_error(offset_s=3600)
        opcua.report()                                      # what clients asked for: reads, publishes, acks, items

    OpcuaSimulator(volume=5000, history=True)               # more variables, and HistoryRead

`ModbusUdpSimulator`, `ModbusTlsSimulator(units, TlsFiles.of(folder))`, `ModbusRtuOverTcpSimulator` and
`ModbusRtuSimulator` serve units as `ModbusSimulator` does: the same unit may be behind several of them.

`Unit("any", 3, holdings=[1, 2, 3], inputs={100: 7})` serves plain tables: `unit.tables["holding"][0] = 5` at any
time. `Relay((host, port))` puts freezing, delay and cuts in front of any other server.

What each device holds is in `points` (Modbus) and `robot.VARIABLES` (OPC UA); `tags.demo_devices` gives the same as
`devices:` of a gateway's config. Oracles: `ticks` counts steps, `served` counts the good answers that carried it.

`python -m simulators` runs all of it, `python -m simulators ctl` steers what runs. asyncua is imported only where
`OpcuaSimulator` is asked for.
"""

from typing import TYPE_CHECKING, Any

from simulators.certificates import TlsFiles
from simulators.control import Control, ControlError
from simulators.modbus_endpoint import Endpoint
from simulators.modbus_faults import Faults
from simulators.modbus_serial import ModbusRtuSimulator
from simulators.modbus_server import ModbusRtuOverTcpSimulator, ModbusSimulator, ModbusTlsSimulator
from simulators.modbus_udp import ModbusUdpSimulator
from simulators.modbus_units import MachineUnit, MeterUnit, PressUnit, Unit
from simulators.plant import Plant
from simulators.relay import Relay
from simulators.robot import Robot
from simulators.tags import demo_devices

if TYPE_CHECKING:
    from simulators.opcua_server import OpcuaSimulator

__all__ = [
    "Control",
    "ControlError",
    "Endpoint",
    "Faults",
    "MachineUnit",
    "MeterUnit",
    "ModbusRtuOverTcpSimulator",
    "ModbusRtuSimulator",
    "ModbusSimulator",
    "ModbusTlsSimulator",
    "ModbusUdpSimulator",
    "OpcuaSimulator",
    "Plant",
    "PressUnit",
    "Relay",
    "Robot",
    "TlsFiles",
    "Unit",
    "demo_devices",
]


def __getattr__(name: str) -> Any:
    """Import asyncua, which costs 25 MB and a second, only with the name that needs it."""
    if name == "OpcuaSimulator":
        from simulators.opcua_server import OpcuaSimulator  # noqa: PLC0415

        return OpcuaSimulator
    raise AttributeError(f"module 'simulators' has no attribute {name!r}")
