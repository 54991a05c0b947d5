"""Frames of both kinds: bytes in, the one answer that was asked for out, or nothing, or what is wrong. No I/O.

Sources: Modbus Messaging on TCP/IP V1.0b, section 3.1.3; Modbus over Serial Line V1.02, section 2.5.
"""

import random
import struct
from typing import Final, NamedTuple, Protocol

from gateway.drivers.modbus.pdu import EXCEPTION, Request

_HEADER: Final = struct.Struct(">HHHB")
_BEFORE_LENGTH: Final = 6
"""Bytes of the MBAP header that its length does not count: transaction, protocol and the length itself."""
_LENGTHS: Final = range(3, 255)
"""Of unit and PDU, as the header counts them: two bytes of PDU at least, 253 at most."""
_LAST_TRANSACTION: Final = 0xFFFF
_CRC_LENGTH: Final = 2
_SHORTEST_FRAME: Final = 4
"""Of RTU: unit, function and CRC. Fewer bytes behind an answer are the noise of a line that is let go."""


class WrongFrame(Exception):  # noqa: N818 -- it is what came, not what failed
    """What came is not the answer to what was asked: how it differs, to be put behind the address of who sent it."""


class Late(NamedTuple):
    """A whole answer to an earlier request, which nobody waits for any more."""

    transaction: int
    pdu: bytes


class Framing(Protocol):
    """One connection's framing; one request is awaited at a time."""

    late: list[Late]
    """Late answers since the caller last looked; he clears it."""
    resyncs: bool
    """Whether a wrong frame fails its request only; if not, nothing after it can be trusted."""

    @property
    def begun(self) -> bool:
        """Whether what comes next may be the rest of an answer to an earlier request; the connection is no good."""

    def ask(self, unit: int, request: Request) -> bytes:
        """Frame a request, which is awaited from now on."""

    def feed(self, data: bytes) -> bytes | None:
        """Take what arrived; give the awaited answer's PDU, checked, once it is there. Raises WrongFrame."""

    def give_up(self) -> int:
        """Await nothing more; give the transaction of the request that was awaited."""


