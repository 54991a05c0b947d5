"""A TCP relay in front of a server: it freezes, delays and cuts what the server itself cannot."""

import asyncio
import socket
import struct
from typing import Any

from simulators.lifecycle import TcpListener


class Relay(TcpListener):
    """Listens on a loopback port and passes octets to `target` and back.

    Frozen, it holds what either side sends, the end of a connection too, and passes it on at `resume`: to both
    sides the network looks as if a cable had been pulled. `delay_s` holds each piece on its way to the client.
    `held` and `late` count the pieces that suffered the one and the other.
    """

    def __init__(self, target: tuple[str, int], *, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self.target = target
        self.delay_s = 0.0
        self.connections = 0
        self.held = 0
        self.late = 0
        self._pairs: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def cut(self) -> None:
        """Reset all connections and go on listening."""
        pairs = dict(self._pairs)
        for pair, client in pairs.items():
            _let_reset(client)
            pair.cancel()
        if pairs:
            await asyncio.wait(pairs)

    async def end(self, within_s: float) -> None:
        """Give connections that the server has closed some time to end in order."""
        if self._pairs:
            await asyncio.wait(self._pairs, timeout=within_s)

    def freeze(self) -> None:
        """Pass nothing on; connections stay open."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on again, first what was held."""
        self._flowing.set()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._join, self.host, self.port)

    async def _hang_up(self) -> None:
        await self.cut()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = asyncio.current_task()
        assert pair is not None  # noqa: S101 -- asyncio runs this in a task of its own
        self._pairs[pair] = writer
        self.connections += 1
        try:
            await self._pass(reader, writer)
        except* (OSError, asyncio.CancelledError):
            pass  # one side has gone, or `cut` ends this task: asyncio would log either
        finally:
            self._pairs.pop(pair, None)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(*self.target)
        try:
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(reader, upstream_writer, late=False), name="relay to server")
                pumps.create_task(self._pump(upstream_reader, writer, late=True), name="relay to client")
        finally:
            upstream_writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        while chunk := await reader.read(65536):
            if late and self.delay_s:
                self.late += 1
                await asyncio.sleep(self.delay_s)
            self.held += not self._flowing.is_set()
            await self._flowing.wait()
            writer.write(chunk)
            await writer.drain()
        await self._flowing.wait()
        writer.close()


def _let_reset(client: asyncio.StreamWriter) -> None:
    """Let the end of a connection be a reset, as from a host that knows nothing of it any more."""
    sock = client.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
