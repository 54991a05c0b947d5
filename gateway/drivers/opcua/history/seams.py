"""Where the live data of each tag break off and begin again: the holes that the server's history may fill.

Bookmarks are stored in the transaction of the samples that they speak of, in the server's own 100 ns ticks: `at:<tag>`
is the last source timestamp that was taken live; `hole:<begin>-<end>:<tag>` is a hole between two live values, and how
far it is filled; `read:<tag>` are values that were read beside a subscription, which has not come so far yet. A crash
anywhere leaves neither a duplicate nor a hole that nobody knows of.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.types.values import DataValue
from gateway.model import Bookmark

_AT: Final = "at:"
_HOLE: Final = "hole:"
_READ: Final = "read:"
_MOST_READ: Final = 8
"""A subscription soon comes to what was read beside it, and then it is forgotten."""
_TICKS_PER_MS: Final = 10_000
_EPOCH_MS: Final = 11_644_473_600_000
_DAY: Final = 864_000_000_000


class Hole(NamedTuple):
    """What is missing of a tag: values with `begin` < source timestamp < `end`; up to `reached` it is filled."""

    tag: str
    begin: int
    end: int
    reached: int

    @property
    def bookmark(self) -> str:
        """The name under which `reached` is stored."""
        return f"{_HOLE}{self.begin}-{self.end}:{self.tag}"


def holes_of(bookmarks: Mapping[str, Bookmark]) -> list[Hole]:
    """Give the holes that are stored, the oldest first."""
    found = []
    for name, reached in bookmarks.items():
        if name.startswith(_HOLE):
            bounds, _, tag = name.removeprefix(_HOLE).partition(":")
            begin, _, end = bounds.partition("-")
            found.append(Hole(tag, int(begin), int(end), int(reached)))
    return sorted(found, key=lambda hole: hole.reached)


def milliseconds(ticks: int) -> int:
    """Give ticks as ms since the Unix epoch."""
    return ticks // _TICKS_PER_MS - _EPOCH_MS


class Seams:
    """Sees every live value that is to be stored, and finds the holes between them. `opened` is set at each hole.

    At the beginning of a connection every tag's live data are torn: what comes first is not what came next.
    """

    def __init__(self, section: OpcuaDevice, bookmarks: Mapping[str, Bookmark]) -> None:
        self.opened = asyncio.Event()
        self._names = {column: tag.name for column, tag in enumerate(section.tags) if section.history_of(tag)}
        self._at: dict[int, int] = {}
        self._read: dict[int, list[int]] = {}
        self._torn = set(self._names)
        # A clock that once ran far ahead would else keep the tag without history until its time has come.
        latest = (time.time_ns() // 1_000_000 + _EPOCH_MS) * _TICKS_PER_MS + _DAY
        for column, name in self._names.items():
            at = bookmarks.get(_AT + name)
            if isinstance(at, int) and at < latest:
                self._at[column] = at
            if read := bookmarks.get(_READ + name):
                self._read[column] = [int(ticks) for ticks in str(read).split()]
        names = set(self._names.values())
        kept = {name: name.partition(":")[2] for name in bookmarks if name.startswith((_AT, _READ))}
        kept |= {hole.bookmark: hole.tag for hole in holes_of(bookmarks)}
        self.gone: dict[str, Bookmark | None] = {mark: None for mark, tag in kept.items() if tag not in names}
        """Forgets what is stored of tags that are not there any more, or have no history any more."""

    @property
    def watched(self) -> bool:
        """Whether there is a tag whose holes are to be filled."""
        return bool(self._names)

    def tear(self) -> None:
        """Note that live values were lost, or may have been: of each tag, the next is not the one that followed."""
        self._torn = set(self._names)

    def mend(self, columns: Iterable[int]) -> None:
        """Note that the live values of these tags go on where they were: the server had kept them for us."""
        self._torn.difference_update(columns)

    def note(self, readings: Iterable[tuple[int, DataValue]]) -> dict[str, Bookmark | None]:
        """Look at live values (column, value) in their order; give the bookmarks that belong into their transaction.

        A value as old as the last one says that nothing is missing. An older one says nothing: a PLC that has just
        started may date its first values anyhow.
        """
        marks: dict[str, Bookmark | None] = {}
        if not self._names:
            return marks
        for column, value in readings:
            name, ticks = self._names.get(column), value.ticks
            if name is None or ticks is None:
                continue
            at = self._at.get(column)
            if at is not None and ticks < at:
                continue
            if column in self._torn or value.overflowed:
                self._torn.discard(column)
                # Of a tag that was read and never notified, what was read is the last that is known.
                begin = min(self._read.get(column, ()), default=None) if at is None else at
                if begin is not None and begin < ticks:
                    marks |= self._opened(column, begin, ticks)
            if column in self._read:
                marks |= self._keep_read(column, ticks, [])
            if ticks != at:
                self._at[column] = marks[_AT + name] = ticks
        return marks

    def aside(self, readings: Iterable[tuple[int, DataValue]]) -> dict[str, Bookmark | None]:
        """Look at values that are stored though the live ones have not come so far; give the bookmarks as `note`."""
        marks: dict[str, Bookmark | None] = {}
        for column, value in readings:
            if column in self._names and value.ticks is not None and value.ticks not in self._read.get(column, ()):
                marks |= self._keep_read(column, self._at.get(column, 0), [value.ticks])
        return marks

    def _opened(self, column: int, begin: int, end: int) -> dict[str, Bookmark | None]:
        """Give the holes from `begin` to `end`: around the values that were read in between."""
        ends = [*sorted(ticks for ticks in self._read.get(column, ()) if begin < ticks < end), end]
        holes = [
            Hole(self._names[column], *pair, pair[0]) for pair in pairwise([begin, *ends]) if pair[1] - pair[0] > 1
        ]
        if holes:
            self.opened.set()
        return {hole.bookmark: hole.reached for hole in holes}

    def _keep_read(self, column: int, at: int, more: list[int]) -> dict[str, Bookmark | None]:
        """Remember what was read and lies beyond `at`."""
        before = self._read.get(column, [])
        after = sorted(ticks for ticks in [*before, *more] if ticks > at)[-_MOST_READ:]
        if after == before:
            return {}
        self._read[column] = after
        if not after:
            del self._read[column]
        return {_READ + self._names[column]: " ".join(map(str, after)) or None}
