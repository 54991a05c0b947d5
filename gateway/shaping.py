"""What a driver read becomes what is sent: converted, and without what deadband leaves out. No I/O."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Final

from gateway.columns import picker
from gateway.conversion import PLAIN, Conversion, Conversions, Marks, conversion_of, convert_one_by_one
from gateway.deadband import Deadbands, deadband_of, has_left
from gateway.drivers.base import DeviceSection, Tag
from gateway.model import ALL_TAGS, Sample, Value

_NEVER: Final = -math.inf
_COMPILED_SETS: Final = 16
"""Sets of columns that are remembered compiled; a device has one for each combination of due intervals."""
_SLACK_S: Final = 1e-3
"""Heartbeats are looked for this much before the first may be due, however floats round."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How the values of a tag are shaped. Tags that are configured alike share one: there may be 100,000."""

    conversion: Conversion
    deadband: float | None
    heartbeat: float


class Shaper:
    """Shapes the samples of one device. It remembers, in memory only, what was last sent of each tag.

    `clear` forgets it, and so does `all_bad`: at start, at every reconnect, and after any drop that touches the
    device, the next read is sent whole. `bad` is how the tags that are not good stand now. `follows` is set for a
    device that notifies: then `stale` knows which tags were silent, and any few columns may come together, so that
    compiling them would not pay. `held_back` is what the driver says of itself. `heartbeat` is the shortest among the
    tags'.
    """

    def __init__(self, section: DeviceSection, held_back: Mapping[int, float] = MappingProxyType({})) -> None:
        tags = section.tags
        self.bad: dict[str, str] = {}
        self.follows = False
        self.heartbeat = min(map(section.heartbeat_of, tags), default=section.heartbeat)
        self._names = tuple(tag.name for tag in tags)
        shared: dict[Rule, Rule] = {}
        rules = (_rule(section, tag, held_back.get(column, 0.0)) for column, tag in enumerate(tags))
        self._rules = tuple(shared.setdefault(rule, rule) for rule in rules)
        self._holds = any(rule.deadband is not None for rule in shared)
        self._converts = any(rule.conversion is not PLAIN for rule in shared)
        self._compiled = lru_cache(maxsize=_COMPILED_SETS)(lambda columns: _Columns(columns, self._rules))
        self.clear()

    def clear(self) -> None:
        """Forget what was sent: everything is sent again."""
        count = len(self._names)
        self._values: list[Value] = [None] * count
        self._sent_at = [_NEVER] * count
        self._down: tuple[str, float] | None = None
        self.bad.pop(ALL_TAGS, None)

    def shape(self, raw: Sample, now: float) -> Sample | None:
        """Give what is to be sent of a sample; None if nothing is. `now` is monotonic seconds."""
        if ALL_TAGS in raw.quality:
            return self.all_bad(raw.ts, raw.quality[ALL_TAGS].removeprefix("bad:"), now)
        if self._down is not None:
            self.clear()
        values, marks, due = self._look_one_by_one(raw, now) if self.follows else self._look(raw, now)
        if marks or raw.quality or self.bad:
            return self._shape_qualified(raw, values, marks, due, now)
        if self._holds or self.follows:
            self._remember(raw.columns, values, due, now)
        if not due:
            return None
        if len(due) < len(raw.columns):
            return _part(raw, due, values, {})
        return raw if values is raw.values else raw._replace(values=tuple(values))

    def past(self, raw: Sample) -> Sample:
        """Give a sample of a time before: converted, and whole; what was last sent is not another for it."""
        rules = [self._rules[column] for column in raw.columns]
        values, marks = convert_one_by_one([rule.conversion for rule in rules], raw.values)
        quality, gone = self._qualities(raw, marks)
        kept = [position for position in range(len(raw.columns)) if position not in gone]
        return _part(raw, kept, values, quality)._replace(readings=raw.readings)

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
            for column, (sent, rule) in enumerate(zip(self._sent_at, self._rules, strict=True))
            if now - sent >= rule.heartbeat
        )

    def _look(self, raw: Sample, now: float) -> tuple[Sequence[Value], Marks, Sequence[int]]:
        """Convert a sample's values; give them, the qualities of those that are not good, and where some are due."""
        tags = self._compiled(raw.columns)
        values, marks = tags.convert(raw.values)
        return values, marks, tags.due(values, self._values, self._sent_at, now)

    def _look_one_by_one(self, raw: Sample, now: float) -> tuple[Sequence[Value], Marks, Sequence[int]]:
        """Do the same for columns that come together this once."""
        if not self._holds and not self._converts:
            return raw.values, {}, range(len(raw.columns))
        rules = [self._rules[column] for column in raw.columns]
        values, marks = convert_one_by_one([rule.conversion for rule in rules], raw.values)
        due = [
            position
            for position, (column, rule, value) in enumerate(zip(raw.columns, rules, values, strict=True))
            if rule.deadband is None
            or now - self._sent_at[column] >= rule.heartbeat
            or has_left(self._values[column], value, rule.deadband)
        ]
        return values, marks, due

    def _shape_qualified(
        self, raw: Sample, values: Sequence[Value], marks: Marks, due: Sequence[int], now: float
    ) -> Sample | None:
        """Give what is to be sent of a sample while some tags are not good, or were not."""
        quality, gone = self._qualities(raw, marks)
        changed = self._requalified(raw.columns, quality)
        sent = sorted({*due, *changed} - gone) if changed or gone else due
        self._remember(raw.columns, values, sent, now)
        names = self._names
        told = {name: quality[name] for at in sent if (name := names[raw.columns[at]]) in quality}
        told |= self._tell_bad(quality, now)
        self.bad |= told
        for at in changed:
            if (name := names[raw.columns[at]]) not in quality:
                self.bad.pop(name, None)
        if not sent and not told:
            return None
        part = _part(raw, sent, values, told)
        is_whole = len(sent) == len(raw.columns) - len(gone) and len(told) == len(quality)
        return part._replace(readings=raw.readings) if is_whole else part

    def _qualities(self, raw: Sample, marks: Marks) -> tuple[dict[str, str], set[int]]:
        """Add what conversion found to a sample's qualities; give the positions whose values are void, too."""
        quality, gone = dict(raw.quality), set()
        for position, text in marks.items():
            name = self._names[raw.columns[position]]
            if text.startswith("bad:"):
                quality[name] = text
                gone.add(position)
            else:
                quality.setdefault(name, text)
        return quality, gone

    def _requalified(self, columns: Sequence[int], quality: Mapping[str, str]) -> list[int]:
        """Give the positions of the tags whose quality is another than it was."""
        concerned = self.bad.keys() | quality.keys()
        names = map(self._names.__getitem__, columns)
        return [
            position
            for position, name in enumerate(names)
            if name in concerned and quality.get(name, "") != self.bad.get(name, "")
        ]

    def _tell_bad(self, quality: Mapping[str, str], now: float) -> dict[str, str]:
        """Tell a change of quality at once, once, and at heartbeats."""
        told = {}
        for name, text in quality.items():
            if not text.startswith("bad:"):
                continue
            column = self._column[name]
            if text != self.bad.get(name) or now - self._sent_at[column] >= self._rules[column].heartbeat:
                told[name] = text
                self._values[column], self._sent_at[column] = None, now
        return told

    def _remember(self, columns: Sequence[int], values: Sequence[Value], sent: Sequence[int], now: float) -> None:
        last, sent_at = self._values, self._sent_at
        for position in sent:
            column = columns[position]
            last[column] = values[position]
            sent_at[column] = now

    @cached_property
    def _column(self) -> dict[str, int]:
        """Needed, and so made, only once some tag is bad."""
        return {name: column for column, name in enumerate(self._names)}


