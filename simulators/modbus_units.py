"""Modbus units: tables of registers with a name, and the machines that write theirs at each step."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from simulators.modbus_faults import Faults
from simulators.modbus_identity import IDENTIFY, identification
from simulators.modbus_pdu import ILLEGAL_ADDRESS, Read, Refusal, Request, answer, exception
from simulators.physics import AMBIENT_C, Meter, Press
from simulators.points import METER_POINTS, PRESS_POINTS, VOLUME, volume_value
from simulators.registers import Point, Table, encode

Cells = Mapping[int, int] | Iterable[int]
"""A table's content: registers from address 0 on, or by address. What is not there is answered with exception 2."""

ARRIVALS = 2000
"""How many requests of a unit are kept by their time."""


class Unit:
    """One unit behind Modbus endpoints: four plain tables that may be set at any time.

    `identity` is what it says to device identification (43/14), by object id; empty, it knows no such function.
    `requests` counts what was asked of the unit, `arrivals` holds the last requests' times (monotonic seconds);
    `faults` makes it misbehave.
    """

    def __init__(
        self,
        name: str,
        unit_id: int,
        *,
        coils: Cells = (),
        discretes: Cells = (),
        holdings: Cells = (),
        inputs: Cells = (),
        identity: Mapping[int, str] | None = None,
    ) -> None:
        self.name = name
        self.unit_id = unit_id
        self.tables: dict[Table, dict[int, int]] = {
            "coil": _cells(coils),
            "discrete": _cells(discretes),
            "holding": _cells(holdings),
            "input": _cells(inputs),
        }
        self.identity = dict(identity if identity is not None else _identity(name))
        self.faults = Faults()
        self.requests = 0
        self.arrivals: deque[float] = deque(maxlen=ARRIVALS)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} unit {self.unit_id}, {self.requests} requests>"

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds. A plain unit stays as it is."""

    def note(self, now: float) -> None:
        """Count a request that came at this time."""
        self.requests += 1
        self.arrivals.append(now)

    def answer(self, request: Request) -> bytes:
        """The PDU that answers a request."""
        return self._pdu(request, self.read)

    def glimpse(self, request: Request) -> bytes:
        """The PDU that would answer a request, without having answered it."""
        return self._pdu(request, self.peek)

    def _pdu(self, request: Request, read: Read) -> bytes:
        try:
            if request.function == IDENTIFY:
                return identification(request.pdu, self.identity)
            return answer(request, read)
        except Refusal as refusal:
            return exception(request.function, refusal.code)

    def peek(self, table: Table, address: int, count: int) -> list[int]:
        """What stands in a table now.

        Raises:
            Refusal: an address is not in the table, or is refused.
        """
        self.faults.check(table, address, count)
        cells = self.tables[table]
        try:
            return [cells[at] for at in range(address, address + count)]
        except KeyError:
            raise Refusal(ILLEGAL_ADDRESS) from None

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """What a client gets that reads now; see `MachineUnit` for the difference to `peek`."""
        return self.peek(table, address, count)

    def report(self) -> dict[str, Any]:
        """The unit's own account, to hold against what a client says it saw."""
        return {"requests": self.requests}

    def times(self) -> list[float]:
        """When the last requests came, in seconds of the simulator's monotonic clock."""
        return [round(at, 4) for at in self.arrivals]

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        return {**self.faults.commands, "report": self.report, "arrivals": self.times}


class MachineUnit(Unit):
    """A unit with named points, two counters and a block of plain registers.

    `ticks` (holding 0, uint32) counts the steps. `served` (holding 2, uint32) counts the answers that carried it:
    each good answer to a request that covers holding 2 and 3 shows the next number, so N polls show 1 to N without
    a hole. Holding 1000 to 1999 change slowly; `points.volume_value` says what they hold.
    """

    points: ClassVar[tuple[Point, ...]] = ()

    def __init__(self, name: str, unit_id: int) -> None:
        super().__init__(name, unit_id)
        self.ticks = 0
        self.served = 0
        self.sensor_broken = False
        self._points = {point.name: point for point in self.points}
        holding = self.tables["holding"]
        holding.update({0: 0, 1: 0, 2: 0, 3: 0})
        holding.update({at: volume_value(at, 0) for at in VOLUME})

    def put(self, name: str, value: float | str) -> None:
        """Write a point, in its own unit of measure, as the registers that hold it."""
        point = self._points[name]
        table, address = point.place
        self._store(table, address, point.encode(value))

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """What a client gets. If that includes `served`, it goes up by one first."""
        values = self.peek(table, address, count)
        if table == "holding" and address <= 2 and address + count >= 4:
            self.served = (self.served + 1) % 2**32
            self._store("holding", 2, encode(self.served, "uint32"))
            values = self.peek(table, address, count)
        return values

    def step(self, dt: float) -> None:
        """Count the step, and let the tenth of the volume block change whose turn it is."""
        self.ticks = (self.ticks + 1) % 2**32
        self._store("holding", 0, encode(self.ticks, "uint32"))
        holding = self.tables["holding"]
        for address in VOLUME[self.ticks % 10 :: 10]:
            holding[address] = volume_value(address, self.ticks)

    def nan(self, on: bool = True) -> None:
        """Make the unit's float sensor read NaN, as one with a broken wire does; `on=False` repairs it."""
        self.sensor_broken = on
        self.step_points()

    def step_points(self) -> None:
        """Write the points as the physics stand."""

    def report(self) -> dict[str, Any]:
        """Requests, and the counters as they stand."""
        return {**super().report(), "ticks": self.ticks, "served": self.served}

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        return {**super().commands, "nan": self.nan}

    def _store(self, table: Table, address: int, values: list[int]) -> None:
        self.tables[table].update(enumerate(values, start=address))


