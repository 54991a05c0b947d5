"""Which readings of registers agree with what the device shows on its own display."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Final

from gateway.commissioning.interpretations import Interpretation

SCALES: Final = ("1", "0.1", "0.01", "0.001", "10", "100", "1000")
"""The factors between what a register holds and what a display shows, the usual ones first."""
_NEAR: Final = Decimal("0.02")
"""The share by which a value may have moved between the look at the display and the read."""
_RARER: Final = 1.5
"""Bits by which each scale is less usual than the one before it."""
SAME, NEAR = "as expected", "near it"


def rank_by(expected: Decimal, found: Iterable[Interpretation]) -> list[Interpretation]:
    """Give the readings that agree with an expected value, each with the scale under which it does; best first.

    A reading is `as expected` within half a unit of the last digit that was written: 21.5 is 21.45 to 21.55. It is
    `near it` within 2 %. Among equals the more plausible one wins, a rarer scale counting against it.
    """
    agreeing = [match for one in found for match in _matches(expected, one)]
    return sorted(agreeing, key=lambda one: (one.match != SAME, -_worth(one), one.offset))


def _worth(one: Interpretation) -> float:
    return one.score - _RARER * SCALES.index(one.scale or "1")


def _matches(expected: Decimal, one: Interpretation) -> Iterator[Interpretation]:
    if len(one.values) != 1 or isinstance(one.values[0], str | bool):
        return
    raw = Decimal(repr(one.values[0]))
    for scale in SCALES:
        match = _agreement(expected, raw * Decimal(scale))
        if match:
            yield replace(one, scale=None if scale == "1" else scale, match=match)


def _agreement(expected: Decimal, value: Decimal) -> str:
    exponent = expected.as_tuple().exponent
    half_a_digit = Decimal((0, (5,), (exponent if isinstance(exponent, int) else 0) - 1))
    if abs(value - expected) <= half_a_digit:
        return SAME
    return NEAR if expected and abs(value - expected) <= abs(expected) * _NEAR else ""
