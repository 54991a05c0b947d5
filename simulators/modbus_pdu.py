"""What stands in a Modbus frame, whatever the frame: requests and answers (Modbus Application Protocol V1.1b3)."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from simulators.registers import Table

ILLEGAL_FUNCTION = 0x01
ILLEGAL_ADDRESS = 0x02
ILLEGAL_VALUE = 0x03
TARGET_FAILED_TO_RESPOND = 0x0B

READ_TABLES: dict[int, Table] = {1: "coil", 2: "discrete", 3: "holding", 4: "input"}
_MAX_COUNT = {1: 2000, 2: 2000, 3: 125, 4: 125}

Read = Callable[[Table, int, int], Sequence[int]]
"""Gives the bits or registers at (table, address, count), or raises `Refusal`."""


class Refusal(Exception):  # noqa: N818 -- it is an answer of the protocol, not a failure of the program
    """The unit answers with this exception code (V1.1b3 section 7)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception code {code}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in. `pdu` begins with the function code; `wire` is the whole frame."""

    transaction: int
    unit: int
    pdu: bytes
    wire: bytes = b""

    @property
    def function(self) -> int:
        """The function code."""
        return self.pdu[0]

    @property
    def span(self) -> tuple[int, int]:
        """Address and count of a read request; (0, 0) for what is not one."""
        if self.function not in READ_TABLES or len(self.pdu) != 5:
            return 0, 0
        address, count = struct.unpack(">HH", self.pdu[1:])
        return address, count


def answer(request: Request, read: Read) -> bytes:
    """The PDU that answers a request for values (V1.1b3 sections 6.1 to 6.4). Raises Refusal."""
    return values_pdu(request.function, _values(request, read))


def _values(request: Request, read: Read) -> Sequence[int]:
    table = READ_TABLES.get(request.function)
    if table is None:
        raise Refusal(ILLEGAL_FUNCTION)
    address, count = request.span
    if not 1 <= count <= _MAX_COUNT[request.function]:
        raise Refusal(ILLEGAL_VALUE)
    return read(table, address, count)


def values_pdu(function: int, values: Sequence[int]) -> bytes:
    """Function code, byte count and the packed bits or registers."""
    octets = pack_bits(values) if function in (1, 2) else struct.pack(f">{len(values)}H", *values)
    return bytes((function, len(octets) & 0xFF)) + octets


def exception(function: int, code: int) -> bytes:
    """An exception response: the function code with its top bit set, then the code."""
    return bytes((function | 0x80, code))


def pack_bits(bits: Sequence[int]) -> bytes:
    """Bits in octets, the first bit lowest, the last octet filled up with zeros."""
    whole = 0
    for position, bit in enumerate(bits):
        whole |= (1 if bit else 0) << position
    return whole.to_bytes((len(bits) + 7) // 8, "little")
