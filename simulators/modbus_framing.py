"""Requests out of octets and answers into octets: Modbus TCP's header, and the frames of a serial line."""

import struct
from typing import Final, Protocol

from simulators.modbus_pdu import Request

_MBAP = struct.Struct(">HHHB")
_MAX_LENGTH = 254  # the unit id and a PDU of at most 253 octets

_RTU_LENGTHS = {**dict.fromkeys((1, 2, 3, 4, 5, 6, 8), 8), **dict.fromkeys((7, 11, 12, 17), 4), 22: 10, 24: 6, 43: 7}
"""Octets of a whole request frame, by function code (V1.1b3 section 6)."""
_RTU_COUNTED = {15: (9, 6), 16: (9, 6), 20: (5, 2), 21: (5, 2), 23: (13, 10)}
"""Octets without the counted ones, and where the count stands."""


class FramingError(Exception):
    """The peer sends something that cannot be a frame; nothing after it can be trusted."""


class Framing(Protocol):
    """How requests and answers stand on the wire."""

    is_serial: bool
    """Whether frames end by silence on a line with several units: nobody answers for a unit that is not there, and
    after octets without sense the next request is taken as if nothing had been."""

    def take(self, buffer: bytearray) -> Request | None:
        """Take the first whole request off the buffer; None while it is not complete. Raises FramingError."""

    def wrap(self, request: Request, pdu: bytes, *, unit: int, transaction: int) -> bytes:
        """The frame that carries an answer."""

    def spoil_check(self, frame: bytes) -> bytes:
        """The frame with the field wrong that tells that it is one."""


class Mbap:
    """Modbus TCP's frames, over TCP, TLS and UDP (Messaging on TCP/IP Implementation Guide V1.0b, section 3.1.3)."""

    is_serial = False

    def take(self, buffer: bytearray) -> Request | None:
        """Take a request. Raises FramingError: wrong protocol identifier or impossible length."""
        if len(buffer) < _MBAP.size:
            return None
        transaction, protocol, length, unit = _MBAP.unpack_from(buffer)
        if protocol != 0 or not 2 <= length <= _MAX_LENGTH:
            raise FramingError(f"protocol {protocol}, length {length}")
        end = _MBAP.size + length - 1
        if len(buffer) < end:
            return None
        pdu = bytes(buffer[_MBAP.size : end])
        wire = bytes(buffer[:end])
        del buffer[:end]
        return Request(transaction, unit, pdu, wire)

    def wrap(self, request: Request, pdu: bytes, *, unit: int, transaction: int) -> bytes:
        """Header and PDU."""
        return _MBAP.pack(transaction, 0, len(pdu) + 1, unit) + pdu

    def spoil_check(self, frame: bytes) -> bytes:
        """The protocol identifier is not Modbus'."""
        return frame[:2] + b"\x00\x01" + frame[4:]


class Rtu:
    """The frames of a serial line, on one or over TCP (Modbus over Serial Line V1.02, section 2.5.1)."""

    is_serial = True

    def take(self, buffer: bytearray) -> Request | None:
        """Take a request. Raises FramingError: unknown function, or wrong CRC."""
        if len(buffer) < 2:
            return None
        end = _RTU_LENGTHS.get(buffer[1], 0)
        if buffer[1] in _RTU_COUNTED:
            fixed, at = _RTU_COUNTED[buffer[1]]
            if len(buffer) <= at:
                return None
            end = fixed + buffer[at]
        if not end:
            raise FramingError(f"function code {buffer[1]}")
        if len(buffer) < end:
            return None
        wire = bytes(buffer[:end])
        if crc(wire):
            raise FramingError("wrong CRC")
        del buffer[:end]
        return Request(0, wire[0], wire[1:-2], wire)

    def wrap(self, request: Request, pdu: bytes, *, unit: int, transaction: int) -> bytes:
        """Unit, PDU and CRC. There is no transaction number on a serial line."""
        body = bytes((unit,)) + pdu
        return body + crc(body).to_bytes(2, "little")

    def spoil_check(self, frame: bytes) -> bytes:
        """The CRC is wrong."""
        return frame[:-1] + bytes((frame[-1] ^ 0xFF,))


def _crc_of(octet: int) -> int:
    for _ in range(8):
        octet = octet >> 1 ^ (0xA001 if octet & 1 else 0)
    return octet


_CRCS: Final = tuple(map(_crc_of, range(256)))


def crc(octets: bytes) -> int:
    """The CRC of a serial frame, whose low octet goes first; 0 over a whole frame (Serial Line V1.02, 6.2.2)."""
    value = 0xFFFF
    for octet in octets:
        value = value >> 8 ^ _CRCS[(value ^ octet) & 0xFF]
    return value


MBAP: Final = Mbap()
RTU: Final = Rtu()
