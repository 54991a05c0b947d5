"""What raw registers may mean: every type and byte order that they can be read in, the plausible ones first.

The plausibility of a reading is 2 to the power of its score, as a share of all readings'. Its score is, in bits, by
how much its values are better than chance (`surprise`), and how common its type and byte order are (below).
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

from gateway.commissioning import surprise

MOST: Final = 125
"""Registers that can be looked at together: what one request reads."""

_COMMON: Final[Mapping[str, float]] = {
    "uint16": 0, "int16": 0, "uint32": 1, "int32": 1, "float32": 4, "float64": 2, "uint64": -1, "int64": -1,
    "float16": -8, "bcd16": -4, "bcd32": -4, "uint8": -5, "string": 0, "bool": -6,
}  # fmt: skip
_ORDERS: Final[Mapping[str, float]] = {"ABCD": 1, "CDAB": 0.5, "BADC": -3, "DCBA": -2}
_FORMATS: Final[Mapping[str, tuple[int, str]]] = {
    "uint16": (1, "H"), "int16": (1, "h"), "float16": (1, "e"),
    "uint32": (2, "I"), "int32": (2, "i"), "float32": (2, "f"),
    "uint64": (4, "Q"), "int64": (4, "q"), "float64": (4, "d"),
}  # fmt: skip
_BCD: Final[Mapping[str, int]] = {"bcd16": 1, "bcd32": 2}
_MANTISSA: Final[Mapping[str, int]] = {"float16": 10, "float32": 23, "float64": 52}
_SHORT_TEXT: Final = -8.0
"""What a text of one or two registers is worth less: texts are seldom so short, and four letters are a float too."""
_SIGNED: Final[Mapping[str, str]] = {"int16": "uint16", "int32": "uint32", "int64": "uint64"}


@dataclass(frozen=True, slots=True)
class Interpretation:
    """Registers read in one way. `keys` are what a tag of the config says; `offset` counts registers from the first.

    `score` is in bits; `share` is its plausibility among all, 0 to 1. `scale` and `match` are set by an expected value.
    """

    type: str
    byte_order: str
    values: tuple[Any, ...]
    score: float
    offset: int = 0
    length: int | None = None
    byte: str | None = None
    note: str = ""
    share: float = 0.0
    scale: str | None = None
    match: str = ""

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of a tag that reads it so."""
        found: dict[str, Any] = {"type": self.type}
        if self.byte_order != "ABCD":
            found["byte_order"] = self.byte_order
        if self.byte is not None:
            found["byte"] = self.byte
        if self.length is not None:
            found["length"] = self.length
        elif len(self.values) > 1 and self.type != "bool":
            found["count"] = len(self.values)
        if self.scale is not None:
            found["scale"] = float(self.scale) if "." in self.scale else int(self.scale)
        return found


def interpret(registers: Sequence[int]) -> list[Interpretation]:
    """Read registers in every way that takes all of them; the most plausible first. Give at least one, and `MOST`."""
    found = list(_unique(_all(tuple(registers), 0)))
    total = sum(2.0**one.score for one in found)
    ranked = [replace(one, share=2.0**one.score / total) for one in found]
    return sorted(ranked, key=lambda one: -one.score)


def interpret_windows(registers: Sequence[int]) -> list[Interpretation]:
    """Read every value of up to four registers, wherever among them it begins, and all of them as text."""
    found: list[Interpretation] = []
    for width, offset in product((1, 2, 4), range(len(registers))):
        window = tuple(registers[offset : offset + width])
        if len(window) == width:
            found += (one for one in _all(window, offset) if len(one.values) == 1 and one.type != "string")
    return list(_unique(found))


def _all(registers: tuple[int, ...], offset: int) -> Iterator[Interpretation]:
    for kind, (width, code) in _FORMATS.items():
        if len(registers) % width == 0:
            yield from _numbers(kind, width, code, registers, offset)
    for kind, width in _BCD.items():
        if len(registers) % width == 0:
            yield from _decimals(kind, width, registers, offset)
    yield from _texts(registers, offset)
    yield from _bytes(registers, offset)
    if len(registers) == 1:
        bits = tuple(bool(registers[0] >> bit & 1) for bit in range(16))
        yield Interpretation("bool", "ABCD", bits, _COMMON["bool"] + 16.0 - 4.0 * sum(bits), offset)


