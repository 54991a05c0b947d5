"""value = raw * scale + offset: exact, rounded once; for one value, or for a column of each of many tags at once."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from operator import truediv
from typing import Any, Final

from gateway.model import Value

FLOAT32: Final = frozenset({"float32", "float16"})
"""Types of about seven significant digits, or fewer."""
_INTEGERS: Final = {int}
_FLOATS: Final = {float}

ScaleAll = Callable[[Sequence[Any]], list[float]]
"""Scales one value of each of many tags. Raises TypeError or OverflowError if any of them cannot be."""


@dataclass(frozen=True, slots=True)
class Exact:
    """Scales integers, and floats as the decimals that they print as: 214 * 0.1 is 21.4, and 21.4 * 0.1 is 2.14.

    It is (raw * factor + summand) / divisor in integers: Python's int / int is correctly rounded, and ten times a
    Fraction's speed.
    """

    factor: int
    summand: int
    divisor: int

    def __call__(self, raw: Value) -> float:
        """Scale a value. Raises TypeError if it is no number, OverflowError if no float is large enough."""
        if raw.__class__ is int:
            return float((raw * self.factor + self.summand) / self.divisor)
        if raw.__class__ is not float:
            raise TypeError(f"{raw!r} is no number")
        numerator, denominator = Decimal(repr(raw)).as_integer_ratio()
        return float((numerator * self.factor + self.summand * denominator) / (self.divisor * denominator))


@dataclass(frozen=True, slots=True)
class SevenDigits:
    """Scales values of which seven digits mean something: more would be noise that looks like precision."""

    scale: float
    offset: float

    def __call__(self, raw: Value) -> float:
        """Scale a value. Raises TypeError if it is no number, OverflowError if no float is large enough."""
        if raw.__class__ is not float and raw.__class__ is not int:
            raise TypeError(f"{raw!r} is no number")
        value = float(f"{raw * self.scale + self.offset:.7g}")
        if math.isinf(value):
            raise OverflowError(f"{raw!r} cannot be scaled")
        return value


Scaler = Exact | SevenDigits


def scaler(value_type: str | None, scale: Decimal | None, offset: Decimal | None) -> Scaler | None:
    """Make what scales raw values of a type; None where there is nothing to do."""
    if scale is None and offset is None:
        return None
    scale, offset = Decimal(1) if scale is None else scale, offset or Decimal(0)
    if value_type in FLOAT32:
        return SevenDigits(float(scale), float(offset))
    factor, summand = Fraction(scale), Fraction(offset)
    return Exact(
        factor.numerator * summand.denominator,
        summand.numerator * factor.denominator,
        factor.denominator * summand.denominator,
    )


def exact_all(scalers: Sequence[Exact]) -> ScaleAll:
    """Make what scales one value of each tag as `Exact` does."""
    factors = [each.factor for each in scalers]
    summands = [each.summand for each in scalers]
    divisors = [each.divisor for each in scalers]
    divides_only = set(factors) <= {1} and set(summands) <= {0}

    def scaled(values: Sequence[Any]) -> list[float]:
        if set(map(type, values)) != _INTEGERS:
            return [scale(raw) for scale, raw in zip(scalers, values, strict=True)]
        if divides_only:
            return list(map(truediv, values, divisors))
        terms = zip(values, factors, summands, divisors, strict=True)
        return [(raw * factor + summand) / divisor for raw, factor, summand, divisor in terms]

    return scaled


def seven_digits_all(scalers: Sequence[SevenDigits]) -> ScaleAll:
    """Make what scales one value of each tag as `SevenDigits` does."""
    scales = [each.scale for each in scalers]
    offsets = [each.offset for each in scalers]

    def scaled(values: Sequence[Any]) -> list[float]:
        if set(map(type, values)) != _FLOATS:
            return [scale(raw) for scale, raw in zip(scalers, values, strict=True)]
        terms = zip(values, scales, offsets, strict=True)
        found = [float(f"{raw * scale + offset:.7g}") for raw, scale, offset in terms]
        if not all(map(math.isfinite, found)):
            raise OverflowError("a value cannot be scaled")
        return found

    return scaled
