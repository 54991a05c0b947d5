"""Registers to values: what arrives for a block becomes the values of its fields, by a plan that is compiled once.

Byte orders name how the bytes A (most significant) to D of a 32-bit value lie in the registers, as they arrive:

- ABCD: big endian, the order of the standard (Modbus Application Protocol V1.1b3, section 4.2);
- CDAB: the least significant register first, the bytes within each register big endian;
- BADC: the most significant register first, the bytes within each register swapped;
- DCBA: little endian throughout.

64-bit values follow the same four rules over four registers. In 16-bit values, strings and rows of bytes there is no
order of registers: CDAB is ABCD there, and DCBA is BADC.
"""

import struct
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from operator import contains
from typing import Any, Final, NamedTuple

from gateway.columns import picker
from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.plan import Block
from gateway.drivers.modbus.tag import BIT_TABLES
from gateway.drivers.modbus.values import (
    FLOATS,
    FORMATS,
    NOT_A_NUMBER,
    NOT_IMPLEMENTED,
    BadValue,
    Convert,
    converter,
)
from gateway.model import Value

_BITS_OF_BYTE: Final = tuple(tuple(bool(byte >> bit & 1) for bit in range(8)) for byte in range(256))
_NOTHING_BAD: Final[Mapping[int, str]] = {}
_BYTES: Final = frozenset({"int8", "uint8"})

Unpack = Callable[[bytes], tuple[Any, ...]]


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
class _Slot:
    """Bytes of a block that one or more fields are made of: where, in which layout, with which `struct` format."""

    offset: int
    format: str
    layout: _Layout

    @property
    def end(self) -> int:
        return self.offset + struct.calcsize("=" + self.format)


class Decoder:
    """The compiled plan of one block. Numbers cost no Python call each; strings, BCD, arrays and bad values do."""

    def __init__(self, block: Block, fields: Sequence[Field]) -> None:
        found = [fields[column] for column in block.columns]
        self._bits: list[tuple[int, int]] = []
        self._ranges: list[tuple[int, int, int]] = []
        self._converters: list[tuple[int, Convert]] = []
        self._floats: list[int] = []
        self._sentinels: list[int] = []
        if block.table in BIT_TABLES:
            self._unpack = _bits_unpacker(found, block)
        else:
            slots = [_slot(field, block.start) for field in found]
            self._unpack = _slots_unpacker(slots)
            for position, (field, slot) in enumerate(zip(found, slots, strict=True)):
                self._note(position, field, slot)
        self._pick_floats = picker(self._floats, len(found)) if self._floats else None
        self._pick_sentinels = picker(self._sentinels, len(found)) if self._sentinels else None
        self._invalid = [found[position].invalid for position in self._sentinels]
        self._is_plain = not (self._bits or self._ranges or self._sentinels or self._converters)

    def _note(self, position: int, field: Field, slot: _Slot) -> None:
        """Note what is to be done with an unpacked value."""
        convert = converter(field, slot.layout.endian)
        if convert is not None:
            self._converters.append((position, convert))
            return
        if field.type == "bool":
            self._bits.append((position, 1 << (field.bit or 0)))
        elif field.bit is not None:
            self._ranges.append((position, field.bit, (1 << field.width) - 1))
        elif field.type in FLOATS:
            self._floats.append(position)
        if field.invalid:
            self._sentinels.append(position)

    def decode(self, payload: bytes) -> Decoded:
        """Take the values out of a block's bytes, which are the registers (or packed coils) as they arrived."""
        values = self._unpack(payload)
        bad = _NOTHING_BAD
        if self._pick_floats is not None and not all(map(isfinite, self._pick_floats(values))):
            bad = {position: NOT_A_NUMBER for position in self._floats if not isfinite(values[position])}
        if self._is_plain:
            return Decoded(values, bad)
        return self._convert(list(values), dict(bad))

    def _convert(self, values: list[Any], bad: dict[int, str]) -> Decoded:
        for position, mask in self._bits:
            values[position] = values[position] & mask != 0
        for position, shift, mask in self._ranges:
            values[position] = values[position] >> shift & mask
        if self._pick_sentinels is not None and any(map(contains, self._invalid, self._pick_sentinels(values))):
            for position, invalid in zip(self._sentinels, self._invalid, strict=True):
                if values[position] in invalid:
                    bad[position] = NOT_IMPLEMENTED
        for position, convert in self._converters:
            try:
                values[position] = convert(values[position])
            except BadValue as error:
                bad[position] = str(error)
        return Decoded(tuple(values), bad)


