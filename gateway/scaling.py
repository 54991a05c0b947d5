"""value = raw * scale + offset: exact, rounded once."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gateway.model import Value

Scaler = Callable[[Value], float]
"""Gives the scaled value. Raises TypeError if the raw value is no number, OverflowError if no float is large enough."""

_FLOAT32: Final = "float32"


def scaler(value_type: str | None, scale: Decimal | None, offset: Decimal | None) -> Scaler | None:
    """Make the function that scales raw values of a type; None where there is nothing to do.

    Integers, and floats as the decimals that they print as, are scaled exactly and rounded once: 214 * 0.1 is
    21.4, and 21.4 * 0.1 is 2.14. A float32 has about seven digits, so its product is rounded to seven: more would be
    noise that looks like precision.
    """
    if scale is None and offset is None:
        return None
    scale, offset = Decimal(1) if scale is None else scale, offset or Decimal(0)
    if value_type == _FLOAT32:
        return _seven_digits(float(scale), float(offset))
    return _exact(Fraction(scale), Fraction(offset))


def _seven_digits(scale: float, offset: float) -> Scaler:
    def scaled(raw: Value) -> float:
        value = float(f"{raw * scale + offset:.7g}")
        if math.isinf(value):
            raise OverflowError(f"{raw!r} cannot be scaled")
        return value

    return scaled


def _exact(scale: Fraction, offset: Fraction) -> Scaler:
    # (raw * n + o) / d with one common d: Python's int / int is correctly rounded, and ten times a Fraction's speed.
    divisor = scale.denominator * offset.denominator
    factor = scale.numerator * offset.denominator
    summand = offset.numerator * scale.denominator

    def scaled(raw: Value) -> float:
        if raw.__class__ is int:
            return float((raw * factor + summand) / divisor)
        if raw.__class__ is not float:
            raise TypeError(f"{raw!r} is no number")
        numerator, denominator = Decimal(repr(raw)).as_integer_ratio()
        return float((numerator * factor + summand * denominator) / (divisor * denominator))

    return scaled
