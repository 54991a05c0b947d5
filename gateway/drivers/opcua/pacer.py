"""The ceiling on requests per second: live reads in order, background work where they leave room."""

import asyncio


class Pacer:
    """Spaces requests evenly. A live request takes the next free turn; a background one a turn that no live one has."""

    def __init__(self, per_second: float) -> None:
        self._spacing_s = 1 / per_second
        self._free_at = 0.0
        self._background = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for the turn of a live request."""
        now = asyncio.get_running_loop().time()
        at = max(now, self._free_at)
        self._free_at = at + self._spacing_s
        if at > now:
            await asyncio.sleep(at - now)

    async def turn_in_background(self) -> None:
        """Wait until no live request wants the turn; background requests stay in order among themselves."""
        loop = asyncio.get_running_loop()
        async with self._background:
            while self._free_at > loop.time():  # noqa: ASYNC110 -- nothing happens at which it could be told
                await asyncio.sleep(self._free_at - loop.time())
            self._free_at = loop.time() + self._spacing_s
