"""A Modbus TCP server at the wire, for tests: what it answers to each request is the test's own bytes."""

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gateway.drivers.modbus.link import ModbusLink
from gateway.drivers.modbus.section import ModbusTcpDevice

GENEROUS_S = 30.0
"""No test waits that long unless something is wrong."""
T = TypeVar("T")


async def within(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, GENEROUS_S)


@dataclass
class Request:
    """A read request as it came over the wire, and the connection to answer on."""

    transaction: int
    unit: int
    function: int
    start: int
    count: int
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def reset(self) -> None:
        """Close so that the client gets a RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def frame(self, pdu: bytes, *, transaction: int | None = None, unit: int | None = None, protocol: int = 0) -> bytes:
        number = self.transaction if transaction is None else transaction
        return struct.pack(">HHHB", number, protocol, len(pdu) + 1, self.unit if unit is None else unit) + pdu

    def good(self, *registers: int, **header: int) -> bytes:
        """Frame the registers; without any, each register holds its own number."""
        values = registers or range(self.start, self.start + self.count)
        body = b"".join(struct.pack(">H", value & 0xFFFF) for value in values)
        return self.frame(bytes((self.function, len(body))) + body, **header)

    def refused(self, code: int) -> bytes:
        return self.frame(bytes((self.function | 0x80, code)))


Script = Callable[[Request], None]


class Peer:
    """Counts connections and keeps all requests; `script` decides about each and may be changed at any time."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.requests: list[Request] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self._asked = asyncio.Condition()
        self._serving: set[asyncio.Task[None] | None] = set()

    async def asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self._asked:
            await within(self._asked.wait_for(lambda: len(self.requests) >= count))

    async def idle(self) -> None:
        """Wait until all connections are closed."""
        await asyncio.gather(*filter(None, self._serving))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readexactly(7)
                transaction, _, length, unit = struct.unpack(">HHHB", head)
                function, start, count = struct.unpack(">BHH", await reader.readexactly(length - 1))
                request = Request(transaction, unit, function, start, count, writer)
                async with self._asked:
                    self.requests.append(request)
                    self._asked.notify_all()
                self.script(request)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed.set()
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script = lambda request: request.send(request.good())) -> AsyncIterator[Peer]:
    peer = Peer(script)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for request in peer.requests:
            request.writer.transport.abort()
        await within(server.wait_closed())


@contextmanager
def closed_port() -> Iterator[int]:
    """Give a port that refuses connections: bound, but nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def open_files() -> set[int]:
    return {int(link.name) for link in Path("/proc/self/fd").iterdir()}


def client_socket(port: int) -> socket.socket:
    """Find this process's socket that is connected to a port."""
    for number in filter(is_socket, open_files()):
        candidate = socket.socket(fileno=os.dup(number))
        with contextlib.suppress(OSError):
            if candidate.family == socket.AF_INET and candidate.getpeername()[1] == port:
                return candidate
        candidate.close()
    raise AssertionError("no such socket")


def is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False


def device(port: int, tags: Sequence[dict[str, Any]], **keys: Any) -> ModbusTcpDevice:
    section = {"name": "press-1", "protocol": "modbus-tcp", "host": "127.0.0.1", "port": port, "timeout": "20s"}
    return ModbusTcpDevice.model_validate({**section, **keys, "tags": tags})


def link_to(port: int, **keys: Any) -> ModbusLink:
    """Make a link of its own to a port."""
    return ModbusLink(device(port, [], **keys))


def words(*starts: int) -> list[dict[str, Any]]:
    """Make a uint16 tag for each register, named r0, r1, ..."""
    return [{"name": f"r{start}", "address": f"holding:{start}", "type": "uint16"} for start in starts]
