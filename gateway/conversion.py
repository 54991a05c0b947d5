"""What becomes of the values that a driver read: scaled, named, held against their limits. No I/O, no memory."""

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from operator import le
from typing import Any, Final

from gateway.columns import picker
from gateway.drivers.base import Tag
from gateway.model import Value
from gateway.scaling import FLOAT32, Exact, Scaler, SevenDigits, exact_all, scaler, seven_digits_all

TYPE_MISMATCH: Final = "bad:type-mismatch"
OUT_OF_RANGE: Final = "bad:out-of-range"
UNMAPPED: Final = "uncertain:unmapped"

_NUMBERS: Final[frozenset[type]] = frozenset({int, float})
_INTEGERS: Final = {int}
_FLOAT32: Final = struct.Struct("f")

Convert = Callable[[Sequence[Value]], Sequence[Value]]
"""Converts one value of each of many tags. Raises TypeError, OverflowError or KeyError if any of them cannot be."""
Marks = Mapping[int, str]
"""Qualities, by position, of the values that are not good."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is done to each value of a tag. Tags that are configured alike share one.

    `names` are those of raw whole numbers; `low` and `high` are the limits of the scaled value, infinite where there
    is none; `is_array`: a value is a list, and each of its elements is scaled and limited.
    """

    scale: Scaler | None = None
    names: Mapping[int, str] | None = field(default=None, hash=False)
    low: float = -math.inf
    high: float = math.inf
    is_array: bool = False

    @property
    def is_limited(self) -> bool:
        """Whether there is a value that is out of range."""
        return self.low > -math.inf or self.high < math.inf

    def __call__(self, raw: Value) -> tuple[Value, str]:
        """Convert a value; give it with its quality, "" if it is good. What is bad has no value: None."""
        if not self.is_array:
            return self._convert(raw)
        if raw.__class__ is not list:
            return None, TYPE_MISMATCH
        converted = [self._convert(element) for element in raw]
        bad = next((quality for _, quality in converted if quality), "")
        return None if bad else [value for value, _ in converted], bad

    def _convert(self, raw: Value) -> tuple[Value, str]:
        if self.names is not None:
            return _name(self.names, raw)
        try:
            value = raw if self.scale is None else self.scale(raw)
        except TypeError:
            return None, TYPE_MISMATCH
        except OverflowError:
            return None, OUT_OF_RANGE
        if self.is_limited:
            if type(value) not in _NUMBERS:
                return None, TYPE_MISMATCH
            if not self.low <= value <= self.high:
                return None, OUT_OF_RANGE
        return value, ""


PLAIN: Final = Conversion()
"""The conversion of a tag whose values stay as they are."""


def conversion_of(tag: Tag) -> Conversion:
    """Make the conversion of a tag."""
    scale = scaler(tag.value_type, tag.scale, tag.offset)
    if scale is None and tag.scaled and tag.value_type in FLOAT32:
        scale = SevenDigits(1.0, 0.0)  # the driver has multiplied it
    # What an unscaled float32 is held against is a float32 too: one that is meant to be 0.1 is a little more than 0.1.
    is_float32 = scale is None and tag.value_type in FLOAT32
    low = -math.inf if tag.min is None else _limit(tag.min, is_float32=is_float32)
    high = math.inf if tag.max is None else _limit(tag.max, is_float32=is_float32)
    made = Conversion(scale, tag.map, low, high)
    if made == PLAIN:
        return PLAIN
    return made if getattr(tag, "count", None) is None else replace(made, is_array=True)


def convert_one_by_one(conversions: Sequence[Conversion], raw: Sequence[Value]) -> tuple[Sequence[Value], Marks]:
    """Convert one value of each tag; give them with the qualities of those that are not good."""
    marks: dict[int, str] = {}
    return _convert_each(conversions, range(len(conversions)), raw, marks), marks


