"""The sliding window: how many messages may be on their way, and who gets the next place."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from enum import IntEnum


class Priority(IntEnum):
    """Who sends, in the order of precedence."""

    CONTROL = 0
    LIVE = 1
    BACKLOG = 2


class Window:
    """Places for messages on their way; `size` is the smaller of our own limit and the broker's Receive Maximum.

    A place is taken from the publish until the PUBACK is in, and for data until the deletion of its rows is on
    disk, so that a crash resends at most `size` messages. The backlog leaves a tenth of the places, at least one,
    to the others, so that a fresh reading never waits for an old one's round trip. `admit` waits, before that, until
    the rate allows a message of so many octets.
    """

    def __init__(
        self,
        size: int,
        observe: Callable[[int], None] = lambda in_use: None,
        admit: Callable[[Priority, int], Awaitable[None]] | None = None,
    ) -> None:
        self.size = size
        self._admit = admit
        self._reserve = max(1, size // 10) if size > 1 else 0
        self._in_use = 0
        self._observe = observe
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._tight = asyncio.Event()
        self._empty = asyncio.Event()
        self._count(0)

    def resize(self, size: int) -> None:
        """Have another number of places from now on."""
        self.size = size
        self._reserve = max(1, size // 10) if size > 1 else 0
        self.release(0)

    @property
    def is_tight(self) -> bool:
        """Whether half of the places or fewer are free: time to hurry with what holds them."""
        return self._tight.is_set()

    async def acquire(self, priority: Priority, octets: int = 0) -> None:
        """Take a place for a message of so many octets; waits for one if need be."""
        if self._admit is not None:
            await self._admit(priority, octets)
        if not any(self._waiting[other] for other in Priority if other <= priority) and self._has_place(priority):
            self._count(+1)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[priority].append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self, places: int = 1) -> None:
        """Give places back."""
        self._count(-places)
        for priority in Priority:
            turns = self._waiting[priority]
            while turns and self._has_place(priority):
                turn = turns.popleft()
                if not turn.done():
                    turn.set_result(None)
                    self._count(+1)

    async def until_tight(self) -> None:
        """Wait until half of the places are taken."""
        await self._tight.wait()

    async def until_empty(self) -> None:
        """Wait until nothing is on its way."""
        await self._empty.wait()

    def _has_place(self, priority: Priority) -> bool:
        return self._in_use < self.size - (self._reserve if priority is Priority.BACKLOG else 0)

    def _count(self, change: int) -> None:
        self._in_use += change
        _set(self._tight, self._in_use * 2 >= self.size)
        _set(self._empty, self._in_use == 0)
        self._observe(self._in_use)


def _set(event: asyncio.Event, state: bool) -> None:
    if state:
        event.set()
    else:
        event.clear()