class PressUnit(MachineUnit):
    """`press-1`, the PLC of the hydraulic press. Its vibration sensor (holding 20) is the float that may read NaN."""

    points = PRESS_POINTS

    def __init__(self, seed: int = 1, name: str = "press-1", unit_id: int = 1) -> None:
        super().__init__(name, unit_id)
        self.press = Press(seed)
        self.serial_number = f"EG-PRESS-{seed:07d}"
        self.put("serial", self.serial_number)
        self.put("program", 17)
        self.step_points()

    def step(self, dt: float) -> None:
        """Move the press on by `dt` seconds and write its registers."""
        super().step(dt)
        self.press.step(dt)
        self.step_points()

    def step_points(self) -> None:
        """Write the press as it stands."""
        press, put = self.press, self.put
        alarm = (press.oil_c > 60.0) | (press.pressure_bar > 230.0) << 1 | (not press.running) << 5
        put("running", press.running)
        put("pump_on", press.motor_load > 0.1)
        put("cooler_on", press.cooler_on)
        put("alarm", alarm != 0)
        put("at_top", press.phase.name == "loading")
        put("die_closed", press.phase.name == "pressing")
        put("guard_closed", press.running)
        put("setpoint", press.setpoint_bar)
        put("oil_temperature", press.oil_c)
        put("pressure", press.pressure_bar)
        put("energy", press.energy_kj)
        put("strokes_total", 4_000_000_000 + press.strokes)
        put("strokes", press.strokes)
        put("alarm_word", alarm)
        put("motor_duty", press.duty * 100.0)
        put("vibration", math.nan if self.sensor_broken else press.vibration_mm_s)
        put("motor_current", 102.0 * press.motor_load)
        put("motor_speed", press.motor_speed_rpm)
        put("ambient", AMBIENT_C)

    def bad_text(self, on: bool = True) -> None:
        """Put octets that are not UTF-8 into the serial number; `on=False` puts the text back."""
        octets = b"EG-\xff\xfe\xc3(PRESS" if on else self.serial_number.encode()
        table, address = self._points["serial"].place
        self._store(table, address, [int.from_bytes(octets.ljust(16, b"\0")[i : i + 2]) for i in range(0, 16, 2)])

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        return {**super().commands, "bad-text": self.bad_text}


class MeterUnit(MachineUnit):
    """`meter-1`, the energy meter. `feeds` gives the watts of the machines behind it; its frequency may read NaN."""

    points = METER_POINTS

    def __init__(
        self,
        seed: int = 2,
        name: str = "meter-1",
        unit_id: int = 2,
        feeds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__(name, unit_id)
        self.meter = Meter(seed)
        self._feeds = feeds
        self.step_points()

    def step(self, dt: float) -> None:
        """Move the meter on by `dt` seconds and write its registers."""
        super().step(dt)
        self.meter.step(dt, self._feeds())
        self.step_points()

    def step_points(self) -> None:
        """Write the meter as it stands."""
        meter, put = self.meter, self.put
        for phase in range(3):
            put(f"voltage_l{phase + 1}", meter.volts[phase])
            put(f"current_l{phase + 1}", meter.amps[phase])
        put("power", meter.power_w)
        put("power_factor", meter.power_factor)
        put("frequency", math.nan if self.sensor_broken else meter.frequency_hz)
        put("energy_kwh", meter.energy_wh / 1000.0)
        put("energy_wh", meter.energy_wh)


def _cells(cells: Cells) -> dict[int, int]:
    return dict(cells) if isinstance(cells, Mapping) else dict(enumerate(cells))


def _identity(name: str) -> dict[int, str]:
    """The basic and regular objects of section 6.21: vendor, product code, revision, URL, product, model, use."""
    texts = ("edge-gateway", name.upper(), "1.0", "https://example.com/plant", "Simulated press line", name, "Tests")
    return dict(enumerate(texts))
