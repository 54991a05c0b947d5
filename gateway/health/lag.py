"""How late the event loop runs what is due: what shows that something blocks it."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

TICK_S: Final = 0.5
_REMEMBERED: Final = 120
"""Ticks: a minute."""


class LoopLag:
    """The lateness of the last minute's ticks."""

    def __init__(self) -> None:
        self._lateness: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def worst_s(self) -> float:
        """The worst lateness of the last minute in seconds; 0 before the first tick."""
        return max(self._lateness, default=0.0)

    def note(self, late_s: float) -> None:
        """Remember how late a tick was."""
        self._lateness.append(late_s)


@contextmanager
def ticking(call: Callable[[float], None], interval_s: float = TICK_S) -> Iterator[None]:
    """Call `call` at this interval while the context is open, with the seconds by which the loop was late.

    `call` must be short: it runs in the event loop.
    """
    loop = asyncio.get_running_loop()
    handle: asyncio.TimerHandle

    def tick(due: float) -> None:
        nonlocal handle
        now = loop.time()
        handle = loop.call_at(now + interval_s, tick, now + interval_s)
        call(max(0.0, now - due))

    handle = loop.call_later(interval_s, tick, loop.time() + interval_s)
    try:
        yield
    finally:
        handle.cancel()
