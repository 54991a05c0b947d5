"""What a driver read becomes what is sent: scaled, and without what deadband leaves out. No I/O."""

import math
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache

from gateway.drivers.base import DeviceSection, Percent, Tag
from gateway.model import ALL_TAGS, Sample, Value
from gateway.scaling import Scaler, scaler

_NEVER = -math.inf
_STEP = 1 + 1e-9
"""Decimals such as 0.1 have no exact float: a step of just the deadband may come out this much longer."""
_UNSCALABLE = {TypeError: "bad:type-mismatch", OverflowError: "bad:out-of-range"}


class Shaper:
    """Shapes the samples of one device. It remembers, in memory only, what was last sent of each tag.

    `clear` forgets it, and so does `all_bad`: at start, at every reconnect, and after any drop that touches the
    device, the next read is sent whole. `bad` is how the tags that are not good stand now. `follows` is set for a
    device that notifies: then `stale` knows which tags were silent. `heartbeat` is the shortest among the tags'.
    """

    def __init__(self, section: DeviceSection) -> None:
        tags = section.tags
        self.bad: dict[str, str] = {}
        self.follows = False
        self._names = tuple(tag.name for tag in tags)
        self._column = {name: column for column, name in enumerate(self._names)}
        self._scalers = tuple(scaler(tag.value_type, tag.scale, tag.offset) for tag in tags)
        self._scalers_of = lru_cache(maxsize=64)(self._pick_scalers)
        self._deadbands = tuple(_deadband(tag) for tag in tags)
        self._sends_all = all(deadband is None for deadband in self._deadbands)
        # Reads come a little early or late: the one that is nearest to the heartbeat is the one to send.
        self._heartbeats = tuple(section.heartbeat_of(tag) - section.interval_of(tag) / 2 for tag in tags)
        self.heartbeat = min(map(section.heartbeat_of, tags), default=section.heartbeat)
        self.clear()

    def clear(self) -> None:
        """Forget what was sent: everything is sent again."""
        count = len(self._names)
        self._values: list[Value] = [None] * count
        self._qualities: list[str | None] = [None] * count
        self._sent_at = [_NEVER] * count
        self._down: tuple[str, float] | None = None
        self.bad.pop(ALL_TAGS, None)

    def shape(self, raw: Sample, now: float) -> Sample | None:
        """Give what is to be sent of a sample; None if nothing is. `now` is monotonic seconds."""
        if ALL_TAGS in raw.quality:
            return self.all_bad(raw.ts, raw.quality[ALL_TAGS].removeprefix("bad:"), now)
        if self._down is not None:
            self.clear()
        sample = self._scale(raw)
        if self._sends_all and not sample.quality and not self.bad:
            if self.follows:
                for column in sample.columns:
                    self._sent_at[column] = now
            return sample
        return self._select(sample, now)

    def all_bad(self, ts: int, reason: str, now: float) -> Sample | None:
        """Give the sample that says that the whole device is bad: when it becomes so, and at heartbeats."""
        if self._down is not None and self._down[0] == reason and now - self._down[1] < self.heartbeat:
            return None
        self.clear()
        self._down = (reason, now)
        self.bad = {ALL_TAGS: f"bad:{reason}"}
        return Sample.bad(ts, reason, len(self._names))

    def stale(self, now: float) -> tuple[int, ...]:
        """Give the tags that were not sent for a heartbeat: of a device that notifies, they are to be read."""
        return tuple(
            column
            for column, (sent, heartbeat) in enumerate(zip(self._sent_at, self._heartbeats, strict=True))
            if now - sent >= heartbeat
        )

    def _scale(self, raw: Sample) -> Sample:
        scalers = self._scalers_of(raw.columns)
        if scalers is None:
            return raw
        try:
            values = tuple(
                [value if scale is None else scale(value) for value, scale in zip(raw.values, scalers, strict=True)]
            )
        except (TypeError, OverflowError):
            return self._scale_each(raw, scalers)
        return replace(raw, values=values)

    def _scale_each(self, raw: Sample, scalers: tuple[Scaler | None, ...]) -> Sample:
        """Scale one by one where some value cannot be: it is bad, and costs no other."""
        columns, values, quality = [], [], dict(raw.quality)
        for column, value, scale in zip(raw.columns, raw.values, scalers, strict=True):
            try:
                scaled = value if scale is None else scale(value)
            except (TypeError, OverflowError) as error:
                quality[self._names[column]] = _UNSCALABLE[type(error)]
            else:
                columns.append(column)
                values.append(scaled)
        return replace(raw, columns=tuple(columns), values=tuple(values), quality=quality)

    def _pick_scalers(self, columns: tuple[int, ...]) -> tuple[Scaler | None, ...] | None:
        scalers = tuple(self._scalers[column] for column in columns)
        return scalers if any(scalers) else None

    def _select(self, sample: Sample, now: float) -> Sample | None:
        columns, values, quality = [], [], {}
        for column, value in zip(sample.columns, sample.values, strict=True):
            name = self._names[column]
            text = sample.quality.get(name, "")
            if self._is_due(column, value, text, now):
                columns.append(column)
                values.append(value)
                if text:
                    quality[name] = text
                self._remember(column, value, text, now)
        quality |= self._select_bad(sample.quality, now)
        if not columns and not quality:
            return None
        if len(columns) == len(sample.columns) and len(quality) == len(sample.quality):
            return sample
        bad = sum(text.startswith("bad:") for text in quality.values())
        return replace(
            sample, columns=tuple(columns), values=tuple(values), quality=quality, readings=len(columns) + bad
        )

    def _select_bad(self, quality: Mapping[str, str], now: float) -> dict[str, str]:
        """Tell a change of quality at once, once, and at heartbeats."""
        told = {}
        for name, text in quality.items():
            if not text.startswith("bad:"):
                continue
            column = self._column[name]
            if text != self._qualities[column] or now - self._sent_at[column] >= self._heartbeats[column]:
                told[name] = text
                self._remember(column, None, text, now)
        return told

    def _is_due(self, column: int, value: Value, quality: str, now: float) -> bool:
        deadband = self._deadbands[column]
        return (
            deadband is None
            or quality != self._qualities[column]
            or now - self._sent_at[column] >= self._heartbeats[column]
            or _moved(self._values[column], value, deadband)
        )

    def _remember(self, column: int, value: Value, quality: str, now: float) -> None:
        self._values[column] = value
        self._sent_at[column] = now
        self._qualities[column] = quality
        if quality:
            self.bad[self._names[column]] = quality
        else:
            self.bad.pop(self._names[column], None)


def _deadband(tag: Tag) -> float | None:
    if isinstance(tag.deadband, Percent):
        low, high = tag.range or (Decimal(0), Decimal(0))
        return float(tag.deadband.share * abs(high - low)) * _STEP
    return None if tag.deadband is None else float(tag.deadband) * _STEP


def _moved(last: Value, value: Value, deadband: float) -> bool:
    """Whether a value left the deadband around the one last sent (OPC 10000-4 section 7.22.2: by more than it)."""
    kind = value.__class__
    if last.__class__ is not kind:
        return True
    if kind is int or kind is float:
        return bool(abs(value - last) > deadband)
    if kind is list or kind is dict:
        return repr(last) != repr(value)  # for [1] == [True]
    return bool(last != value)
