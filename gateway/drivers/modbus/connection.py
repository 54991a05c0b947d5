"""One Modbus TCP connection for as long as it lasts: pymodbus moves the bytes, and what comes is checked here.

pymodbus 3.16.1 by itself hands over answers of another length or function, of transaction 0 and, asked for unit 0,
of another unit; it lets an undecodable one escape into the event loop; and it leaves a request waiting whose
connection is gone. So every packet is inspected before pymodbus sees it, and the first wrong one ends the connection.
"""

import asyncio
import logging
import os
import socket
import struct
import time
from typing import Final, NamedTuple

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsRequest, ReadDiscreteInputsRequest
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.tag import BIT_TABLES
from gateway.errors import DeviceError
from gateway.hosts import join

# What pymodbus would log comes back as errors of ours, which name the device.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

CONNECTION_LOST: Final = "connection-lost"
SILENT_REQUESTS: Final = 2
"""So many requests in a row, to whatever units, without one byte in between, and the connection is half-open."""

_REQUESTS: Final[dict[Table, type[ModbusPDU]]] = {
    "coil": ReadCoilsRequest,
    "discrete": ReadDiscreteInputsRequest,
    "holding": ReadHoldingRegistersRequest,
    "input": ReadInputRegistersRequest,
}
"""All that is ever sent to a PLC: function codes 1 to 4, which read."""
_BIT_FUNCTIONS: Final = frozenset(_REQUESTS[table].function_code for table in _REQUESTS if table in BIT_TABLES)

_SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)
_HEADER: Final = struct.Struct(">HHHBB")
_LENGTHS: Final = range(3, 255)
"""Of unit and PDU, as the MBAP header counts them (Modbus Messaging on TCP/IP V1.0b, section 3.1.3)."""
_EXCEPTION: Final = 0x80
_EXCEPTION_LENGTH: Final = 3
_MAX_BUFFER: Final = 8 * 260
"""Bytes kept for reassembly: late answers may arrive in one piece with the one that is awaited."""


class WrongAnswer(Exception):  # noqa: N818 -- it is what came, not what failed
    """What came is not the answer to what was asked. Says how it differs; the connection is closed."""


class Answer(NamedTuple):
    """What a unit answered, and when it arrived (`ts`, ms since the Unix epoch).

    `payload` are the registers, or packed coils, as they arrived. It is empty where the unit refused: `refusal` is
    the exception code then (Modbus Application Protocol V1.1b3, section 7), and 0 otherwise.
    """

    ts: int
    payload: bytes
    refusal: int
    took: float = 0.0


class _Response(ModbusPDU):
    """A response kept as the bytes that came; pymodbus' own would be lists with an object for each register or bit."""

    payload: bytes = b""

    def decode(self, data: bytes) -> None:
        self.payload = data[1:]

    def __str__(self) -> str:
        return f"response to function {self.function_code}"


_RESPONSES: Final = tuple(
    type(f"Function{request.function_code}Response", (_Response,), {"function_code": request.function_code})
    for request in _REQUESTS.values()
)


