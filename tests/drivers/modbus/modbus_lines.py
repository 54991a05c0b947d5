"""The other ends of every transport, for tests: what they answer to each request is the test's own bytes."""

import asyncio
import os
import ssl
import struct
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from modbus_peer import within

from gateway.drivers.modbus.framing import crc
from gateway.drivers.modbus.link import ModbusLink
from gateway.drivers.modbus.section import (
    ModbusDevice,
    ModbusRtuDevice,
    ModbusRtuOverTcpDevice,
    ModbusTlsDevice,
    ModbusUdpDevice,
)

REQUEST_LENGTH = 8
"""Of a request to read, framed as RTU."""


@dataclass
class Asked:
    """A read request that came over a serial line, and the way to answer it."""

    unit: int
    function: int
    start: int
    count: int
    frame: bytes
    at: float
    send: Callable[[bytes], None]

    def good(self, *registers: int, unit: int | None = None) -> bytes:
        """Frame registers; without any, each register holds its own number."""
        values = registers or tuple(range(self.start, self.start + self.count))
        body = b"".join(struct.pack(">H", value & 0xFFFF) for value in values)
        return framed(self.unit if unit is None else unit, bytes((self.function, len(body))) + body)


def framed(unit: int, pdu: bytes) -> bytes:
    frame = bytes((unit,)) + pdu
    return frame + crc(frame)


Script = Callable[[Asked], None]


def answer(asked: Asked) -> None:
    asked.send(asked.good())


@dataclass
class Slaves:
    """What is at the end of a serial line: `script` answers, and may be changed at any time."""

    script: Script = answer
    asked: list[Asked] = field(default_factory=list)
    unread: bytes = b""
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, data: bytes, send: Callable[[bytes], None]) -> None:
        """Take bytes off the line; each whole request is answered by the script."""
        self.unread += data
        while len(self.unread) >= REQUEST_LENGTH:
            frame, self.unread = self.unread[:REQUEST_LENGTH], self.unread[REQUEST_LENGTH:]
            assert crc(frame[:-2]) == frame[-2:], "a request is whole, and begins where one should"
            unit, function, start, count = struct.unpack(">BBHH", frame[:-2])
            request = Asked(unit, function, start, count, frame, asyncio.get_running_loop().time(), send)
            self.asked.append(request)
            self.came.set()
            self.script(request)

    async def until_asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        while len(self.asked) < count:
            self.came.clear()
            await within(self.came.wait())


class Pty(Slaves):
    """Slaves on a pseudo-terminal: `plug` gives it a name in a folder, `unplug` hangs up."""

    def __init__(self, port: Path) -> None:
        super().__init__()
        self.port = port
        self._master = -1

    def plug(self) -> None:
        """Appear, as an adapter does that is plugged in."""
        self._master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        self.port.unlink(missing_ok=True)
        self.port.symlink_to(os.ttyname(slave))
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def unplug(self) -> None:
        """Disappear."""
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self.port.unlink(missing_ok=True)
            self._master = -1

    def send(self, data: bytes) -> None:
        """Put bytes on the line."""
        if self._master >= 0:
            os.write(self._master, data)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except OSError:  # nobody has the other end open
            return
        self.take(data, self.send)


@asynccontextmanager
async def on_pty(folder: Path, script: Script = answer, **keys: Any) -> AsyncIterator[tuple[Pty, ModbusLink]]:
    """Give slaves on a pseudo-terminal, and a link to them."""
    line = Pty(folder / "ttyUSB0")
    line.script = script
    line.plug()
    link = link_of(ModbusRtuDevice, serial={"port": str(line.port), **keys.pop("serial", {})}, **keys)
    try:
        yield line, link
    finally:
        link.close()
        line.unplug()


@asynccontextmanager
async def over_tcp(_: Path, script: Script = answer, **keys: Any) -> AsyncIterator[tuple[Slaves, ModbusLink]]:
    """Give slaves behind a converter that passes RTU frames on over TCP, and a link to them."""
    slaves = Slaves(script)
    serving = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(writer)
        while data := await reader.read(4096):
            slaves.take(data, writer.write)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = link_of(ModbusRtuOverTcpDevice, host="127.0.0.1", port=port, **keys)
    try:
        yield slaves, link
    finally:
        link.close()
        server.close()
        for writer in serving:
            writer.transport.abort()
        await within(server.wait_closed())


