"""Which requests a set of tags leads to: pure arithmetic on register ranges."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.drivers.modbus.address import TABLES, Table
from gateway.drivers.modbus.tag import BIT_TABLES, MAX_BITS, ModbusTag


@dataclass(frozen=True, slots=True)
class Block:
    """One request: `count` registers (or coils) of a table from `start`, and the columns that are found in it."""

    table: Table
    start: int
    count: int
    columns: tuple[int, ...]


def plan(tags: Sequence[ModbusTag], columns: Sequence[int], max_registers: int, max_gap: int) -> tuple[Block, ...]:
    """Merge the tags at these columns into as few blocks as the limits allow; the same input gives the same blocks.

    Every column is in exactly one block and no tag is cut. A block holds at most `max_registers` registers (2000
    coils), a tag that is larger by itself excepted; it reads at most `max_gap` registers in a row that no tag needs.
    Tags that overlap share their registers.
    """
    blocks: list[Block] = []
    for table in TABLES:
        limit = MAX_BITS if table in BIT_TABLES else max_registers
        chosen = [column for column in columns if tags[column].table == table]
        blocks += (cover(tags, run) for run in _runs(tags, _in_order(tags, chosen), limit, max_gap))
    return tuple(blocks)


def cover(tags: Sequence[ModbusTag], columns: Sequence[int]) -> Block:
    """Make the smallest block that holds the tags at these columns, which are of one table."""
    spans = [span(tags[column]) for column in columns]
    start = min(first for first, _ in spans)
    return Block(tags[columns[0]].table, start, max(end for _, end in spans) - start, tuple(columns))


def halves(tags: Sequence[ModbusTag], block: Block) -> tuple[Block, ...]:
    """Split a block in two with about as many ranges each; nothing if all its tags lie in one and the same range."""
    spans = sorted({span(tags[column]) for column in block.columns})
    if len(spans) == 1:
        return ()
    cut = spans[len(spans) // 2]
    lower = [column for column in block.columns if span(tags[column]) < cut]
    upper = [column for column in block.columns if span(tags[column]) >= cut]
    return cover(tags, lower), cover(tags, upper)


def span(tag: ModbusTag) -> tuple[int, int]:
    """Give the registers (or coils) of a tag as a half-open range."""
    return tag.register, tag.register + tag.registers


def _in_order(tags: Sequence[ModbusTag], columns: Sequence[int]) -> list[int]:
    return sorted(columns, key=lambda column: (*span(tags[column]), column))


def _runs(tags: Sequence[ModbusTag], columns: Sequence[int], limit: int, max_gap: int) -> Iterator[list[int]]:
    run: list[int] = []
    start = end = 0
    for column in columns:
        first, last = span(tags[column])
        if run and (first - end > max_gap or max(end, last) - start > limit):
            yield run
            run = []
        if not run:
            start = end = first
        run.append(column)
        end = max(end, last)
    if run:
        yield run
