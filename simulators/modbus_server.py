"""Modbus endpoints that take connections: TCP, TLS, and the frames of a serial line over TCP."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

from simulators.certificates import TlsFiles
from simulators.lifecycle import TcpListener
from simulators.modbus_endpoint import Endpoint
from simulators.modbus_framing import RTU, FramingError
from simulators.modbus_units import Unit

HOST = "127.0.0.1"


class ModbusSimulator(TcpListener, Endpoint):
    """Serves units on a loopback port: `async with ModbusSimulator([PressUnit()]) as simulator: simulator.port`.

    Port 0 takes a free one, and keeps it over `stop` and `start`.
    """

    def __init__(self, units: Sequence[Unit], *, host: str = HOST, port: int = 0) -> None:
        TcpListener.__init__(self, host, port)
        Endpoint.__init__(self, units)
        self._tls: ssl.SSLContext | None = None
        self._connected: set[_Connection] = set()

    @property
    def where(self) -> dict[str, Any]:
        """Host and port."""
        return {"host": self.host, "port": self.port}

    def cut(self) -> None:
        """Close all connections and go on listening."""
        for connection in list(self._connected):
            connection.abort()

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: _Connection(self), self.host, self.port, ssl=self._tls)

    async def _hang_up(self) -> None:
        self.cut()

    def _opened(self, connection: "_Connection") -> None:
        self.connections += 1
        self._connected.add(connection)

    def _closed(self, connection: "_Connection") -> None:
        self._connected.discard(connection)


class ModbusRtuOverTcpSimulator(ModbusSimulator):
    """Serves units as a converter does that passes a serial line's frames on over TCP as they are."""

    framing = RTU


class ModbusTlsSimulator(ModbusSimulator):
    """Serves units over TLS and asks for a client certificate (MODBUS/TCP Security Protocol Specification v3.6)."""

    def __init__(self, units: Sequence[Unit], files: TlsFiles, *, host: str = HOST, port: int = 0) -> None:
        super().__init__(units, host=host, port=port)
        self.files = files
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.load_cert_chain(files.server, files.server_key)
        self._tls.load_verify_locations(files.authority)
        self._tls.verify_mode = ssl.CERT_REQUIRED

    @property
    def where(self) -> dict[str, Any]:
        """Host, port, and what a client needs to be let in."""
        files = {"ca_file": self.files.authority, "cert_file": self.files.client, "key_file": self.files.client_key}
        return {**super().where, **{key: str(path) for key, path in files.items()}}


class _Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, simulator: ModbusSimulator) -> None:
        self.due = 0
        self._simulator = simulator
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    @property
    def is_gone(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def send(self, octets: bytes) -> None:
        if self._transport is not None:
            self._transport.write(octets)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- asyncio types it as any transport
        self._transport = transport
        self._simulator._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._simulator._closed(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            while (request := self._simulator.framing.take(self._received)) is not None:
                self._simulator.take(request, self)
        except FramingError:
            self._received.clear()
            if not self._simulator.framing.is_serial:
                self.abort()
