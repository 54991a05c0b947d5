"""Topics that the broker refuses: held back for a while, then tried again."""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Final

FIRST_S: Final = 5.0
LONGEST_S: Final = 60.0


class Holds:
    """Which topics wait, and until when: 5 s after the first refusal, doubling to 60 s.

    `retry` is called when a topic's time is over.
    """

    def __init__(self, retry: Callable[[], None], *, first: float = FIRST_S, longest: float = LONGEST_S) -> None:
        self._retry = retry
        self._first, self._longest = first, longest
        self._delays: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._paused: set[str] = set()

    @property
    def topics(self) -> AbstractSet[str]:
        """The topics that wait."""
        return self._timers.keys() | self._paused

    def pause(self, topic: str) -> None:
        """Let a topic wait until `resume` or `hold`."""
        self._paused.add(topic)

    def resume(self, topic: str) -> None:
        """End a pause."""
        self._paused.discard(topic)

    def hold(self, topic: str) -> None:
        """Hold a topic back; one that waits already goes on waiting."""
        self._paused.discard(topic)
        if topic in self._timers:
            return
        delay = self._delays[topic] = self.delay(topic)
        self._timers[topic] = asyncio.get_running_loop().call_later(delay, self._end, topic)

    def delay(self, topic: str) -> float:
        """How long the next refusal of a topic would hold it back, in seconds."""
        return min(self._longest, 2 * self._delays[topic]) if topic in self._delays else self._first

    def accept(self, topic: str) -> None:
        """Forget that a topic was ever refused."""
        self._delays.pop(topic, None)

    def close(self) -> None:
        """Stop all timers."""
        for timer in self._timers.values():
            timer.cancel()

    def _end(self, topic: str) -> None:
        del self._timers[topic]
        self._retry()
