"""How unlikely it is that registers hold a value by chance: what `decode` ranks its readings by.

A value is worth `surprise = size - cost` bits. `size` is how many bits its registers have, `cost` how many it takes
to write the value down the way people choose values: few digits, a size that things in a plant have, letters that
make words. Registers that are read in a wrong way hold noise, which costs about as much as it is long: 0 bits.

- An integer costs the logarithm of its size, or less where it is round: 100000 is one digit and a place.
- A float costs its digits (those of the shortest decimal that reads back to it, at most its mantissa), and 1.5 bits
  for each power of ten that it is beyond 0.001 to 1,000,000.
- A letter costs 4.7 bits after one of its kind and a digit 3.3; any other change of kind, and other signs, more.

Zero costs next to nothing in every type: registers that are all zero say nothing about their type.
"""

import math
import struct
from typing import Final

_SIGN: Final = 1.0
"""Bits that a minus costs: most quantities are positive."""
_DECADES: Final = 3.2
"""Bits that say which power of ten from 0.001 to 1,000,000 a float has."""
_BEYOND: Final = 1.5
"""Bits for each power of ten outside of it."""
_LOWEST: Final = -3
_HIGHEST: Final = 5
_OTHER: Final = 7.5
_FILLER: Final = 0.5
"""Bits of a NUL or space after the text's end."""


def cost_of_integer(value: int) -> float:
    """Give the bits that it takes to write a whole number."""
    size = abs(value)
    digits = str(size).rstrip("0") or "0"
    places = len(str(size)) - len(digits)
    by_size = math.log2(size + 1)
    by_digits = math.log2(9 * 10.0 ** (len(digits) - 1)) + math.log2(places + 1) + 1
    return min(by_size, by_digits) + (_SIGN if value < 0 else 0.0)


def cost_of_float(value: float, digits: int, mantissa: int) -> float:
    """Give the bits that it takes to write a float of so many significant digits, with so many bits of mantissa."""
    if value == 0:
        return 1.0
    power = math.floor(math.log10(abs(value)))
    beyond = max(_LOWEST - power, power - _HIGHEST, 0)
    written = min(math.log2(9 * 10.0 ** (digits - 1)), mantissa)
    return written + _DECADES + _BEYOND * beyond + (_SIGN if value < 0 else 0.0)


def cost_of_text(text: bytes) -> float | None:
    """Give the bits that it takes to write a text; None if it holds what no text does, or nothing at all."""
    body = text.rstrip(b"\0 ")
    if not body or not all(0x20 <= byte < 0x7F for byte in body):
        return None
    cost = _FILLER * (len(text) - len(body))
    before = ""
    for byte in body:
        kind = _kind(byte)
        cost += _cost_of_sign(kind, before)
        before = kind
    return cost


def _kind(byte: int) -> str:
    sign = chr(byte)
    if sign.isdigit():
        return "digit"
    if sign.isalpha():
        return "upper" if sign.isupper() else "lower"
    return "space" if sign in " -_./" else "other"


def _cost_of_sign(kind: str, before: str) -> float:
    if kind == "other":
        return _OTHER
    if kind == "digit":
        return 3.3 if before == "digit" else 5.0
    if kind == "space":
        return 5.0
    if kind == before or (kind, before) in {("lower", "upper"), ("upper", ""), ("upper", "space"), ("lower", "space")}:
        return 4.7
    return 6.5


def digits_of_float32(value: float) -> int:
    """Count the significant digits of the shortest decimal that reads back to the same float32."""
    packed = struct.pack(">f", value)
    for digits in range(1, 9):
        shortened = float(f"{value:.{digits - 1}e}")
        if abs(shortened) <= _LARGEST_FLOAT32 and struct.pack(">f", shortened) == packed:
            return digits
    return 9


def digits_of_float64(value: float) -> int:
    """Count the significant digits of the shortest decimal that reads back to the same float64."""
    mantissa = repr(value).partition("e")[0]
    return len(mantissa.replace(".", "").lstrip("-0").rstrip("0")) or 1


_LARGEST_FLOAT32: Final = 3.4028234e38
