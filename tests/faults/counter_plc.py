"""A PLC whose every value tells where it stands and when it was read, and the auditor who holds readings against it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.model import Sample
from simulators import Unit
from simulators.registers import TABLES, Table

WORDS = 128
"""Holding and input registers stand in groups of so many addresses; the first four of a group are its mark."""
WORDS_USED = 125
BITS = 256
"""Coils and discrete inputs stand in groups of so many addresses; the first 56 bits of a group are its mark."""
BITS_USED = 104
BIT_TABLES = ("coil", "discrete")


def word(unit: int, table: Table, address: int, count: int) -> int:
    """What a register holds at the unit's `count`-th answer.

    A group's mark is unit and table, the group's address, and the count; the registers behind it are a hash of all
    four. A value of another register, another unit or another answer is another value.
    """
    place = address % WORDS
    if place == 0:
        return unit << 8 | TABLES.index(table)
    if place == 1:
        return address - 1
    if place in (2, 3):
        return count >> (16 * (3 - place)) & 0xFFFF
    return _hash(unit, table, address, count) >> 8 & 0xFFFF


def bit(unit: int, table: Table, address: int, count: int) -> int:
    """What a coil or discrete input holds: the mark is count, the group's address and unit, lowest bit first."""
    place = address % BITS
    if place < 32:
        return count >> place & 1
    if place < 48:
        return (address - place) >> (place - 32) & 1
    if place < 56:
        return unit >> (place - 48) & 1
    return _hash(unit, table, address, count) >> 11 & 1


def _hash(unit: int, table: Table, address: int, count: int) -> int:
    mixed = (
        count * 0x9E3779B1 + address * 0x85EBCA77 + unit * 0xC2B2AE3D + TABLES.index(table) * 0x27D4EB2F
    ) & 0xFFFFFFFF
    mixed ^= mixed >> 15
    return (mixed * 0x2C1B3C6D & 0xFFFFFFFF) ^ mixed >> 12


class CounterUnit(Unit):
    """A unit that counts its answers; `count` is the last one's number. It holds every address."""

    def __init__(self, unit_id: int) -> None:
        super().__init__(f"counter-{unit_id}", unit_id)
        self.count = 0

    def peek(self, table: Table, address: int, count: int) -> list[int]:
        """What stands there, under the present count."""
        cell = bit if table in BIT_TABLES else word
        return [cell(self.unit_id, table, at, self.count) for at in range(address, address + count)]

    def read(self, table: Table, address: int, count: int) -> list[int]:
        """What a client gets: each answer has a count of its own."""
        self.count += 1
        return self.peek(table, address, count)


Group = tuple[Table, int]
GROUPS: tuple[Group, ...] = (
    *(("holding", group * WORDS) for group in range(3)),
    *(("input", group * WORDS) for group in range(2)),
    ("coil", 0),
    ("discrete", BITS),
)
"""Several of the same size: an answer to one passes for an answer to another unless somebody looks."""


def tags_of(groups: Sequence[Group] = GROUPS) -> list[dict[str, Any]]:
    """The tags of a device that reads all groups, each in one request."""
    return [tag for table, start in groups for tag in _tags(table, start)]


def _tags(table: Table, start: int) -> Iterator[dict[str, Any]]:
    if table in BIT_TABLES:
        for at in range(start, start + BITS_USED):
            yield {"name": f"{table}-{at}", "address": f"{table}:{at}", "type": "bool"}
        return
    yield {"name": f"{table}-{start}-mark", "address": f"{table}:{start}", "type": "uint64"}
    for at in range(start + 4, start + WORDS_USED):
        yield {"name": f"{table}-{at}", "address": f"{table}:{at}", "type": "uint16"}


@dataclass
class Audit:
    """What a device's readings were worth. `floor` is the unit's count when it last stored something.

    A value is right if it is that of its address at one and the same count for all values of its group, and at a
    count that the unit came to after the readings before were stored: what is older is the answer to another request.
    """

    unit: CounterUnit
    tags: Sequence[Any]
    readings: int = 0
    checked: int = 0
    is_whole: bool = False
    """Whether the last poll had a right value for every tag."""
    wrong: list[str] = field(default_factory=list)
    qualities: Counter[str] = field(default_factory=Counter)
    floor: int = 0
    counts: bool = True

    def take(self, samples: Sequence[Sample]) -> None:
        """Check what one poll gave."""
        values: dict[Group, dict[int, Any]] = {}
        before = len(self.wrong)
        for sample in samples:
            self._count(sample)
            for column, value in zip(sample.columns, sample.values, strict=True):
                tag = self.tags[column]
                size = BITS if tag.table in BIT_TABLES else WORDS
                group = (tag.table, tag.register - tag.register % size)
                values.setdefault(group, {})[tag.register] = value
        for group, held in values.items():
            self._check(group, held)
        self.is_whole = sum(map(len, values.values())) == len(self.tags) and len(self.wrong) == before
        self.floor = self.unit.count

    def ends_counting(self) -> None:
        """Go on checking, but let the figures be those of the time until now, and the device not be whole yet."""
        self.counts = self.is_whole = False

    def _count(self, sample: Sample) -> None:
        if not self.counts:
            return
        self.readings += sample.readings
        self.checked += len(sample.values)
        for name, quality in sample.quality.items():
            self.qualities[quality] += sample.readings if name == "*" else 1

    def _check(self, group: Group, held: Mapping[int, Any]) -> None:
        counts = range(self.floor + 1, self.unit.count + 1)
        if any(self._fits(group, held, count) for count in counts):
            return
        first = {at: held[at] for at in sorted(held)[:6]}
        self.wrong.append(f"unit {self.unit.unit_id} {group[0]}:{group[1]} at counts {counts}: {first}")

    def _fits(self, group: Group, held: Mapping[int, Any], count: int) -> bool:
        table, unit = group[0], self.unit.unit_id
        if table in BIT_TABLES:
            return all(bit(unit, table, at, count) == value for at, value in held.items())
        return all(self._expected(table, at, count) == value for at, value in held.items())

    def _expected(self, table: Table, address: int, count: int) -> int:
        unit = self.unit.unit_id
        if address % WORDS:
            return word(unit, table, address, count)
        mark = 0
        for at in range(address, address + 4):
            mark = mark << 16 | word(unit, table, at, count)
        return mark
