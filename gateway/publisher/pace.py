"""How fast messages may go to the broker: what the config allows, or less once the broker found that too much."""

import asyncio
from collections import deque
from typing import Final

from gateway.publisher.quota import Quota
from gateway.publisher.window import Priority

_BURST_S: Final = 0.05
"""What was not used in the last instant may be made up for; without it, timers that are late would cost throughput."""
_SHARE: Final = 10
"""While both lanes wait, one message in so many is of the backlog: it drains however much live data there is."""
UNLIMITED: Final = float("inf")


class Allowance:
    """So much a second, of messages or of octets; `now` is any clock in seconds.

    What is larger than the allowance of an instant goes all the same, and the next waits the longer for it.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._spent_until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until something may go; zero or less: now."""
        return self._spent_until - now

    def take(self, amount: float, now: float, unit: float) -> None:
        """Use `amount`, of which `unit` is what may always go at once."""
        earliest = now - max(0.0, _BURST_S - unit / self.per_second)
        self._spent_until = max(self._spent_until, earliest) + amount / self.per_second


class Pace:
    """Lets messages go one after the other: announcements first, then live data, then the backlog.

    `messages` and `octets` are how many may go a second; None: no limit. `quota` may allow fewer messages than that.
    """

    def __init__(self, messages: float | None, octets: float | None, quota: Quota | None = None) -> None:
        self.quota = quota or Quota()
        self._most = messages or UNLIMITED
        self._messages = Allowance(self._most)
        self._octets = Allowance(octets or UNLIMITED)
        self._waiting: dict[Priority, deque[tuple[int, asyncio.Future[None]]]] = {one: deque() for one in Priority}
        self._timer: asyncio.TimerHandle | None = None
        self._in_a_row = 0

    async def admit(self, priority: Priority, octets: int) -> None:
        """Wait until a message of so many octets may go."""
        if self._is_free and not any(self._waiting.values()):
            self.quota.sent(asyncio.get_running_loop().time())
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[priority].append((octets, turn))
        self._serve()
        await turn

    @property
    def _is_free(self) -> bool:
        return self._most == self._octets.per_second == UNLIMITED and self.quota.limit is None

    def _serve(self) -> None:
        """Let go who may, and come back when the next may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        while any(self._waiting.values()):
            now = loop.time()
            self._messages.per_second = min(self._most, self.quota.now_allowed(now) or UNLIMITED)
            wait = max(self._messages.wait(now), self._octets.wait(now))
            if wait > 0:
                self._timer = loop.call_later(wait, self._serve)
                return
            octets, turn = self._waiting[self._next()].popleft()
            if not turn.done():
                self._messages.take(1, now, 1)
                self._octets.take(octets, now, octets)
                self.quota.sent(now)
                turn.set_result(None)

    def _next(self) -> Priority:
        """Say whose turn it is: in the order of precedence, but for the backlog's share."""
        waiting = [priority for priority in Priority if self._waiting[priority]]
        turn = waiting[0]
        if turn is Priority.LIVE and Priority.BACKLOG in waiting:
            self._in_a_row += 1
            if self._in_a_row == _SHARE:
                turn = Priority.BACKLOG
        if turn is Priority.BACKLOG:
            self._in_a_row = 0
        return turn