def _slot(field: Field, start: int) -> _Slot:
    offset, order = 2 * (field.register - start), field.byte_order
    if field.type == "string":
        return _Slot(offset, f"{field.length}s", _TEXT[order])
    if field.type in _BYTES and field.bit is None:
        if field.count is not None:
            return _Slot(offset, f"{2 * field.registers}s", _TEXT[order])
        return _Slot(offset + (field.byte == "low"), FORMATS[field.type], _TEXT[order])
    size = 2 if field.bit is not None else struct.calcsize("=" + FORMATS[field.type])
    layout = _SINGLE[order] if size == 2 else _WIDE[order]
    if field.count is not None:
        return _Slot(offset, f"{2 * field.registers}s", layout)
    return _Slot(offset, "H" if field.bit is not None else FORMATS[field.type], layout)


def _bits_unpacker(fields: Sequence[Field], block: Block) -> Unpack:
    """Unpack coils: the first is the least significant bit of the first byte (V1.1b3, section 6.1)."""
    offsets = [field.register - block.start for field in fields]
    if all(field.count is None for field in fields):
        pick = picker(offsets, -(-block.count // 8) * 8)
        return lambda payload: tuple(pick(tuple(chain.from_iterable(map(_BITS_OF_BYTE.__getitem__, payload)))))
    rows = [(offset, field.count) for offset, field in zip(offsets, fields, strict=True)]

    def unpack(payload: bytes) -> tuple[Any, ...]:
        bits = list(chain.from_iterable(map(_BITS_OF_BYTE.__getitem__, payload)))
        return tuple([bits[offset] if count is None else bits[offset : offset + count] for offset, count in rows])

    return unpack


def _slots_unpacker(slots: Sequence[_Slot]) -> Unpack:
    """Unpack each distinct slot once, one `struct` call a layer, and hand them out in the fields' order."""
    layers = _layers(dict.fromkeys(slots))
    order = {slot: index for index, slot in enumerate(chain.from_iterable(layers))}
    pick = picker([order[slot] for slot in slots], len(order))
    compiled = [(layer[0].layout.swapped, _struct(layer)) for layer in layers]
    if len(compiled) == 1 and not compiled[0][0]:
        only = compiled[0][1]
        return lambda payload: tuple(pick(only.unpack_from(payload)))
    swaps = any(swapped for swapped, _ in compiled)

    def unpack(payload: bytes) -> tuple[Any, ...]:
        buffers = payload, _swap(payload) if swaps else payload
        found = chain.from_iterable(layer.unpack_from(buffers[swapped]) for swapped, layer in compiled)
        return tuple(pick(tuple(found)))

    return unpack


def _layers(slots: Iterable[_Slot]) -> list[list[_Slot]]:
    """Sort slots into lists of one layout in which none overlaps another: what a single `struct` can unpack."""
    layers: list[list[_Slot]] = []
    for slot in sorted(slots, key=lambda slot: (slot.offset, slot.format)):
        for layer in layers:
            if layer[0].layout == slot.layout and layer[-1].end <= slot.offset:
                layer.append(slot)
                break
        else:
            layers.append([slot])
    return layers


def _struct(layer: Sequence[_Slot]) -> struct.Struct:
    formats = [layer[0].layout.endian]
    end = 0
    for slot in layer:
        formats.append(f"{slot.offset - end}x{slot.format}")
        end = slot.end
    return struct.Struct("".join(formats))


def _swap(payload: bytes) -> bytes:
    words = array("H", payload)
    words.byteswap()
    return words.tobytes()
