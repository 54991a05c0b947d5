"""Rows as runs of ids, and as many of them as hold some bytes."""

from collections.abc import Iterable
from itertools import accumulate, pairwise

from gateway.buffer.tables import ROW_BYTES, Row


def first_of(rows: list[Row], size: int) -> list[Row]:
    """Give as many of the rows, and no more, as hold `size` bytes together."""
    before = accumulate((row.size + ROW_BYTES for row in rows), initial=0)
    return [row for row, held in zip(rows, before, strict=False) if held < size]


def ranges_of(rows: Iterable[int]) -> list[tuple[int, int]]:
    """Join ids into closed ranges without holes, ascending."""
    ids = sorted(rows)
    breaks = [index for index, (left, right) in enumerate(pairwise(ids), 1) if right != left + 1]
    bounds = [0, *breaks, len(ids)]
    return [(ids[start], ids[end - 1]) for start, end in pairwise(bounds) if start < end]
