"""Which broker's turn it is, where there are several, and when to go back to one that is preferred."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from typing import Final

from gateway.errors import GatewayError
from gateway.publisher.dial import open_way
from gateway.publisher.way import Way

FIRST_LOOK_S: Final = 300.0
LONGEST_LOOK_S: Final = 3600.0
_TIMEOUT_S: Final = 10.0


class Preference:
    """Brokers in order of preference, each tried once in turn; after a session, the first again.

    While one of less preference serves, the better ones are looked for every `first_look` seconds, and half as often
    after each return that came to nothing.
    """

    def __init__(self, ways: Sequence[Way], first_look: float = FIRST_LOOK_S) -> None:
        self._ways = ways
        self._first_look = self._look = first_look
        self._turn = 0

    def next(self) -> Way:
        """Give the broker to try now."""
        way = self._ways[self._turn]
        self._turn = (self._turn + 1) % len(self._ways)
        return way

    def serves(self, way: Way) -> None:
        """A broker took the session."""
        self._turn = 0
        if way is self._ways[0]:
            self._look = self._first_look

    def better_than(self, way: Way) -> Sequence[Way]:
        """Give the brokers that are preferred to this one."""
        return self._ways[: self._ways.index(way)]

    async def until_back(self, way: Way) -> Way:
        """Wait until a broker that is preferred to this one can be reached, as far as its certificate; gives it."""
        while True:
            await asyncio.sleep(self._look)
            for better in self.better_than(way):
                if await _answers(better):
                    self._look = min(LONGEST_LOOK_S, 2 * self._look)
                    return better


async def _answers(way: Way) -> bool:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()

    def tell(*, reached: bool) -> None:
        if not answered.done():
            answered.set_result(reached)

    def look() -> None:
        reached = False
        with contextlib.suppress(OSError, ValueError, GatewayError):
            open_way(way, _TIMEOUT_S).close()
            reached = True
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(lambda: tell(reached=reached))

    # A thread of its own, which the program's end does not wait for: a name server may take a minute.
    threading.Thread(target=look, name="mqtt look", daemon=True).start()
    return await answered
