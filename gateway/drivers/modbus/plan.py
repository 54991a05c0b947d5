"""Which requests a set of fields leads to: pure arithmetic on register ranges, for the least time of the line."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Protocol

from gateway.drivers.modbus.address import TABLES, Table
from gateway.drivers.modbus.cost import Cost, cost_of
from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.modbus.tag import BIT_TABLES, MAX_REGISTERS

Span = tuple[int, int]
"""Registers (or coils) of a table as a half-open range."""
_Group = tuple[Span, list[int]]
"""A range, and the columns whose fields lie in it."""


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` registers (or coils) of a table from `start`, and the columns that are found in it."""

    table: Table
    start: int
    count: int
    columns: tuple[int, ...]

    @property
    def span(self) -> Span:
        """What is read, as a half-open range."""
        return self.start, self.start + self.count


@dataclass(frozen=True, slots=True)
class Limits:
    """What a block may be: at most so many registers or bits, over so many that no field names; and what it costs."""

    max_registers: int
    max_bits: int
    max_gap: int
    cost: Cost

    def most(self, table: Table) -> int:
        """How many registers (or coils) of a table one request may read."""
        return self.max_bits if table in BIT_TABLES else self.max_registers


class Facts(Protocol):
    """What is known of a unit that concerns its blocks."""

    def most(self, table: Table, configured: int) -> int:
        """Give how many registers (or coils) of a table the unit answers at once."""

    def barriers(self, table: Table) -> Iterable[Span]:
        """Give ranges that the unit refuses: no two fields share a block that holds all of one of them."""


class NothingKnown:
    """Of a unit that was never asked."""

    def most(self, table: Table, configured: int) -> int:
        return configured

    def barriers(self, table: Table) -> Iterable[Span]:
        return ()


NOTHING_KNOWN: Final = NothingKnown()


def limits_of(section: ModbusDevice) -> Limits:
    """Give the limits that a device's config sets."""
    return Limits(section.max_registers, section.max_bits, section.max_gap, cost_of(section))


def plan(
    fields: Sequence[Field], columns: Iterable[int], limits: Limits, known: Facts = NOTHING_KNOWN
) -> tuple[Block, ...]:
    """Merge the fields at these columns into the blocks that keep the line busy for the shortest time.

    The same input gives the same blocks. Every column is in exactly one of them and no field is cut. A field that is
    larger than the limits, or known to be refused, is not left out: it has a block without others.
    """
    chosen: dict[Table, list[int]] = {}
    for column in columns:
        chosen.setdefault(fields[column].table, []).append(column)
    blocks: list[Block] = []
    for table in TABLES:
        if table in chosen:
            groups = _groups(fields, chosen[table])
            starts = _starts([span for span, _ in groups], table, limits, known)
            for first, behind in zip(starts, [*starts[1:], len(groups)], strict=True):
                blocks.append(_merged(fields, groups[first:behind]))
    return tuple(blocks)


def cover(fields: Sequence[Field], columns: Sequence[int]) -> Block:
    """Make the smallest block that holds the fields at these columns, which are of one table."""
    start = min(fields[column].register for column in columns)
    end = max(fields[column].end for column in columns)
    return Block(fields[columns[0]].table, start, end - start, tuple(columns))


def halves(fields: Sequence[Field], block: Block) -> tuple[Block, ...]:
    """Split a block in two smaller ones with about as many ranges each; nothing if one range holds all others."""
    groups = _groups(fields, block.columns)
    if len(groups) == 1:
        return ()
    cut = len(groups) // 2
    return _merged(fields, groups[:cut]), _merged(fields, groups[cut:])


def ranges(fields: Sequence[Field], block: Block) -> int:
    """Count the ranges of a block's fields that do not lie within one another."""
    return len(_groups(fields, block.columns))


def unneeded(fields: Sequence[Field], block: Block) -> int:
    """Count the registers (or coils) of a block that none of its fields needs."""
    needed = {at for column in block.columns for at in range(*fields[column].span)}
    return block.count - len(needed)


