"""The decimal number that stands for a 32-bit float."""

import struct
from typing import Final

_FLOAT32: Final = struct.Struct("<f")


def shortest(number: float) -> float:
    """Give the shortest decimal, of at most nine digits, that reads back to the same finite float32.

    Nine significant digits always identify a binary32 (IEEE 754-2019 section 5.12.2).
    """
    wanted = _FLOAT32.pack(number)
    for digits in "678":
        decimal = float(format(number, f".{digits}g"))
        try:
            if _FLOAT32.pack(decimal) == wanted:
                return decimal
        except OverflowError:
            continue  # rounded up past the largest float32
    return float(format(number, ".9g"))