@dataclass
class Datagram:
    """A request that came as a datagram."""

    transaction: int
    unit: int
    start: int
    count: int
    answer: Callable[[bytes], None]

    def good(self, *registers: int, transaction: int | None = None, unit: int | None = None) -> bytes:
        values = registers or tuple(range(self.start, self.start + self.count))
        body = b"".join(struct.pack(">H", value & 0xFFFF) for value in values)
        head = struct.pack(
            ">HHHBBB",
            self.transaction if transaction is None else transaction,
            0,
            len(body) + 3,
            self.unit if unit is None else unit,
            3,
            len(body),
        )
        return head + body


class UdpPeer(asyncio.DatagramProtocol):
    """A Modbus server on UDP."""

    def __init__(self, script: Callable[[Datagram], None]) -> None:
        self.script = script
        self.asked: list[Datagram] = []
        self.port = 0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        transaction, _, _, unit, _, start, count = struct.unpack(">HHHBBHH", data)
        asked = Datagram(transaction, unit, start, count, lambda answer: self.transport.sendto(answer, addr))
        self.asked.append(asked)
        self.script(asked)


@asynccontextmanager
async def over_udp(
    script: Callable[[Datagram], None] = lambda asked: asked.answer(asked.good()), port: int = 0
) -> AsyncIterator[tuple[UdpPeer, ModbusLink]]:
    """Give a server on UDP, and a link to it."""
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_datagram_endpoint(lambda: UdpPeer(script), local_addr=("127.0.0.1", port))
    link = link_of(ModbusUdpDevice, host="127.0.0.1", port=peer.port)
    try:
        yield peer, link
    finally:
        link.close()
        peer.transport.abort()


class Secured:
    """A Modbus server behind mutual TLS, and the files with which a gateway reaches it."""

    def __init__(self, folder: Path, name: str = "127.0.0.1", **validity: Any) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.client_authority = trustme.CA()
        self.certificate = self.authority.issue_cert(name, **validity)
        self.port = 0
        self.versions: set[str] = set()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.write_client(self.client_authority.issue_cert("gateway"))

    def write_client(self, client: trustme.LeafCert) -> None:
        client.cert_chain_pems[0].write_to_path(self.folder / "client.pem")
        client.private_key_pem.write_to_path(self.folder / "client.key")

    def keys(self, **tls: Any) -> dict[str, Any]:
        """Give the config of a device that is reached here."""
        files = {"cert_file": "client.pem", "key_file": "client.key", "ca_file": "ca.pem"}
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "tls": {key: str(self.folder / file) for key, file in files.items()} | tls,
        }

    def context(self) -> ssl.SSLContext:
        """Make what the server demands of its clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.certificate.configure_cert(context)
        self.client_authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Secured"]:
        context = self.context()
        writers: set[asyncio.StreamWriter] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            self.versions.add(writer.get_extra_info("ssl_object").version())
            while len(data := await reader.read(12)) == 12:
                transaction, _, _, unit, function, start, count = struct.unpack(">HHHBBHH", data)
                body = b"".join(struct.pack(">H", value) for value in range(start, start + count))
                writer.write(struct.pack(">HHHBBB", transaction, 0, len(body) + 3, unit, function, len(body)) + body)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            await within(server.wait_closed())


def secured_link(server: Secured, **tls: Any) -> ModbusLink:
    return link_of(ModbusTlsDevice, **server.keys(**tls))


_PROTOCOLS: dict[type[ModbusDevice], str] = {
    ModbusRtuDevice: "modbus-rtu",
    ModbusRtuOverTcpDevice: "modbus-rtu-over-tcp",
    ModbusTlsDevice: "modbus-tls",
    ModbusUdpDevice: "modbus-udp",
}


def link_of(kind: type[ModbusDevice], **keys: Any) -> ModbusLink:
    """Make a link from a device's config."""
    section = kind.model_validate({"name": "press-1", "protocol": _PROTOCOLS[kind], "tags": [], **keys})
    return ModbusLink(section)
