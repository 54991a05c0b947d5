"""When to try again what the server would not monitor: soon at first where a node vanished, then slower and slower."""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_QUICK_S: Final = (1.0, 2.0, *(4.0,) * 15)
"""A node that vanished is often back within a minute, when a PLC's program has been loaded."""
_SLOW_S: Final = 10.0
_SLOWEST_S: Final = 300.0
_JITTER: Final = 0.2
_PROBES: Final = 100
"""Of so many tags that are due, these tell whether it is worth asking for the others too."""


@dataclass(slots=True)
class _Retry:
    due: float
    status: str
    tries: int = 0
    quick: bool = False

    def again(self, now: float) -> None:
        if self.quick and self.tries < len(_QUICK_S):
            pause = _QUICK_S[self.tries]
        else:
            slow = self.tries - (len(_QUICK_S) if self.quick else 0)
            pause = min(_SLOW_S * 2**slow, _SLOWEST_S)
        self.tries += 1
        self.due = now + pause * (1 - _JITTER * random.random())  # noqa: S311 -- jitter is no secret


class Retries:
    """The tags that are not monitored, and when each is tried again. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Retry] = {}
        self._behind: list[int] = []

    @property
    def next(self) -> float:
        """When the next tag is due; infinite if none waits."""
        return min((retry.due for retry in self._waiting.values()), default=float("inf"))

    def __len__(self) -> int:
        """How many tags are not monitored."""
        return len(self._waiting)

    def wait(self, column: int, status: str, now: float, *, quick: bool = False) -> bool:
        """Note that a tag is not monitored; whether that, or its status, is news. `quick` for a node that vanished."""
        known = self._waiting.get(column)
        if known is None:
            known = self._waiting[column] = _Retry(now, status, quick=quick)
            known.again(now)
            return True
        is_news, known.status = known.status != status, status
        return is_news

    def good(self, columns: Iterable[int]) -> None:
        """Note that these tags give values."""
        if self._waiting:
            for column in columns:
                self._waiting.pop(column, None)

    def take(self, now: float) -> list[int]:
        """Give the tags that are to be tried now; those that wait behind them are put off with them."""
        due = [column for column, retry in self._waiting.items() if retry.due <= now]
        for column in due:
            self._waiting[column].again(now)
        if due:
            self._behind = due[_PROBES:]
        return due[:_PROBES]

    def hurry(self, now: float) -> None:
        """One that was tried came good: those behind it are worth asking for at once."""
        for column in self._behind:
            if column in self._waiting:
                self._waiting[column].due = now