class Conversions:
    """The conversions of one set of tags, compiled: what is done to all values together costs no call for each."""

    def __init__(self, conversions: Sequence[Conversion]) -> None:
        count = len(conversions)
        positions: dict[type, list[int]] = {}
        for position, each in enumerate(conversions):
            positions.setdefault(_group(each), []).append(position)
        self._groups = [
            (picker(found, count), _converter(group, [conversions[at] for at in found]), found)
            for group, found in positions.items()
        ]
        self._conversions = conversions
        order = list(chain.from_iterable(positions.values()))
        self._arrange = picker(sorted(range(count), key=order.__getitem__), count)
        self._limited = [at for at, each in enumerate(conversions) if each.is_limited and not each.is_array]
        self._pick_limited = picker(self._limited, count)
        self._lows = [conversions[at].low for at in self._limited]
        self._highs = [conversions[at].high for at in self._limited]

    def __call__(self, raw: Sequence[Value]) -> tuple[Sequence[Value], Marks]:
        """Convert one value of each tag; give them with the qualities of those that are not good."""
        marks: dict[int, str] = {}
        parts = [self._convert(pick(raw), convert, positions, marks) for pick, convert, positions in self._groups]
        values = self._arrange(parts[0] if len(parts) == 1 else tuple(chain.from_iterable(parts)))
        if self._limited and not self._are_within(self._pick_limited(values)):
            values = self._limit(values, marks)
        return values, marks

    def _convert(
        self, picked: Sequence[Value], convert: Convert | None, positions: Sequence[int], marks: dict[int, str]
    ) -> Sequence[Value]:
        if convert is not None:
            try:
                return convert(picked)
            except (TypeError, OverflowError, KeyError):
                pass  # one of them is not as it should be, and costs no other
        return _convert_each(self._conversions, positions, picked, marks)

    def _are_within(self, limited: Sequence[Value]) -> bool:
        return (
            _NUMBERS.issuperset(map(type, limited))
            and all(map(le, self._lows, limited))
            and all(map(le, limited, self._highs))
        )

    def _limit(self, values: Sequence[Value], marks: dict[int, str]) -> list[Value]:
        kept = list(values)
        for position, low, high in zip(self._limited, self._lows, self._highs, strict=True):
            value = kept[position]
            if position in marks:
                continue
            if type(value) not in _NUMBERS:
                kept[position], marks[position] = None, TYPE_MISMATCH
            elif not low <= value <= high:
                kept[position], marks[position] = None, OUT_OF_RANGE
        return kept


def _limit(limit: Decimal, *, is_float32: bool) -> float:
    if is_float32:
        try:
            (rounded,) = _FLOAT32.unpack(_FLOAT32.pack(limit))
        except OverflowError:
            return math.copysign(math.inf, limit)
        return float(rounded)
    # Python compares an int with a float exactly, however large it is.
    return int(limit) if limit == limit.to_integral_value() else float(limit)


def _name(names: Mapping[int, str], raw: Value) -> tuple[Value, str]:
    if type(raw) not in _NUMBERS:
        return None, TYPE_MISMATCH
    name = names.get(raw)
    return (raw, UNMAPPED) if name is None else (name, "")


def _convert_each(
    conversions: Sequence[Conversion], positions: Iterable[int], picked: Sequence[Value], marks: dict[int, str]
) -> list[Value]:
    """Convert one by one the values of these positions; mark those that are not good."""
    values = []
    for position, raw in zip(positions, picked, strict=True):
        conversion = conversions[position]
        value, quality = (raw, "") if conversion is PLAIN else conversion(raw)
        values.append(value)
        if quality:
            marks[position] = quality
    return values


def _group(conversion: Conversion) -> type:
    """Say what is compiled together: what has one kind of scaler, or none, what has names; arrays are not."""
    if conversion.is_array:
        return list
    return type(conversion.scale) if conversion.names is None else dict


def _converter(group: type, conversions: Sequence[Conversion]) -> Convert | None:
    scales: list[Any] = [each.scale for each in conversions]
    if group is Exact:
        return exact_all(scales)
    if group is SevenDigits:
        return seven_digits_all(scales)
    if group is dict:
        return _names_all([each.names or {} for each in conversions])
    return None if group is list else lambda values: values


def _names_all(all_names: Sequence[Mapping[int, str]]) -> Convert:
    def named(values: Sequence[Value]) -> list[Value]:
        if set(map(type, values)) != _INTEGERS:
            raise TypeError("a value is no whole number")
        return [names[raw] for names, raw in zip(all_names, values, strict=True)]

    return named
