"""Registers to values: what arrives for a block becomes the values of its tags, by a plan that is compiled once.

Byte orders name how the bytes A (most significant) to D of a 32-bit value lie in the registers, as they arrive:

- ABCD: big endian, the order of the standard (Modbus Application Protocol V1.1b3, section 4.2);
- CDAB: the least significant register first, the bytes within each register big endian;
- BADC: the most significant register first, the bytes within each register swapped;
- DCBA: little endian throughout.

64-bit values follow the same four rules over four registers. In 16-bit values and strings there is no order of
registers: CDAB is ABCD there, and DCBA is BADC.
"""

import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from operator import itemgetter
from typing import Any, Final, NamedTuple

from gateway.drivers.modbus.plan import Block
from gateway.drivers.modbus.tag import BIT_TABLES, ModbusTag
from gateway.model import Value

NOT_A_NUMBER: Final = "not-a-number"
INVALID_STRING: Final = "invalid-string"
"""Reasons for a bad value whose registers were read: a NaN or an infinity; bytes that are not UTF-8."""

_FORMATS: Final = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}
_FLOATS: Final = frozenset("fd")
_BITS_OF_BYTE: Final = tuple(tuple(bool(byte >> bit & 1) for bit in range(8)) for byte in range(256))
_NOTHING_BAD: Final[Mapping[int, str]] = {}

Unpack = Callable[[bytes], tuple[Any, ...]]
Pick = Callable[[Sequence[Any]], tuple[Any, ...]]


class Decoded(NamedTuple):
    """The values of a block's columns in their order, and the reason for each that is bad (its value is void)."""

    values: tuple[Value, ...]
    bad: Mapping[int, str]


class _Layout(NamedTuple):
    """How a value lies in the bytes of a block: whether the bytes of each register are swapped first, and endianness.

    Two buffers and two endiannesses give all four byte orders, without a step for each value.
    """

    swapped: bool
    endian: str


_WIDE: Final = {
    "ABCD": _Layout(False, ">"),
    "CDAB": _Layout(True, "<"),
    "BADC": _Layout(True, ">"),
    "DCBA": _Layout(False, "<"),
}
_SINGLE: Final = {"ABCD": _WIDE["ABCD"], "CDAB": _WIDE["ABCD"], "BADC": _WIDE["DCBA"], "DCBA": _WIDE["DCBA"]}
_TEXT: Final = {"ABCD": _WIDE["ABCD"], "CDAB": _WIDE["ABCD"], "BADC": _WIDE["BADC"], "DCBA": _WIDE["BADC"]}


@dataclass(frozen=True, slots=True)
class _Field:
    """Bytes of a block that one or more tags are made of: where, in which layout, with which `struct` format."""

    offset: int
    format: str
    layout: _Layout

    @property
    def end(self) -> int:
        return self.offset + struct.calcsize("=" + self.format)


class Decoder:
    """The compiled plan of one block. Numbers cost no Python call each; bits, strings and bad values do."""

    def __init__(self, block: Block, tags: Sequence[ModbusTag]) -> None:
        found = [tags[column] for column in block.columns]
        self._masks: list[tuple[int, int]] = []
        self._texts: list[int] = []
        self._floats: list[int] = []
        if block.table in BIT_TABLES:
            self._unpack = _bits_unpacker([tag.register - block.start for tag in found])
        else:
            fields = [_field(tag, block.start) for tag in found]
            self._unpack = _fields_unpacker(fields)
            self._note_conversions(found, fields)
        self._pick_floats = picker(self._floats) if self._floats else None

    def _note_conversions(self, tags: Sequence[ModbusTag], fields: Sequence[_Field]) -> None:
        for position, (tag, field) in enumerate(zip(tags, fields, strict=True)):
            if tag.type == "bool":
                self._masks.append((position, 1 << (tag.bit or 0)))
            elif tag.type == "string":
                self._texts.append(position)
            elif field.format in _FLOATS:
                self._floats.append(position)

    def decode(self, payload: bytes) -> Decoded:
        """Take the values out of a block's bytes, which are the registers (or packed coils) as they arrived."""
        values = self._unpack(payload)
        bad = _NOTHING_BAD
        if self._pick_floats is not None and not all(map(isfinite, self._pick_floats(values))):
            bad = {position: NOT_A_NUMBER for position in self._floats if not isfinite(values[position])}
        if self._masks or self._texts:
            return self._convert(list(values), dict(bad))
        return Decoded(values, bad)

    def _convert(self, values: list[Any], bad: dict[int, str]) -> Decoded:
        for position, mask in self._masks:
            values[position] = values[position] & mask != 0
        for position in self._texts:
            try:
                values[position] = values[position].partition(b"\0")[0].rstrip(b" ").decode()
            except UnicodeDecodeError:
                bad[position] = INVALID_STRING
        return Decoded(tuple(values), bad)


