"""The decimal numbers that stand for 32-bit floats: as few digits as it takes to read back to the same float."""

import struct
from collections.abc import Sequence
from typing import Final

_MOST_DIGITS: Final = 9
"""Nine significant decimal digits always identify a binary32 (IEEE 754-2019 section 5.12.2)."""


def shortest(values: Sequence[float]) -> list[float]:
    """Give for each 32-bit float the float64 that prints with 7 digits, or 8 or 9 where 7 do not read back.

    Trailing zeros are not printed, so 0.1 read from a register is 0.1 again, not 0.10000000149011612.
    """
    return _shortest(values, digits=7)


def _shortest(values: Sequence[float], digits: int) -> list[float]:
    rounded = _rounded(values, digits)
    packing = struct.Struct(f"{len(values)}f")
    want, have = packing.pack(*values), packing.pack(*rounded)
    if want == have or digits == _MOST_DIGITS:
        return rounded
    unlike = [at for at, (a, b) in enumerate(zip(packing.unpack(want), packing.unpack(have), strict=True)) if a != b]
    for at, better in zip(unlike, _shortest([values[at] for at in unlike], digits + 1), strict=True):
        rounded[at] = better
    return rounded


def _rounded(values: Sequence[float], digits: int) -> list[float]:
    # One format operation for all of them is much faster than one for each.
    return list(map(float, (f"%.{digits}g " * len(values) % tuple(values)).split()))