def _numbers(kind: str, width: int, code: str, registers: tuple[int, ...], offset: int) -> Iterator[Interpretation]:
    for order in _ORDERS if width > 1 else ("ABCD", "BADC"):
        laid = b"".join(arrange(registers[at : at + width], order) for at in range(0, len(registers), width))
        values = struct.unpack(f">{len(registers) // width}{code}", laid)
        if kind in _MANTISSA and not all(map(math.isfinite, values)):
            continue
        worth = sum(16 * width - _cost(kind, value) for value in values)
        yield Interpretation(kind, order, values, worth + _COMMON[kind] + _ORDERS[order], offset)


def _cost(kind: str, value: float) -> float:
    if kind not in _MANTISSA:
        return surprise.cost_of_integer(int(value))
    digits = surprise.digits_of_float64(value) if kind == "float64" else surprise.digits_of_float32(value)
    return surprise.cost_of_float(value, digits, _MANTISSA[kind])


def _decimals(kind: str, width: int, registers: tuple[int, ...], offset: int) -> Iterator[Interpretation]:
    """Read packed decimals: a digit in each half byte."""
    for order in _ORDERS if width > 1 else ("ABCD", "BADC"):
        words = [arrange(registers[at : at + width], order).hex() for at in range(0, len(registers), width)]
        if all(map(str.isdecimal, words)):
            values = tuple(map(int, words))
            worth = sum(16 * width - surprise.cost_of_integer(value) for value in values)
            yield Interpretation(kind, order, values, worth + _COMMON[kind] + _ORDERS[order], offset)


def _texts(registers: tuple[int, ...], offset: int) -> Iterator[Interpretation]:
    for order in ("ABCD", "BADC"):
        text = b"".join(arrange((register,), order) for register in registers)
        cost = surprise.cost_of_text(text)
        if cost is not None:
            worth = 8 * len(text) - cost + _COMMON["string"] + _ORDERS[order] + (_SHORT_TEXT if len(text) <= 4 else 0)
            value = text.partition(b"\0")[0].rstrip(b" ").decode("ascii", "replace")
            yield Interpretation("string", order, (value,), worth, offset, length=len(text))


def _bytes(registers: tuple[int, ...], offset: int) -> Iterator[Interpretation]:
    if len(registers) > 1:
        values = tuple(b"".join(arrange((register,), "ABCD") for register in registers))
        worth = sum(8 - surprise.cost_of_integer(value) for value in values)
        yield Interpretation("uint8", "ABCD", values, worth + _COMMON["uint8"] + _ORDERS["ABCD"], offset)
        return
    for byte, value in (("high", registers[0] >> 8), ("low", registers[0] & 0xFF)):
        worth = 8 - surprise.cost_of_integer(value)
        yield Interpretation("uint8", "ABCD", (value,), worth + _COMMON["uint8"], offset, byte=byte)


def arrange(registers: Sequence[int], order: str) -> bytes:
    """Give the bytes of a value from the most significant on, as a byte order says that they lie in registers."""
    words = reversed(registers) if order in {"CDAB", "DCBA"} else registers
    return b"".join(word.to_bytes(2, "little" if order in {"BADC", "DCBA"} else "big") for word in words)


def _unique(found: Iterator[Interpretation] | list[Interpretation]) -> Iterator[Interpretation]:
    """Leave out a signed reading where the unsigned one gives the same values, and say so in that one's note."""
    every = list(found)
    unsigned = {(one.type, one.byte_order, one.offset, one.values) for one in every}
    same = {
        (_SIGNED[one.type], one.byte_order, one.offset)
        for one in every
        if (_SIGNED.get(one.type), one.byte_order, one.offset, one.values) in unsigned
    }
    for one in every:
        if (_SIGNED.get(one.type), one.byte_order, one.offset) in same:
            continue
        if (one.type, one.byte_order, one.offset) in same:
            yield replace(one, note=f"{one.type[1:]} reads the same")
        else:
            yield one
