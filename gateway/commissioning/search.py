"""Which registers of a table are asked for next, to find those that a device has: pure decisions, no I/O.

A device refuses a block for one register in it that it does not have. So what is refused is halved, down to single
registers. There are too many to find out about each; what is likely comes first:

- what touches registers that were found, since devices have theirs in groups;
- then what is larger, where a block that begins at a round number counts as if it were larger still: makers begin
  their groups at 0, at thousands, at hundreds.

Blocks are cut at even numbers, as there are devices that do not answer half of a two-register value.
"""

import itertools
import math
from typing import Final

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.tag import BIT_TABLES

Span = tuple[int, int]
"""Registers (or coils) as a half-open range."""

DEFAULT_LAST: Final = 9999
"""The last register of the classic five-digit notation (49999): most devices have theirs below it."""
_BLOCK: Final = 100
_BLOCK_OF_BITS: Final = 2000
_ROUND: Final = ((1000, 8.0), (100, 1.5))
"""By how many halvings a block that begins at a multiple comes before its turn."""
_ZERO: Final = 10.0


class Search:
    """The state of a search in one table: what was found, and what is still to be asked for.

    `ended` says why nothing more is asked, though there is something; empty while it goes on.
    """

    def __init__(self, table: Table, first: int, last: int) -> None:
        self.table = table
        self.ended = ""
        self._most = _BLOCK_OF_BITS if table in BIT_TABLES else _BLOCK
        edges = [first, *range((first // self._most + 1) * self._most, last + 1, self._most), last + 1]
        self._open = list(itertools.pairwise(edges))
        self._found: list[Span] = []
        self._sibling: dict[Span, Span] = {}
        self._answered: set[Span] = set()

    def next(self) -> Span | None:
        """Give what to ask for; None if there is nothing more."""
        if self.ended or not self._open:
            return None
        span = min(self._open, key=self._rank)
        self._open.remove(span)
        while span[1] - span[0] > self._most:
            span, rest = _halves(span)
            self._open.append(rest)
        return span

    def answered(self, span: Span) -> None:
        """Note that the device has all of a block.

        If it had refused this block and its other half together, and has both: then it does not answer so many.
        """
        self._answered.add(span)
        self._found = _merged([*self._found, span])
        sibling = self._sibling.get(span)
        if sibling in self._answered and sibling is not None:
            self._most = min(self._most, max(span[1] - span[0], sibling[1] - sibling[0]))

    def refused(self, span: Span) -> None:
        """Note that the device does not have all of a block: its halves are to be asked for."""
        if span[1] - span[0] > 1:
            lower, upper = _halves(span)
            self._sibling |= {lower: upper, upper: lower}
            self._open += [lower, upper]

    def postponed(self, span: Span) -> None:
        """Note that nothing was learned: it is to be asked for again."""
        self._open.append(span)

    def end(self, why: str) -> None:
        """Ask for nothing more."""
        self.ended = why

    @property
    def found(self) -> tuple[Span, ...]:
        """What the device has, as far as it was found."""
        return tuple(self._found)

    @property
    def unasked(self) -> tuple[Span, ...]:
        """What is not known: refused as a part of something larger, or never asked for."""
        return tuple(_merged(self._open))

    def _rank(self, span: Span) -> tuple[bool, float, int]:
        start, end = span
        touches = any(end == found[0] or start == found[1] for found in self._found)
        return not touches, -math.log2(end - start) - _bonus(start), start


def _bonus(start: int) -> float:
    if start == 0:
        return _ZERO
    return next((bonus for multiple, bonus in _ROUND if start % multiple == 0), 0.0)


def _halves(span: Span) -> tuple[Span, Span]:
    start, end = span
    middle = start + (end - start + 1) // 2
    if end - start > 2 and middle % 2:
        middle += 1
    return (start, middle), (middle, end)


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
