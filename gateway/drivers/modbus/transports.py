"""The ways over which a Modbus device is reached: each opens one connection, and says why it could not, or ended."""

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, cast

from gateway.drivers.modbus.connection import CONNECTION_LOST, Connection
from gateway.drivers.modbus.framing import Framing, Mbap, Rtu
from gateway.drivers.modbus.section import ModbusDevice, ModbusRtuDevice, ModbusTlsDevice
from gateway.errors import DeviceError
from gateway.hosts import join

_KEEPALIVE_IDLE_S: Final = 15
_KEEPALIVE_INTERVAL_S: Final = 5
_KEEPALIVE_COUNT: Final = 3


class Way(Protocol):
    """A way to an endpoint or a line. `address` is what a person calls it."""

    address: str
    resyncs: bool
    """Whether frames are RTU's: told apart by silence, and answers by nothing but what was asked."""
    may_hang: bool
    """Whether silence may come from a peer that is gone, so that a new connection is worth trying."""

    async def open(self, timeout: float, patience: float) -> Connection:
        """Open a connection within `timeout` seconds. Raises DeviceError.

        A peer that vanishes is noticed after `patience` seconds.
        """


class TcpWay:
    """A TCP connection, for Modbus TCP's frames or for RTU's."""

    may_hang = True

    def __init__(self, host: str, port: int, framing: Callable[[], Framing] = Mbap, *, resyncs: bool = False) -> None:
        self.address = join(host, port)
        self.resyncs = resyncs
        self._host = host
        self._port = port
        self._framing = framing

    async def open(self, timeout: float, patience: float) -> Connection:
        """Connect."""
        connection = Connection(self.address, self._framing(), self.explain)
        await connect(connection, self._host, self._port, timeout, patience, self.explain)
        return connection

    def explain(self, error: Exception | None) -> DeviceError:
        """Say why a connection could not be made, or ended."""
        return unreachable(self._host, self.address, error)


class UdpWay:
    """Modbus TCP's frames as datagrams, one each. There is no connection: the first request tells whether it works."""

    resyncs = False
    may_hang = True

    def __init__(self, host: str, port: int) -> None:
        self.address = join(host, port)
        self._host = host
        self._port = port

    async def open(self, timeout: float, patience: float) -> Connection:
        """Take a socket that hears this endpoint only."""
        connection = Connection(self.address, Mbap(datagrams=True), self.explain)
        try:
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().create_datagram_endpoint(
                    partial(_Datagrams, connection), remote_addr=(self._host, self._port)
                )
        except OSError as error:
            connection.close()
            raise self.explain(error) from error
        return connection

    def explain(self, error: Exception | None) -> DeviceError:
        """Say why nobody is reached."""
        if isinstance(error, ConnectionRefusedError):
            text, do = f"nobody listens at {self.address} (UDP)", "Check the port, and that the PLC takes Modbus UDP."
            return DeviceError(text, reason=CONNECTION_LOST, do=do)
        return unreachable(self._host, self.address, error)


def ways_of(section: ModbusDevice) -> tuple[Way, ...]:
    """Give the ways to a device, in order of preference."""
    if isinstance(section, ModbusRtuDevice):
        from gateway.drivers.modbus.serial_line import SerialWay

        return (SerialWay(section.serial),)
    endpoints: tuple[tuple[str, int], ...] = section.endpoints  # type: ignore[attr-defined]
    if isinstance(section, ModbusTlsDevice):
        from gateway.drivers.modbus.tls import TlsWay

        return tuple(TlsWay(host, port, section.tls) for host, port in endpoints)
    match getattr(section, "protocol", ""):
        case "modbus-udp":
            return tuple(UdpWay(host, port) for host, port in endpoints)
        case "modbus-rtu-over-tcp":
            return tuple(TcpWay(host, port, Rtu, resyncs=True) for host, port in endpoints)
    return tuple(TcpWay(host, port) for host, port in endpoints)


async def connect(
    connection: Connection,
    host: str,
    port: int,
    timeout: float,
    patience: float,
    explain: Callable[[Exception | None], DeviceError],
    **tls: Any,
) -> None:
    """Open a TCP connection, secured with `tls`. Raises DeviceError, as `explain` says it."""
    try:
        async with asyncio.timeout(timeout):
            transport, _ = await asyncio.get_running_loop().create_connection(
                partial(_Stream, connection), host, port, **tls
            )
        for option in _options(patience):
            transport.get_extra_info("socket").setsockopt(*option)
    except OSError as error:
        connection.close()
        raise explain(error) from error


def _options(patience: float) -> tuple[tuple[int, int, int], ...]:
    """Give the options that send at once, and find a peer that vanished: what it does not acknowledge, tells."""
    return (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_S),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEPALIVE_COUNT),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(patience * 1000))),
    )


def unreachable(host: str, address: str, error: Exception | None) -> DeviceError:
    """Say why nobody is reached, or why no longer: `TimeoutError`, too, is an OSError."""
    text, do = f"{address} cannot be reached", "Check the address, and the network between here and the PLC."
    if error is None or isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        text = f"{address} closed the connection"
        do = "Check whether the PLC restarted, and how many clients it allows."
    elif isinstance(error, TimeoutError):
        text, do = f"{address} does not answer", "Check power and network of the PLC."
    elif isinstance(error, ConnectionRefusedError):
        text, do = f"{address} refuses the connection", "Check the port, and how many clients the PLC allows."
    elif isinstance(error, socket.gaierror):
        text, do = f"the host name {host} is not known", "Check its spelling, and the name server of this machine."
    elif isinstance(error, OSError) and error.errno:
        text += f": {os.strerror(error.errno)}"
    return DeviceError(text, reason=CONNECTION_LOST, do=do)


class _Stream(asyncio.Protocol):
    """Hands what a stream brings to its connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.data_received = connection.received  # type: ignore[method-assign]  # no call of its own for each packet

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.opened(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost(exc)


class _Datagrams(asyncio.DatagramProtocol):
    """Hands what datagrams bring to their connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.opened(_Sender(cast("asyncio.DatagramTransport", transport)))

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._connection.received(data)

    def error_received(self, exc: Exception) -> None:
        """Take what ICMP says, such as that nobody listens."""
        self._connection.lost(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost(exc)


class _Sender:
    """Sends each write as a datagram."""

    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.sendto(data)

    def abort(self) -> None:
        self._transport.abort()
