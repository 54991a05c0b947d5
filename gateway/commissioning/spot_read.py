"""One read of a device now: values as they would be sent, beside the raw registers that they were made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.drivers.base import DeviceSection, Driver
from gateway.drivers.modbus.connection import Answer
from gateway.drivers.modbus.device import Line, ModbusDriver
from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.holes import Memory
from gateway.drivers.modbus.plan import Block
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.modbus.tag import BIT_TABLES, ModbusTag
from gateway.model import ALL_TAGS, Sample
from gateway.shaping import Shaper


@dataclass(frozen=True, slots=True)
class Look:
    """What one tag showed: no value where the quality is bad.

    `raw` are registers, or coils where it `is_bits`; None if none came. `kind` is the value's type, if it is one of
    its own: a float32 has fewer digits than a Python float prints.
    """

    name: str
    value: Any
    quality: str
    unit: str | None
    ts: int | None
    raw: tuple[int, ...] | None = None
    kind: str | None = None
    is_bits: bool = False

    @property
    def is_good(self) -> bool:
        """Whether there is a value that may be trusted."""
        return self.quality == "good"


class Heard:
    """What came over the line, block by block, so that a tag's raw registers can be looked up."""

    def __init__(self) -> None:
        self._answers: list[tuple[Block, Answer]] = []

    def __call__(self, block: Block, answer: Answer) -> None:
        """Note a block and its answer."""
        self._answers.append((block, answer))

    def raw(self, field: Field) -> tuple[int, ...] | None:
        """Give the registers (or coils) of a field as they arrived last; None if they did not."""
        for block, answer in reversed(self._answers):
            holds = block.start <= field.register and field.end <= block.start + block.count
            if holds and block.table == field.table and not answer.refusal:
                return _cut(block, answer.payload, field)
        return None


def _cut(block: Block, payload: bytes, field: Field) -> tuple[int, ...]:
    first = field.register - block.start
    if field.table in BIT_TABLES:
        return tuple(payload[at // 8] >> at % 8 & 1 for at in range(first, first + field.registers))
    return tuple(int.from_bytes(payload[2 * at : 2 * at + 2], "big") for at in range(first, first + field.registers))


async def look_at_modbus(section: ModbusDevice, line: Line, columns: tuple[int, ...]) -> list[Look]:
    """Read tags of a Modbus device over a line. Raises DeviceError if the device as a whole cannot be read."""
    heard = Heard()
    driver = ModbusDriver(section, line, Memory(), heard=heard)
    await driver.connect()
    samples = await driver.read(columns)
    fields = driver.fields.all if driver.fields is not None else ()
    raw = {column: heard.raw(fields[column]) for column in columns if fields and not fields[column].absent}
    return looks(section, samples, columns, raw)


async def look_with(section: DeviceSection, driver: Driver, columns: tuple[int, ...]) -> list[Look]:
    """Read tags with an open driver of any protocol. Raises DeviceError."""
    return looks(section, await driver.read(columns), columns)


def looks(
    section: DeviceSection,
    samples: Sequence[Sample],
    columns: Sequence[int],
    raw: Mapping[int, tuple[int, ...] | None] | None = None,
) -> list[Look]:
    """Make what each tag shows of what a driver read; nothing came of a tag that no sample names."""
    shaper = Shaper(section)
    shaped = [sample for each in samples if (sample := shaper.shape(each, 0.0)) is not None]
    column_of = {tag.name: column for column, tag in enumerate(section.tags)}
    values: dict[int, tuple[Any, int]] = {}
    qualities: dict[int, tuple[str, int]] = {}
    for sample in shaped:
        values |= {column: (value, sample.ts) for column, value in zip(sample.columns, sample.values, strict=True)}
        for name, text in sample.quality.items():
            named = columns if name == ALL_TAGS else (column_of[name],)
            qualities |= dict.fromkeys(named, (text, sample.ts))
    found = []
    for column in columns:
        tag = section.tags[column]
        value, ts = values.get(column, (None, None))
        quality, seen = qualities.get(column, ("good" if ts is not None else "bad:no-answer", None))
        kind = "float32" if tag.code == "f" else None
        is_bits = isinstance(tag, ModbusTag) and tag.table in BIT_TABLES
        found.append(Look(tag.name, value, quality, tag.unit, ts or seen, (raw or {}).get(column), kind, is_bits))
    return found
