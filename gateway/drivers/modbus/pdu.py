"""What may be asked of a unit, as the bytes that go over the wire, and whether what came is the answer to it.

Source: Modbus Application Protocol V1.1b3. Only requests that read can be made here: function codes 1 to 4, and 43/14
which asks a unit for its name plate.
"""

import struct
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.tag import BIT_TABLES, MAX_BITS, MAX_REGISTERS

FUNCTIONS: Final[Mapping[Table, int]] = MappingProxyType({"coil": 1, "discrete": 2, "holding": 3, "input": 4})
"""The function code that reads each table (sections 6.1 to 6.4)."""
IDENTIFY: Final = 0x2B
_IDENTIFICATION: Final = 0x0E
"""The MEI type of function 43 that reads device identification (section 6.21)."""
EXCEPTION: Final = 0x80
"""The bit that a refusal adds to the function code (section 7)."""
REFUSAL_LENGTH: Final = 2
BASIC, REGULAR, EXTENDED = 1, 2, 3
"""How much of its identification a unit is asked to stream (section 6.21)."""
_LEVELS: Final = range(BASIC, EXTENDED + 1)
_IDENTIFICATION_HEAD: Final = 7
_MORE_FOLLOWS: Final = 0xFF
_LONGEST_PDU: Final = 253
_MOST_PAGES: Final = 32
"""Of an identification: a unit that always says that more follows must end, too."""

_READ: Final = struct.Struct(">BHH")


class Request:
    """A request: its bytes without unit and checksum (`pdu`), and what its answer looks like."""

    __slots__ = ("function", "pdu")

    def __init__(self, function: int, pdu: bytes) -> None:
        self.function = function
        self.pdu = pdu

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pdu.hex(' ')}>"

    def answer_length(self, begun: bytes) -> int:
        """Give how many bytes the answer's PDU has at least, as far as its beginning tells: all, or more than begun."""
        raise NotImplementedError

    def body_fault(self, pdu: bytes) -> str:
        """Say how a PDU that has the right function code differs from the answer; empty if it does not."""
        raise NotImplementedError

    def fault(self, pdu: bytes) -> str:
        """Say how a whole PDU differs from the answer to this request; empty if it is the answer, or a refusal."""
        function = pdu[0] if pdu else 0
        if function == self.function:
            return self.body_fault(pdu)
        if function != self.function | EXCEPTION:
            return f"answers function {function} instead of {self.function}"
        return "" if len(pdu) == REFUSAL_LENGTH else f"refuses with {len(pdu) - 1} bytes instead of one"

    def length(self, begun: bytes) -> int:
        """Give the length of the answer's PDU as far as its beginning tells; a refusal is shorter."""
        return REFUSAL_LENGTH if begun and begun[0] == self.function | EXCEPTION else self.answer_length(begun)


class ReadRequest(Request):
    """A request for registers or coils; the answer holds `size` bytes of them."""

    __slots__ = ("size",)

    def __init__(self, table: Table, start: int, count: int) -> None:
        bits = table in BIT_TABLES
        most = MAX_BITS if bits else MAX_REGISTERS
        if not (start >= 0 and 1 <= count <= most and start + count <= 0x10000):
            raise ValueError(f"no request reads {count} of {table} from {start} on")
        super().__init__(FUNCTIONS[table], _READ.pack(FUNCTIONS[table], start, count))
        self.size = (count + 7) // 8 if bits else 2 * count

    def answer_length(self, begun: bytes) -> int:
        """Believe the byte count, but not that there is more than was asked for."""
        return 2 + (self.size if len(begun) < 2 else min(self.size, begun[1]))

    def body_fault(self, pdu: bytes) -> str:
        """Compare the size, and what the byte count says of it."""
        if len(pdu) != 2 + self.size:
            return f"answers {len(pdu) - 2} bytes instead of {self.size}"
        if pdu[1] != self.size:
            return f"announces {pdu[1]} bytes instead of {self.size}"
        return ""


class IdentifyRequest(Request):
    """A request for the unit's identification: the objects of a level, from one on."""

    __slots__ = ("level",)

    def __init__(self, level: int, start: int = 0) -> None:
        if level not in _LEVELS or not 0 <= start <= 0xFF:
            raise ValueError(f"no request reads identification {level} from {start} on")
        super().__init__(IDENTIFY, bytes((IDENTIFY, _IDENTIFICATION, level, start)))
        self.level = level

    def answer_length(self, begun: bytes) -> int:
        """Walk the objects that have begun: each says its own length."""
        at = _IDENTIFICATION_HEAD
        if len(begun) < at:
            return at
        for _ in range(begun[at - 1]):
            if len(begun) < at + 2:
                return at + 2
            at += 2 + begun[at + 1]
        return at

    def body_fault(self, pdu: bytes) -> str:
        """Compare the head, and the length with that which the objects give."""
        if len(pdu) < _IDENTIFICATION_HEAD or pdu[1:3] != self.pdu[1:3]:
            return "does not answer with the identification that was asked for"
        length = self.answer_length(pdu)
        if length != len(pdu) or length > _LONGEST_PDU:
            return f"answers {len(pdu)} bytes instead of {length}"
        return ""


class Page(NamedTuple):
    """A part of a unit's identification: `level` is the highest it has, `following` the next object to ask for."""

    level: int
    following: int | None
    objects: dict[int, str]


def refusal_of(pdu: bytes) -> int:
    """Give the exception code of a checked answer; 0 if it is none."""
    return pdu[1] if pdu[0] & EXCEPTION else 0


def page_of(pdu: bytes) -> Page:
    """Decode a checked answer to an IdentifyRequest."""
    objects = {}
    at = _IDENTIFICATION_HEAD
    for _ in range(pdu[at - 1]):
        number, length = pdu[at], pdu[at + 1]
        objects[number] = _text(pdu[at + 2 : at + 2 + length])
        at += 2 + length
    # The highest bit of the conformity level says that single objects can be asked for as well.
    return Page(pdu[3] & 0x7F, pdu[5] if pdu[4] == _MORE_FOLLOWS else None, objects)


def identification() -> Generator[IdentifyRequest, bytes, dict[int, str] | int]:
    """Yield requests for all levels of a unit's identification, and be sent their checked answers.

    Returns object numbers and their texts, or the exception code of a unit that refuses.
    """
    objects: dict[int, str] = {}
    level, following = BASIC, 0
    for _ in range(_MOST_PAGES):
        pdu = yield IdentifyRequest(level, following)
        if refusal := refusal_of(pdu):
            return objects or refusal
        page = page_of(pdu)
        objects |= page.objects
        if page.following is not None and page.following > following:
            following = page.following
        elif level < min(page.level, EXTENDED):
            level, following = level + 1, 0
        else:
            break
    return objects


def _text(value: bytes) -> str:
    """Decode what should be ASCII (section 6.21), from makers who did not read that."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    return text.strip("\0 ")
