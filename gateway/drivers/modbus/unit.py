"""What a link knows of each unit behind it: whether it answers, how slowly, and when it needs the line. No I/O.

Times are monotonic seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import Final

LATE_S: Final = 1.0
"""A poll that is due is waited for so long."""
BUSY_S: Final = 0.25
"""A unit in the middle of a poll is waited for so long, from one of its requests to the next."""
GONE_S: Final = 10.0
"""A live unit which nobody has asked for so long, and nobody will by what is known, needs no protection."""
TOLERATED_FAULTS: Final = 5
"""So many wrong answers or lost connections in a row, and a unit counts as silent. They cost the others little time, so
a few of them are no reason to leave the unit's own tags without values."""


@dataclass(slots=True, eq=False)
class Unit:
    """What a link knows of a unit. `misses` are the requests in a row without an answer."""

    number: int
    live: bool = False
    misses: int = 0
    faults: int = 0
    due: float = -inf
    busy_until: float = -inf
    """Until when it counts as in the middle of a poll; -inf between two."""
    asked_at: float = -inf
    slowest: float = 0.0
    """Its slowest answer, in seconds."""
    hold_until: float = -inf
    """It is not asked before: an answer to an earlier request could still come, and be taken for the next one's."""
    load: float = 0.0

    @property
    def is_new(self) -> bool:
        """Whether it has never been asked to the end."""
        return not self.live and not self.misses

    def expect(self, due: float, now: float) -> None:
        """Note that a poll begins now, and when the next is due."""
        self.due, self.busy_until = due, now + BUSY_S

    def ask(self, timeout: float, now: float) -> None:
        """Note that it is asked now."""
        self.asked_at, self.busy_until = now, now + timeout + BUSY_S

    def answered(self, took: float, now: float) -> None:
        """Note an answer, which came after so many seconds."""
        self.live, self.misses, self.faults = True, 0, 0
        self.asked_at, self.busy_until = now, now + BUSY_S
        self.slowest = max(self.slowest, took)

    def missed(self) -> None:
        """Note that no answer came, or that a gateway says so."""
        self.live, self.misses = False, self.misses + 1

    def failed(self) -> None:
        """Note a wrong answer, or a connection lost over its request: what harms others must not come often."""
        self.faults += 1
        if self.faults >= TOLERATED_FAULTS:
            self.missed()

    def needs_protection(self, now: float) -> bool:
        """Whether others have to wait for its sake."""
        return self.live and max(self.due, self.asked_at) > now - GONE_S

    def wanted_at(self, now: float) -> float:
        """When it needs the line next: now, in the middle of a poll; inf if nobody knows."""
        if self.busy_until > now:
            return now
        return self.due if self.due > now - LATE_S else inf


def load(units: Iterable[Unit]) -> float:
    """Give the share of the line's time that units need, by their last polls."""
    return sum(unit.load for unit in units)