def better_gap(fields: Sequence[Field], columns: Sequence[int], limits: Limits) -> tuple[int, tuple[Block, ...]]:
    """Give the smallest `max_gap` with which no other saves more of the line's time, and the blocks it leads to."""
    best_gap, best = limits.max_gap, plan(fields, columns, limits)
    least = total(best, limits.cost)
    for gap in _gaps(fields, columns):
        blocks = plan(fields, columns, replace(limits, max_gap=gap))
        if gap > limits.max_gap and total(blocks, limits.cost) < least:
            best_gap, best, least = gap, blocks, total(blocks, limits.cost)
    return best_gap, best


def total(blocks: Iterable[Block], cost: Cost) -> float:
    """Give for how many seconds the line is busy with these blocks."""
    return cost.seconds((block.table, block.count) for block in blocks)


def _gaps(fields: Sequence[Field], columns: Sequence[int]) -> list[int]:
    """Give the widths of what lies unnamed between fields, ascending, as far as `max_gap` may be set to them."""
    found = set()
    for table in TABLES:
        groups = _groups(fields, [column for column in columns if fields[column].table == table])
        found |= {after[0][0] - before[0][1] for before, after in pairwise(groups)}
    return sorted(gap for gap in found if 0 < gap < MAX_REGISTERS)


def _merged(fields: Sequence[Field], groups: Sequence[_Group]) -> Block:
    return cover(fields, [column for _, held in groups for column in held])


def _groups(fields: Sequence[Field], columns: Iterable[int]) -> list[_Group]:
    """Sort columns by their ranges; those whose range lies within another's go with it, as they cost nothing then.

    The ranges that are left ascend in both their ends.
    """
    groups: list[_Group] = []
    for start, after, column in sorted((fields[column].register, -fields[column].end, column) for column in columns):
        if groups and -after <= groups[-1][0][1]:
            groups[-1][1].append(column)
        else:
            groups.append(((start, -after), [column]))
    return groups


def _starts(spans: Sequence[Span], table: Table, limits: Limits, known: Facts) -> list[int]:
    """Give the positions of the ranges that begin a block, such that the cost of all blocks is the least.

    A block from range i to j costs request + each * (end[j] - start[i]). So the least cost of all up to j is
    request + each * end[j] + min(cost[i - 1] - each * start[i]), over all i that may begin a block with j; as the
    first of these only ever moves up, a queue of candidates gives the minimum in O(1). Of plans that cost the same,
    the one with the shortest last block is taken.
    """
    request, each = limits.cost.sixteenths(table, 0), limits.cost.sixteenths_each(table)
    costs, chosen = [0], []
    candidates: deque[tuple[int, int]] = deque()
    firsts = _firsts(spans, known.most(table, limits.most(table)), limits.max_gap, known.barriers(table))
    for position, ((start, end), first) in enumerate(zip(spans, firsts, strict=True)):
        opening = costs[position] - each * start
        while candidates and candidates[-1][1] >= opening:
            candidates.pop()
        candidates.append((position, opening))
        while candidates[0][0] < first:
            candidates.popleft()
        chosen.append(candidates[0][0])
        costs.append(request + each * end + candidates[0][1])
    starts = []
    position = len(spans)
    while position:
        position = chosen[position - 1]
        starts.append(position)
    return starts[::-1]


def _firsts(spans: Sequence[Span], limit: int, max_gap: int, barriers: Iterable[Span]) -> Iterator[int]:
    """Give, for each range, the first one that may begin a block which it ends: never before that of the last."""
    beginnings = [start for start, _ in spans]
    walls = sorted((end, start) for start, end in barriers)
    first = barred = passed = 0
    for position, (start, end) in enumerate(spans):
        if position and start - spans[position - 1][1] > max_gap:
            first = position
        while end - beginnings[first] > limit and first < position:
            first += 1
        while passed < len(walls) and walls[passed][0] <= end:
            barred = max(barred, bisect_right(beginnings, walls[passed][1]))
            passed += 1
        yield min(position, max(first, barred))
