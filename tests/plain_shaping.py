"""Shaping told once more, one value at a time and with nothing compiled: what the fast way is held against."""

import math
import struct
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from gateway.drivers.base import DeviceSection, Percent, Tag
from gateway.model import Sample

BadValue = tuple[None, str]


class PlainShaper:
    """Shapes samples as the contract words it: what is sent, and what is remembered of it, by the tags' names."""

    def __init__(self, section: DeviceSection) -> None:
        self.section = section
        self.bad: dict[str, str] = {}
        self.sent: dict[str, tuple[Any, str, float]] = {}

    def clear(self) -> None:
        """Forget what was sent."""
        self.sent.clear()

    def shape(self, raw: Sample, now: float) -> Sample | None:
        """Give what is to be sent of a sample."""
        read: dict[str, tuple[Any, str]] = {name: (None, text) for name, text in raw.quality.items()}
        for column, value in zip(raw.columns, raw.values, strict=True):
            tag = self.section.tags[column]
            made, quality = converted(tag, value)
            own = raw.quality.get(tag.name, "")
            read[tag.name] = (made, quality if quality.startswith("bad:") else own or quality)
        due = [tag for tag in self.section.tags if tag.name in read and self._is_due(tag, *read[tag.name], now)]
        for tag in due:
            self.sent[tag.name] = (*read[tag.name], now)
        self.bad |= {name: quality for name, (_, quality) in read.items() if quality}
        for name, (_, quality) in read.items():
            if not quality:
                self.bad.pop(name, None)
        return self._sample(raw, due, read)

    def _sample(self, raw: Sample, due: list[Tag], read: Mapping[str, tuple[Any, str]]) -> Sample | None:
        if not due:
            return None
        told = {tag.name: quality for tag in due if (quality := read[tag.name][1])}
        columns = [at for at, tag in enumerate(self.section.tags) if tag in due and not is_bad(told.get(tag.name, ""))]
        values = tuple(read[self.section.tags[column].name][0] for column in columns)
        return Sample(raw.ts, tuple(columns), values, len(due), told, raw.rx, raw.clock)

    def _is_due(self, tag: Tag, value: Any, quality: str, now: float) -> bool:
        if tag.name not in self.sent or (tag.deadband is None and not is_bad(quality)):
            return True
        last, last_quality, at = self.sent[tag.name]
        if self.bad.get(tag.name, "") != quality or last_quality != quality:
            return True
        if now - at >= self.section.heartbeat_of(tag) - self.section.interval_of(tag) / 2:
            return True
        return not is_bad(quality) and left(tag, last, value)


def is_bad(quality: str) -> bool:
    """Whether a tag of this quality has no value."""
    return quality.startswith("bad:")


def left(tag: Tag, last: Any, value: Any) -> bool:
    """Whether a value is further from the last one than the deadband."""
    if type(last) is not type(value) or type(value) not in (int, float):
        return repr(last) != repr(value)
    distance = tag.deadband
    if isinstance(distance, Percent):
        low, high = tag.range or (Decimal(0), Decimal(0))
        distance = distance.share * (high - low)
    assert distance is not None
    return abs(value - last) > float(distance) * (1 + 1e-9)


def converted(tag: Tag, raw: Any) -> tuple[Any, str]:
    """Convert a value; give it with its quality."""
    has_work = tag.scale is not None or tag.offset is not None or tag.min is not None or tag.max is not None
    if not getattr(tag, "count", None) or not (has_work or tag.map is not None):
        return one(tag, raw)
    if type(raw) is not list:
        return None, "bad:type-mismatch"
    elements = [one(tag, element) for element in raw]
    for _, quality in elements:
        if quality:
            return None, quality
    return [value for value, _ in elements], ""


def one(tag: Tag, raw: Any) -> tuple[Any, str]:
    """Convert what is no array."""
    is_number = type(raw) in (int, float)
    if tag.map is not None:
        if not is_number:
            return None, "bad:type-mismatch"
        return (tag.map[raw], "") if raw in tag.map else (raw, "uncertain:unmapped")
    if not is_number and (tag.scale is not None or tag.offset is not None):
        return None, "bad:type-mismatch"
    try:
        value = scaled(tag, raw)
    except OverflowError:
        return None, "bad:out-of-range"
    if tag.min is None and tag.max is None:
        return value, ""
    if not is_number:
        return None, "bad:type-mismatch"
    return (value, "") if within(tag, value) else (None, "bad:out-of-range")


def scaled(tag: Tag, raw: Any) -> Any:
    """Scale a number, with fractions."""
    if tag.scale is None and tag.offset is None:
        return raw
    scale, offset = Decimal(1) if tag.scale is None else tag.scale, tag.offset or Decimal(0)
    if tag.value_type in ("float16", "float32"):
        value = float(f"{raw * float(scale) + float(offset):.6e}")
        if math.isinf(value):
            raise OverflowError
        return value
    exact = Fraction(Decimal(repr(raw))) * Fraction(scale) + Fraction(offset)
    return exact.numerator / exact.denominator


def within(tag: Tag, value: float) -> bool:
    """Whether a value keeps its limits, which are rounded as it is."""
    is_float32 = tag.value_type in ("float16", "float32") and tag.scale is None and tag.offset is None

    def as_seen(limit: Decimal) -> Any:
        if is_float32:
            return struct.unpack("f", struct.pack("f", limit))[0]
        return float(limit) if type(value) is float else limit

    return (tag.min is None or value >= as_seen(tag.min)) and (tag.max is None or value <= as_seen(tag.max))