class Connection:
    """An open TCP connection; the caller sees to it that one request at a time is in flight."""

    def __init__(self, host: str, port: int) -> None:
        self.address = join(host, port)
        self.has_answered = False
        self._asked = ModbusPDU()
        self._arrived_ms = 0
        self._unheard = 0
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            retries=0,
            reconnect_delay=0,
            timeout=None,  # type: ignore[arg-type]  # ours runs: its wait_for may swallow a cancellation (Python 3.11)
            trace_packet=self._inspect,
            trace_connect=self._note_connected,
        )
        self._wire = self._client.ctx
        self._wire.max_buffer_size = _MAX_BUFFER
        for response in _RESPONSES:
            self._client.register(response)

    @classmethod
    async def open(cls, host: str, port: int, timeout: float) -> "Connection":
        """Connect within `timeout` seconds. Raises DeviceError (`connection-lost`)."""
        connection = cls(host, port)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                # The client's own connect() would keep to itself why it failed.
                transport, _ = await loop.create_connection(lambda: connection._wire, host, port)
            for option in _SOCKET_OPTIONS:
                transport.get_extra_info("socket").setsockopt(*option)
        except OSError as error:
            connection.close()
            raise _unreachable(host, connection.address, error) from error
        return connection

    @property
    def is_usable(self) -> bool:
        """Whether the next request may be sent: connected, and not in the middle of an answer to an earlier one."""
        return self._client.connected and not self._wire.recv_buffer

    async def read(self, unit: int, table: Table, start: int, count: int, timeout: float) -> Answer:
        """Send one request and wait up to `timeout` seconds for its answer; raises as `ModbusLink.read` does."""
        self._asked = _REQUESTS[table](address=start, count=count, dev_id=unit)
        try:
            async with asyncio.timeout(timeout):
                response = await self._client.execute(False, self._asked)
        except TimeoutError:
            self._unheard += 1
            if self._unheard >= SILENT_REQUESTS:
                self.close()
            raise
        except ConnectionException as error:
            raise self._lost() from error
        except ModbusException as error:
            self.close()
            raise WrongAnswer(f"{self.address}: {error}") from error
        self.has_answered = True
        if response.isError():
            return Answer(self._arrived_ms, b"", response.exception_code)
        return Answer(self._arrived_ms, response.payload, 0)

    def close(self) -> None:
        """Close at once; a request in flight fails. What is not yet sent is not waited for."""
        self._fail(self._lost())
        transport = self._wire.transport
        self._client.close()
        if isinstance(transport, asyncio.Transport):
            transport.abort()

    def _lost(self) -> DeviceError:
        return DeviceError(
            f"{self.address} closed the connection",
            reason=CONNECTION_LOST,
            do="Check whether the PLC restarted, and how many clients it allows.",
        )

    def _fail(self, error: Exception) -> None:
        awaited = self._wire.response_future
        if not awaited.done():
            awaited.set_exception(error)
            awaited.exception()  # seen: should the waiting task be cancelled just now, nobody else will ask for it

    def _note_connected(self, connected: bool) -> None:
        if not connected:
            self._fail(self._lost())

    def _inspect(self, sending: bool, packet: bytes) -> bytes:
        """Look at what is received so far before pymodbus does."""
        if sending:
            return packet
        self._unheard = 0
        self._arrived_ms = time.time_ns() // 1_000_000
        fault = self._fault(packet)
        if fault is None:
            return packet
        self._fail(WrongAnswer(f"{self.address} {fault}"))
        self.close()
        return b""

    def _fault(self, packet: bytes) -> str | None:
        """Say what is wrong with the frames of a packet. Whole answers to earlier requests are late, not wrong."""
        awaited = self._wire.request_transaction_id
        at = 0
        while len(packet) - at >= _HEADER.size:
            transaction, protocol, length, unit, function = _HEADER.unpack_from(packet, at)
            if protocol or length not in _LENGTHS:
                return "does not speak Modbus TCP"
            if transaction == awaited:
                fault = _mismatch(self._asked, unit, function, length, packet[at + 8 : at + 9])
                if fault is not None:
                    return fault
            elif not 0 < transaction < awaited:
                return f"answers transaction {transaction} instead of {awaited}"
            at += 6 + length
        return None


def _mismatch(asked: ModbusPDU, unit: int, function: int, length: int, byte_count: bytes) -> str | None:
    """Say how a frame differs from the answer to a request; `byte_count` is empty until it has arrived."""
    if unit != asked.dev_id:
        return f"answers as unit {unit} instead of {asked.dev_id}"
    if function == asked.function_code | _EXCEPTION:
        return None if length == _EXCEPTION_LENGTH else f"refuses with {length - 2} bytes instead of one"
    if function != asked.function_code:
        return f"answers function {function} instead of {asked.function_code}"
    size = -(-asked.count // 8) if asked.function_code in _BIT_FUNCTIONS else 2 * asked.count
    if length != _EXCEPTION_LENGTH + size:
        return f"answers {length - 3} bytes instead of {size}"
    if byte_count and byte_count[0] != size:
        return f"announces {byte_count[0]} bytes instead of {size}"
    return None


def _unreachable(host: str, address: str, error: OSError) -> DeviceError:
    """Say why nobody was reached: `TimeoutError`, too, is an OSError."""
    text, do = f"{address} cannot be reached", "Check the address, and the network between here and the PLC."
    if isinstance(error, TimeoutError):
        text, do = f"{address} does not answer", "Check power and network of the PLC."
    elif isinstance(error, ConnectionRefusedError):
        text, do = f"{address} refuses the connection", "Check the port, and how many clients the PLC allows."
    elif isinstance(error, socket.gaierror):
        text, do = f"the host name {host} is not known", "Check its spelling, and the name server of this machine."
    elif error.errno:
        text += f": {os.strerror(error.errno)}"
    return DeviceError(text, reason=CONNECTION_LOST, do=do)