class Mbap:
    """Modbus TCP's framing. `datagrams`: what arrives at once is one whole frame, as in UDP."""

    resyncs = False

    def __init__(self, *, datagrams: bool = False, first: int | None = None) -> None:
        self.late: list[Late] = []
        self._datagrams = datagrams
        # At random, lest an answer to a connection of before is taken for one to this by a careless gateway.
        self._transaction = first or random.randint(1, _LAST_TRANSACTION)  # noqa: S311 -- not a secret
        self._sent = 0
        self._unit = 0
        self._request: Request | None = None
        self._rest = b""

    @property
    def begun(self) -> bool:
        """Whether a frame has come in part."""
        return bool(self._rest)

    def ask(self, unit: int, request: Request) -> bytes:
        """Frame a request under the next transaction id, which is never 0."""
        self._transaction = self._transaction % _LAST_TRANSACTION + 1
        self._sent += 1
        self._unit = unit
        self._request = request
        return _HEADER.pack(self._transaction, 0, len(request.pdu) + 1, unit) + request.pdu

    def feed(self, data: bytes) -> bytes | None:
        """Take what arrived. Whole answers to earlier requests are late, not wrong."""
        packet = self._rest + data if self._rest else data
        at, answer = 0, None
        while len(packet) - at > _BEFORE_LENGTH:
            transaction, protocol, length, unit = _HEADER.unpack_from(packet, at)
            if protocol or length not in _LENGTHS:
                raise WrongFrame("does not speak Modbus TCP")
            awaited = self._is_awaited(transaction, unit)
            end = at + _BEFORE_LENGTH + length
            if end > len(packet):
                break
            pdu = packet[at + _HEADER.size : end]
            if awaited:
                answer = self._checked(pdu)
            else:
                self.late.append(Late(transaction, pdu))
            at = end
        self._rest = packet[at:]
        if self._rest and self._datagrams:
            raise WrongFrame("sends a part of a frame in a datagram")
        return answer

    def give_up(self) -> int:
        """Await nothing more: an answer that comes yet is late."""
        self._request = None
        return self._transaction

    def _is_awaited(self, transaction: int, unit: int) -> bool:
        """Whether a frame is the answer; if not, it is late, or wrong."""
        back = (self._transaction - transaction) % _LAST_TRANSACTION
        if back == 0 and transaction and self._request is not None:
            if unit != self._unit:
                raise WrongFrame(f"answers as unit {unit} instead of {self._unit}")
            return True
        # Earlier is what this connection has sent, be it the last request, whose answer has come or was given up.
        if transaction == 0 or back >= min(self._sent, _LAST_TRANSACTION // 2):
            raise WrongFrame(f"answers transaction {transaction} instead of {self._transaction}")
        return False

    def _checked(self, pdu: bytes) -> bytes:
        request, self._request = self._request, None
        if request is not None and (fault := request.fault(pdu)):
            raise WrongFrame(fault)
        return pdu


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1  # noqa: PLW2901 -- shifted out bit by bit
        table.append(value)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc(frame: bytes) -> bytes:
    """Give the CRC-16 of a frame's bytes as it follows them, low byte first (V1.02, section 2.5.1.2)."""
    value = 0xFFFF
    for byte in frame:
        value = _CRC_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value.to_bytes(_CRC_LENGTH, "little")


class Rtu:
    """The framing of serial lines, which knows no transactions: an answer is told by its unit, function and size.

    The first wrong byte fails the request, and all that comes until the next one is dropped: looking for a frame
    further on in what is not one would some day find a value there.

    An RS-485 adapter may hear what it sends. Such an echo, exactly the request, is taken off, until an answer has come
    without one: from then on the same bytes are an answer (that of one to 24 coils may look like its request).
    """

    resyncs = True
    begun = False

    def __init__(self) -> None:
        self.late: list[Late] = []
        self._may_echo = True
        self._frame = b""
        self._request: Request | None = None
        self._come = b""
        self._echoed = False
        self._given_up = False

    def ask(self, unit: int, request: Request) -> bytes:
        """Frame a request; what has come before it is forgotten."""
        frame = bytes((unit,)) + request.pdu
        self._frame = frame + crc(frame)
        self._request = request
        self._come = b""
        self._echoed = self._given_up = False
        return self._frame

    def feed(self, data: bytes) -> bytes | None:
        """Take what arrived, or drop it if nobody waits for it.

        A whole answer to a request that was given up is late, as long as there is no other request.
        """
        if self._request is None:
            return None
        self._come += data
        if self._may_echo and not self._echoed and self._strip_echo():
            return None
        try:
            pdu = self._answer(self._request)
        except WrongFrame:
            if self._given_up:
                return None
            raise
        if pdu is None or not self._given_up:
            return pdu
        self.late.append(Late(0, pdu))
        return None

    def give_up(self) -> int:
        """Await nothing more, but that the answer comes late; there are no transactions here."""
        self._given_up = True
        return 0

    def _strip_echo(self) -> bool:
        """Take the echo off, if it is there; True while nobody can tell yet."""
        frame, come = self._frame, self._come
        if come[: len(frame)] == frame:
            self._echoed = True
            self._come = come[len(frame) :]
            return False
        return len(come) < len(frame) and frame.startswith(come)

    def _answer(self, request: Request) -> bytes | None:
        come = self._come
        if come and come[0] != self._frame[0]:
            raise self._wrong(f"answers as unit {come[0]} instead of {self._frame[0]}")
        if len(come) < _SHORTEST_FRAME - 1:
            return None
        if come[1] != request.function and come[1] != request.function | EXCEPTION:
            raise self._wrong(f"answers function {come[1]} instead of {request.function}")
        end = 1 + request.length(come[1:])
        if len(come) < end + _CRC_LENGTH:
            return None
        pdu = come[1:end]
        if fault := request.fault(pdu):
            raise self._wrong(fault)
        if crc(come[:end]) != come[end : end + _CRC_LENGTH]:
            raise self._wrong("answers with a wrong checksum")
        if len(come) - end - _CRC_LENGTH >= _SHORTEST_FRAME:
            raise self._wrong("answers twice")
        self._may_echo = self._echoed
        self._request = None
        return pdu

    def _wrong(self, how: str) -> WrongFrame:
        self._request = None
        return WrongFrame(how)
