"""Several tags' histories, read page by page, merged into one ascending stream. Decides, and asks nobody."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.opcua.history.seams import Hole
from gateway.drivers.opcua.types.values import DataValue
from gateway.model import Bookmark

_ALIKE: Final = 10_000_000
"""One request has one time range for all its nodes: only holes whose ends are within this (1 s) share it."""
_NO_VALUES: Final = frozenset({StatusCodes.BadBoundNotFound, StatusCodes.BadBoundNotSupported})
_WHOLE_STATUS: Final = 0xFFFF_0000


@dataclass(slots=True, eq=False)
class Track:
    """How far one hole is read. `position` is the last timestamp that the server gave, `more` whether it has more."""

    hole: Hole
    position: int
    last: int
    more: bool = True
    continuation: bytes = b""
    held: deque[DataValue] = field(default_factory=deque)
    missing_until: int | None = None
    looked: bool = False

    @classmethod
    def of(cls, hole: Hole) -> "Track":
        """Begin where the hole is not filled yet."""
        return cls(hole, hole.reached, hole.reached)

    def add(self, values: Sequence[DataValue], continuation: bytes, most: int) -> bool:
        """Take a page of at most `most` values. False: it was full, and yet led no further.

        Bounds, what is stored already and a second value with the same timestamp are left out.
        """
        before = self.position
        page = [(value.ticks, value) for value in values if value.ticks is not None]
        page.sort(key=lambda each: each[0])
        if not self.looked:
            self._look(page)
        for ticks, value in page:
            self.position = max(self.position, ticks)
            if self.last < ticks < self.hole.end and value.status & _WHOLE_STATUS not in _NO_VALUES:
                self.last = ticks
                self.held.append(value)
        self.continuation = continuation
        # Some servers cut an answer to the asked number of values and give no continuation point.
        self.more = (bool(continuation) or len(values) >= most) and self.position < self.hole.end
        return not self.more or bool(continuation) or self.position > before

    def _look(self, page: list[tuple[int, DataValue]]) -> None:
        """See by the first page whether the history reaches back to the hole's beginning.

        It does if it has the value before the hole: that last live one, or the bound which the request asks for.
        """
        self.looked = True
        begin, end = self.hole.begin, self.hole.end
        if self.hole.reached != begin:
            return
        statuses = {value.status & _WHOLE_STATUS for _, value in page}
        real = [ticks for ticks, value in page if value.status & _WHOLE_STATUS not in _NO_VALUES]
        if StatusCodes.BadBoundNotSupported not in statuses and not any(ticks <= begin for ticks in real):
            self.missing_until = min([end, *real])


class Merge:
    """Fills a group of holes together. What it holds is bounded: a page of each hole."""

    def __init__(self, holes: Sequence[Hole]) -> None:
        self._tracks = [Track.of(hole) for hole in holes]

    @property
    def horizon(self) -> int:
        """All that is not younger than this is known."""
        ends = (track.hole.end for track in self._tracks)
        return min((track.position for track in self._tracks if track.more), default=max(ends, default=0))

    def asks(self) -> list[Track]:
        """Give the holes that the server is to be asked about next: those that hold up the others."""
        horizon = self.horizon
        return [track for track in self._tracks if track.more and track.position <= horizon]

    def drop(self, track: Track) -> None:
        """Go on without this hole."""
        self._tracks.remove(track)

    def take(self) -> tuple[list[tuple[str, DataValue]], dict[str, Bookmark | None], list[tuple[str, int, int]]]:
        """Give what may be stored now: values by tag, the bookmarks, and what the history does not have of which tag.

        Nothing that comes later is older.
        """
        horizon = self.horizon
        values: list[tuple[str, DataValue]] = []
        marks: dict[str, Bookmark | None] = {}
        missing: list[tuple[str, int, int]] = []
        for track in list(self._tracks):
            hole, held = track.hole, track.held
            while held and (held[0].ticks or 0) <= horizon:
                values.append((hole.tag, held.popleft()))
            if not track.more and not held:
                marks[hole.bookmark] = None
                self._tracks.remove(track)
            elif horizon > hole.begin:
                marks[hole.bookmark] = max(hole.reached, min(horizon, hole.end - 1))
            if track.missing_until is not None and hole.bookmark in marks:
                missing.append((hole.tag, hole.begin, track.missing_until))
                track.missing_until = None
        return values, marks, missing


def grouped(holes: Sequence[Hole], most: int) -> list[list[Hole]]:
    """Put holes that begin and end together into groups of `most` at most, the oldest first."""
    groups: list[list[Hole]] = []
    for hole in sorted(holes, key=lambda each: (each.reached, each.end)):
        for group in groups[-most:]:
            first = group[0]
            near = hole.reached - first.reached <= _ALIKE and abs(hole.end - first.end) <= _ALIKE
            if near and len(group) < most and all(hole.tag != other.tag for other in group):
                group.append(hole)
                break
        else:
            groups.append([hole])
    return groups
