"""An HTTP proxy for tests: CONNECT only, with or without a login; it goes silent when a test says so."""

import asyncio
import base64
import contextlib
from types import TracebackType
from typing import Self


class ConnectProxy:
    """Passes on what clients ask for by CONNECT; `requests` holds the heads, `passed` all octets towards the broker.

    `status` other than 200 refuses. `names` maps a host's name to where it is really to be found, as a proxy's own
    DNS does.
    """

    def __init__(self, *, login: str | None = None, status: str = "200 Connection established") -> None:
        self.requests: list[str] = []
        self.passed = bytearray()
        self.names: dict[str, str] = {}
        self._login = login
        self._status = status
        self._writers: list[asyncio.StreamWriter] = []
        self._speaks = asyncio.Event()
        self._speaks.set()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Pass nothing on, either way, and leave the connections open: a link that is dead, and nobody was told."""
        self._speaks.clear()

    def speak(self) -> None:
        """Pass on again; what is left of the old connections is dropped."""
        for writer in self._writers:
            writer.transport.abort()
        self._speaks.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await self._speaks.wait()
        self.requests.append(head)
        status = self._status if self._may(head) else "407 Proxy Authentication Required"
        if not status.startswith("200"):
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        host, _, port = head.split()[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(self.names.get(host, host), int(port))
        self._writers.append(far_writer)
        writer.write(f"HTTP/1.1 {status}\r\nVia: 1.1 plant\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, far_writer, self.passed))
                group.create_task(self._pass(far_reader, writer, bytearray()))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: bytearray) -> None:
        while octets := await reader.read(65536):
            await self._speaks.wait()
            seen += octets
            writer.write(octets)
            await writer.drain()
        writer.close()

    def _may(self, head: str) -> bool:
        if self._login is None:
            return True
        return f"Proxy-Authorization: Basic {base64.b64encode(self._login.encode()).decode()}\r\n" in head