class _Columns:
    """One set of tags that are read together, with what is done to their values, compiled.

    Those with a deadband are held back until they leave it; of the others every value is due.
    """

    def __init__(self, columns: tuple[int, ...], rules: Sequence[Rule]) -> None:
        chosen = [rules[column] for column in columns]
        held = [position for position, rule in enumerate(chosen) if rule.deadband is not None]
        self.convert = Conversions([rule.conversion for rule in chosen])
        self._left = Deadbands([rule.deadband for rule in chosen if rule.deadband is not None])
        self._heartbeats = [chosen[position].heartbeat for position in held]
        self._beat_at = _NEVER
        self._pick = picker(held, len(columns))
        self._pick_remembered = picker([columns[position] for position in held], len(rules))
        everything = range(len(columns))
        self._held: Sequence[int] = held if len(held) < len(columns) else everything
        self._always = (
            [position for position in everything if chosen[position].deadband is None] if held else everything
        )

    def due(
        self, values: Sequence[Value], last: Sequence[Value], sent_at: Sequence[float], now: float
    ) -> Sequence[int]:
        """Give the positions of the values that are to be sent: some left their deadband, or a heartbeat is due."""
        if not self._held:
            return self._always
        left = self._left(self._pick(values), self._pick_remembered(last))
        if now >= self._beat_at:
            left = sorted({*left, *self._beats(self._pick_remembered(sent_at), now)})
        return left if not self._always else sorted([*self._always, *map(self._held.__getitem__, left)])

    def _beats(self, sent_at: Sequence[float], now: float) -> list[int]:
        """Give who is to be sent again, and note until when nobody else will be: till then there is nothing to see."""
        due = [at for at, (sent, beat) in enumerate(zip(sent_at, self._heartbeats, strict=True)) if now - sent >= beat]
        beating = set(due)
        nexts = ((now if at in beating else sent_at[at]) + beat for at, beat in enumerate(self._heartbeats))
        self._beat_at = min(nexts) - _SLACK_S
        return due


def _part(raw: Sample, due: Sequence[int], values: Sequence[Value], quality: Mapping[str, str]) -> Sample:
    """Give the sample that holds what is due of another."""
    bad = sum(text.startswith("bad:") for text in quality.values())
    return raw._replace(
        columns=tuple(map(raw.columns.__getitem__, due)),
        values=tuple(map(values.__getitem__, due)),
        readings=len(due) + bad,
        quality=quality,
    )


def _rule(section: DeviceSection, tag: Tag, held_back: float) -> Rule:
    # Reads come a little early or late: the one that is nearest to the heartbeat is the one to send.
    heartbeat = section.heartbeat_of(tag) - section.interval_of(tag) / 2
    return Rule(conversion_of(tag), deadband_of(tag, held_back), heartbeat)
