"""Which tags are due when: a fixed rate on the monotonic clock, late cycles skipped and counted, never piled up."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

TOLERANCE_S: Final = 0.001
"""Groups that come due this close to each other are read in one poll."""
LONGEST_SPREAD_S: Final = 1.0
"""What a device waits at most for its turn, however long its interval is."""


def spread(lines: Sequence[Hashable]) -> list[float]:
    """Give each device its phase, from 0 to below 1, so that they are not all read in one instant.

    `lines` names the line of each device. Those of one line follow each other evenly in their order, and lines take
    turns in between. Without shared lines, device k of n has phase k/n. The same lines give the same phases.
    """
    devices = Counter(lines)
    order = {line: number for number, line in enumerate(devices)}
    before: Counter[Hashable] = Counter()
    phases = []
    for line in lines:
        phases.append((before[line] + order[line] / len(devices)) / devices[line])
        before[line] += 1
    return phases


def first_slot(now: float, origin: float, interval: float, phase: float) -> float:
    """Give the slot with which a device begins that is connected at `now`, and has a slot in each interval.

    Slots lie in the first half of each interval counted from `origin`, at most LONGEST_SPREAD_S after its begin: on
    a line the other half is free. A slot that is near is waited for; else the one before is made up for at once.
    """
    window = min(interval / 2, LONGEST_SPREAD_S)
    slot = origin + phase * window
    slot += math.floor((now - slot) / interval) * interval
    return slot + interval if slot + interval - now <= window else slot


@dataclass(slots=True)
class _Group:
    start: float
    interval: float
    columns: tuple[int, ...]
    cycle: int = 0

    @property
    def due(self) -> float:
        # Multiplied, not added up: a sum of floats would drift, and groups would come apart.
        return self.start + self.cycle * self.interval

    def serve(self, now: float) -> int:
        """Move on to the first slot after `now`; give how many slots had to be left out before it."""
        # A slot that begins just now is served by this poll too: another one would only read the same again.
        tolerance = min(TOLERANCE_S, self.interval / 2)
        left_out = max(0, int((now + tolerance - self.due) / self.interval))
        self.cycle += left_out + 1
        return left_out


@dataclass(frozen=True, slots=True)
class Due:
    """The tags to read now, by their positions, ascending; and how many cycles had to be left out before."""

    columns: tuple[int, ...]
    skipped: int


class Schedule:
    """Due times of one device's tags, grouped by interval. All times are monotonic seconds.

    Groups start together, so that intervals which divide each other are read in one poll.
    """

    def __init__(self, intervals: Sequence[float], start: float) -> None:
        by_interval: dict[float, list[int]] = {}
        for column, interval in enumerate(intervals):
            by_interval.setdefault(interval, []).append(column)
        self._groups = [_Group(start, interval, tuple(columns)) for interval, columns in by_interval.items()]
        # The same combination of groups gives the same tuple object: read plans are cached by it.
        self._columns: dict[tuple[float, ...], tuple[int, ...]] = {}

    @property
    def next(self) -> float:
        """When the next tags are due."""
        return min(group.due for group in self._groups)

    def take(self, now: float) -> Due:
        """Give what is due at `now` and move on. Slots that passed while the last poll ran are skipped."""
        slot = self.next
        due = [group for group in self._groups if group.due <= max(now, slot) + TOLERANCE_S]
        return Due(self._merged(due), sum(group.serve(now) for group in due))

    def _merged(self, due: list[_Group]) -> tuple[int, ...]:
        key = tuple(group.interval for group in due)
        if key not in self._columns:
            self._columns[key] = tuple(sorted(column for group in due for column in group.columns))
        return self._columns[key]