def _field(tag: ModbusTag, start: int) -> _Field:
    offset = 2 * (tag.register - start)
    if tag.type == "string":
        return _Field(offset, f"{tag.length}s", _TEXT[tag.byte_order])
    if tag.registers == 1:
        return _Field(offset, _FORMATS.get(tag.type, "H"), _SINGLE[tag.byte_order])
    return _Field(offset, _FORMATS[tag.type], _WIDE[tag.byte_order])


def _bits_unpacker(offsets: Sequence[int]) -> Unpack:
    """Unpack coils: the first is the least significant bit of the first byte (V1.1b3, section 6.1)."""
    pick = picker(offsets)

    def unpack(payload: bytes) -> tuple[bool, ...]:
        return pick(tuple(chain.from_iterable(map(_BITS_OF_BYTE.__getitem__, payload))))

    return unpack


def _fields_unpacker(fields: Sequence[_Field]) -> Unpack:
    """Unpack each distinct field once, one `struct` call a layer, and hand them out in the tags' order."""
    layers = _layers(dict.fromkeys(fields))
    order = {field: index for index, field in enumerate(chain.from_iterable(layers))}
    pick = picker([order[field] for field in fields])
    compiled = [(layer[0].layout.swapped, _struct(layer)) for layer in layers]
    if len(compiled) == 1 and not compiled[0][0]:
        only = compiled[0][1]
        return lambda payload: pick(only.unpack_from(payload))
    swaps = any(swapped for swapped, _ in compiled)

    def unpack(payload: bytes) -> tuple[Any, ...]:
        buffers = payload, _swap(payload) if swaps else payload
        return pick(tuple(chain.from_iterable(layer.unpack_from(buffers[swapped]) for swapped, layer in compiled)))

    return unpack


def _layers(fields: Iterable[_Field]) -> list[list[_Field]]:
    """Sort fields into lists of one layout in which none overlaps another: what a single `struct` can unpack."""
    layers: list[list[_Field]] = []
    for field in sorted(fields, key=lambda field: (field.offset, field.format)):
        for layer in layers:
            if layer[0].layout == field.layout and layer[-1].end <= field.offset:
                layer.append(field)
                break
        else:
            layers.append([field])
    return layers


def _struct(layer: Sequence[_Field]) -> struct.Struct:
    formats = [layer[0].layout.endian]
    end = 0
    for field in layer:
        formats.append(f"{field.offset - end}x{field.format}")
        end = field.end
    return struct.Struct("".join(formats))


def _swap(payload: bytes) -> bytes:
    words = array("H", payload)
    words.byteswap()
    return words.tobytes()


def picker(positions: Sequence[int]) -> Pick:
    """Give a function that takes the elements at these positions out of a sequence, as a tuple even if it is one."""
    if positions == list(range(len(positions))):
        return lambda values: tuple(values[: len(positions)])
    if len(positions) == 1:
        only = positions[0]
        return lambda values: (values[only],)
    return itemgetter(*positions)
