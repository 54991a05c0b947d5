"""Which values left the deadband around the one that was last sent. No I/O, no memory of what was sent."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import compress
from operator import gt, sub
from typing import Final

from gateway.columns import picker
from gateway.drivers.base import Percent, Tag
from gateway.model import Value

_STEP: Final = 1 + 1e-9
"""Decimals such as 0.1 have no exact float: a step of just the deadband may come out this much longer."""
_NUMBERS: Final = frozenset({int, float})


def deadband_of(tag: Tag, held_back: float = 0.0) -> float | None:
    """Give a tag's deadband as a distance, which a value has to exceed; None if every read is sent.

    `held_back` is how far the raw value may have gone already when the PLC tells of it (`Driver.held_back`).
    """
    if tag.deadband is None:
        return None
    if isinstance(tag.deadband, Percent):
        low, high = tag.range or (Decimal(0), Decimal(0))
        whole = float(tag.deadband.share * abs(high - low))
    else:
        whole = float(tag.deadband)
    unseen = held_back * abs(float(tag.scale or 1)) if held_back else 0.0
    return max(0.0, whole - unseen) * _STEP


def has_left(last: Value, value: Value, deadband: float) -> bool:
    """Whether a value left the deadband around the one last sent (OPC 10000-4 section 7.22.2: by more than it)."""
    kind = value.__class__
    if last.__class__ is not kind:
        return True
    if kind in _NUMBERS:
        return bool(abs(value - last) > deadband)
    if kind is list or kind is dict:
        return repr(last) != repr(value)  # for [1] == [True]
    return bool(last != value)


class Deadbands:
    """The deadbands of one set of tags, compiled: as long as types stay, numbers are compared without a step each."""

    def __init__(self, deadbands: Sequence[float]) -> None:
        self._deadbands = deadbands
        self._sort([float] * len(deadbands))

    def __call__(self, values: Sequence[Value], last: Sequence[Value]) -> list[int]:
        """Give the positions of the values that left their deadbands around the last ones."""
        kinds = list(map(type, values))
        if kinds != list(map(type, last)):
            terms = enumerate(zip(last, values, self._deadbands, strict=True))
            return [position for position, (sent, value, deadband) in terms if has_left(sent, value, deadband)]
        if kinds != self._kinds:
            self._sort(kinds)
        distances = map(abs, map(sub, self._pick(values), self._pick(last)))
        left = list(compress(self._numbers, map(gt, distances, self._distances)))
        if self._others:
            left += [at for at in self._others if has_left(last[at], values[at], 0)]
            left.sort()
        return left

    def _sort(self, kinds: list[type]) -> None:
        """Tell numbers from what is equal or not."""
        self._kinds = kinds
        numbers = [position for position, kind in enumerate(kinds) if kind in _NUMBERS]
        self._others = [position for position, kind in enumerate(kinds) if kind not in _NUMBERS]
        self._numbers: Sequence[int] = numbers if self._others else range(len(kinds))
        self._pick = picker(numbers, len(kinds))
        self._distances = [self._deadbands[at] for at in numbers] if self._others else self._deadbands
