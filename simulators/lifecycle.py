"""What is started and stopped, and may be started again at the same place: the part that all servers here share."""

import asyncio
from abc import ABC, abstractmethod
from typing import Self


class Startable(ABC):
    """Runs within `async with`, or between `start` and `stop`; either does nothing where there is nothing to do."""

    def __init__(self) -> None:
        self.is_open = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Be there, at the same place as before.

        Raises:
            OSError: the place is taken, or does not exist.
        """
        if not self.is_open:
            await self._open()
            self.is_open = True

    async def stop(self) -> None:
        """Be gone, as a device is that loses its power: connections end, new ones are refused."""
        if self.is_open:
            self.is_open = False
            await self._close()

    @abstractmethod
    async def _open(self) -> None:
        """Take the place. Raises OSError."""

    @abstractmethod
    async def _close(self) -> None:
        """Give it up, with all that hangs on it."""


class TcpListener(Startable):
    """Listens on a TCP port. Port 0 takes a free one at the first start and keeps it over `stop` and `start`."""

    def __init__(self, host: str, port: int) -> None:
        Startable.__init__(self)  # what else a class is begins by itself
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None

    @abstractmethod
    async def _listen(self) -> asyncio.Server:
        """Begin to listen on `host` and `port`."""

    @abstractmethod
    async def _hang_up(self) -> None:
        """End all connections."""

    async def _open(self) -> None:
        self._server = await self._listen()
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await self._hang_up()
            await server.wait_closed()
