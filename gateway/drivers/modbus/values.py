"""What is no plain number in the registers: strings, BCD, arrays; values that stand for none; powers of ten."""

import math
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from gateway.drivers.modbus.fields import Field
from gateway.model import Value

NOT_A_NUMBER: Final = "not-a-number"
INVALID_STRING: Final = "invalid-string"
INVALID_BCD: Final = "invalid-bcd"
NOT_IMPLEMENTED: Final = "not-implemented"
OUT_OF_RANGE: Final = "out-of-range"
"""Reasons for a bad value whose registers were read: a NaN or an infinity; bytes that are no text in the encoding; a
digit above 9; a raw value that means that there is none; a product that no float can hold."""

FORMATS: Final = {
    "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float16": "e", "float32": "f", "float64": "d", "bcd16": "H", "bcd32": "I",
}  # fmt: skip
"""How `struct` names the types."""
FLOATS: Final = frozenset({"float16", "float32", "float64"})
BCD: Final = frozenset({"bcd16", "bcd32"})
_LARGEST_POWER: Final = 10
"""SunSpec Information Model Specification: a scale factor is -10 to 10."""

Convert = Callable[[Any], Value]
"""Makes a value of what was unpacked. Raises BadValue."""


class BadValue(Exception):  # noqa: N818 -- it is what came, not what failed
    """Registers that were read hold no value; `str` is the reason."""


def converter(field: Field, endian: str) -> Convert | None:
    """Give what makes a value of the unpacked bytes of a field; None where they are the value, or one of its bits.

    `endian` is how the numbers of an array lie in its bytes, as `struct` writes it.
    """
    if field.type == "string":
        return _text(field.encoding, field.padding)
    if field.count is not None:
        return _array(field, endian)
    return _bcd(field.invalid) if field.type in BCD else None


def _text(encoding: str, padding: str | None) -> Convert:
    """Read text: without `padding` it ends before the first NUL, and spaces at its end are left out."""
    nul = bytes(max(1, len("aa".encode(encoding)) - len("a".encode(encoding))))

    def text(raw: bytes) -> str:
        try:
            if padding is not None:
                found = raw.decode(encoding).rstrip(padding)
            else:
                found = _before(raw, nul).decode(encoding).rstrip(" ")
            found.encode()  # some encodings hold halves of surrogate pairs, which no message can carry
        except ValueError as error:
            raise BadValue(INVALID_STRING) from error
        return found

    return text


def _before(raw: bytes, nul: bytes) -> bytes:
    """Give what comes before the first NUL, of as many bytes as a character of the encoding has."""
    if len(nul) == 1:
        return raw.partition(nul)[0]
    ends = (at for at in range(0, len(raw), len(nul)) if raw[at : at + len(nul)] == nul)
    return raw[: next(ends, len(raw))]


def _bcd(invalid: frozenset[int | float]) -> Convert:
    """Read a decimal digit from each four bits.

    What stands for none is compared with the number, and where the bits are none, with the bits: 0xFFFF.
    """

    def number(raw: int) -> int:
        try:
            value = int(f"{raw:x}")
        except ValueError as error:
            raise BadValue(NOT_IMPLEMENTED if raw in invalid else INVALID_BCD) from error
        if value in invalid:
            raise BadValue(NOT_IMPLEMENTED)
        return value

    return number


def _array(field: Field, endian: str) -> Convert:
    """Read a row of numbers; one that is bad makes the row bad, as a shorter one would be another."""
    unpack = struct.Struct(f"{endian}{field.count}{FORMATS[field.type]}").unpack_from
    digits = _bcd(field.invalid) if field.type in BCD else None
    floats = field.type in FLOATS

    def row(raw: bytes) -> list[int | float]:
        values: Sequence[Any] = unpack(raw)
        if floats and not all(map(math.isfinite, values)):
            raise BadValue(NOT_A_NUMBER)
        if digits is not None:
            return list(map(digits, values))
        if not field.invalid.isdisjoint(values):
            raise BadValue(NOT_IMPLEMENTED)
        return list(values)

    return row


def scaled(field: Field, raw: Value, power: int) -> Value:
    """Give raw * 10^power, rounded once; raises BadValue where there is none.

    A float32 has about seven digits, and so has its product: more would be noise that looks like precision.
    """
    if not -_LARGEST_POWER <= power <= _LARGEST_POWER:
        raise BadValue(NOT_IMPLEMENTED)
    if field.count is not None:
        return [_product(field, each, power) for each in raw]
    return _product(field, raw, power)


def _product(field: Field, raw: float, power: int) -> float:
    if isinstance(raw, int):
        return float(raw * 10**power) if power >= 0 else raw / 10**-power
    exact = field.type == "float64"
    value = float(Decimal(repr(raw)).scaleb(power)) if exact else float(f"{raw * 10.0**power:.7g}")
    if math.isinf(value):
        raise BadValue(OUT_OF_RANGE)
    return value
