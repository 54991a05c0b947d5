"""A Modbus line for tests of the driver: what a unit holds and refuses, and time that passes only with requests."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.connection import Answer
from gateway.drivers.modbus.cost import Cost
from gateway.drivers.modbus.device import ModbusDriver
from gateway.drivers.modbus.fields import Field, field_of
from gateway.drivers.modbus.holes import Memory
from gateway.drivers.modbus.plan import Limits
from gateway.drivers.modbus.section import ModbusTcpDevice
from gateway.drivers.modbus.tag import BIT_TABLES, MAX_BITS, MAX_REGISTERS, ModbusTag
from gateway.model import Sample

EPOCH_MS = 1_763_843_000_000
ONE_BLOCK = Limits(MAX_REGISTERS, MAX_BITS, MAX_REGISTERS, Cost(1_000_000_000, 1))
"""With these, fields that are not far apart are one block."""


def field(address: str, kind: str = "uint16", **keys: Any) -> Field:
    """Make the field of a tag."""
    return field_of(ModbusTag.model_validate({"name": "t", "address": address, "type": kind, **keys}))


@dataclass(frozen=True)
class Asked:
    """A request as the driver made it."""

    table: Table
    start: int
    count: int

    @property
    def registers(self) -> range:
        return range(self.start, self.start + self.count)


@dataclass
class ScriptedLine:
    """Answers each register with its own number (a coil with whether that is odd) unless `held` has another.

    `refused` registers of any table bring exception `code` upon their request; so does more than `most` at once, with
    `most_code`. `script` may answer before all that: an exception code, an exception to raise, or None.
    """

    refused: set[int] = dataclasses.field(default_factory=set)
    code: int = 2
    most: int = 2000
    most_code: int = 3
    took: float = 0.01
    held: dict[int, int] = dataclasses.field(default_factory=dict)
    script: Callable[[Asked], int | Exception | None] = lambda asked: None
    now: float = 1000.0
    load: float = 0.0
    requests: list[Asked] = dataclasses.field(default_factory=list)
    cycles: list[tuple[int, float, float]] = dataclasses.field(default_factory=list)
    rested: int = 0
    expected: list[tuple[int, float]] = dataclasses.field(default_factory=list)

    def clock(self) -> float:
        return self.now

    async def connect(self, timeout: float) -> None:
        pass

    async def read(
        self, unit: int, table: Table, start: int, count: int, *, timeout: float, delay: float = 0.0
    ) -> Answer:
        asked = Asked(table, start, count)
        self.requests.append(asked)
        told = self.script(asked)
        self.now += timeout if isinstance(told, TimeoutError) else self.took
        ts = EPOCH_MS + round(1000 * self.now)
        if isinstance(told, Exception):
            raise told
        if told is not None:
            return Answer(ts, b"", told, self.took)
        if not self.refused.isdisjoint(asked.registers):
            return Answer(ts, b"", self.code, self.took)
        if count > self.most:
            return Answer(ts, b"", self.most_code, self.took)
        return Answer(ts, self.payload(asked), 0, self.took)

    def payload(self, asked: Asked) -> bytes:
        words = [self.held.get(at, at) for at in asked.registers]
        if asked.table in BIT_TABLES:
            packed = sum((word & 1) << position for position, word in enumerate(words))
            return packed.to_bytes(-(-asked.count // 8), "little")
        return b"".join((word & 0xFFFF).to_bytes(2, "big") for word in words)

    def expect(self, unit: int, at: float) -> None:
        self.expected.append((unit, at))

    def cycle(self, unit: int, busy_s: float, interval_s: float) -> None:
        self.cycles.append((unit, busy_s, interval_s))

    def rest(self, unit: int) -> None:
        self.rested += 1

    def take_requests(self) -> list[Asked]:
        """Give what was asked since the last time."""
        taken, self.requests = self.requests, []
        return taken


def unit(tags: Sequence[dict[str, Any]], **keys: Any) -> ModbusTcpDevice:
    """Make a section without a host that matters."""
    base = {"name": "press-1", "protocol": "modbus-tcp", "host": "192.0.2.10", "interval": "1s", "timeout": "1s"}
    return ModbusTcpDevice.model_validate({**base, **keys, "tags": tags})


def driver_of(line: ScriptedLine, section: ModbusTcpDevice, memory: Memory | None = None) -> ModbusDriver:
    """Open a driver on the line, with the line's clock."""
    return ModbusDriver(section, line, Memory() if memory is None else memory, clock=line.clock)


def good(samples: Iterable[Sample]) -> dict[int, Any]:
    """Give all values, by column."""
    return {column: value for each in samples for column, value in zip(each.columns, each.values, strict=True)}


def bad(samples: Iterable[Sample]) -> dict[str, str]:
    """Give all qualities that are not good, by tag."""
    return {name: text for each in samples for name, text in each.quality.items()}
