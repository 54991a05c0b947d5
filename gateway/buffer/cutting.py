"""Cuts samples so that each fits into any message: at most 16 KiB as JSON, no single value over 8 KiB."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import orjson

from gateway.model import Meta, Sample, Value

MAX_SAMPLE_BYTES: Final = 16 << 10
MAX_VALUE_BYTES: Final = 8 << 10
_FRAME_BYTES: Final = 200
"""What a sample needs beside its values and qualities: seq, timestamps, braces."""

# The longest JSON that a value of a `struct` code can have: enough to know, without encoding, that a sample fits.
_WIDTHS: Final = {"?": 5, "b": 4, "B": 3, "h": 6, "H": 5, "i": 11, "I": 10, "q": 20, "Q": 20, "f": 24, "d": 24}


@dataclass(frozen=True, slots=True)
class _Widths:
    """The most bytes that each column takes in JSON, and the columns whose width shows with the value only."""

    columns: tuple[int, ...]
    total: int
    unknown: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tag of a sample: a value where `column` is given, a quality where it has one, and what they take in JSON."""

    name: str
    column: int | None
    value: Value
    quality: str | None
    size: int


@dataclass(slots=True)
class _Piece:
    """A sample that is being filled."""

    columns: list[int] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    quality: dict[str, str] = field(default_factory=dict)
    size: int = _FRAME_BYTES

    def add(self, entry: _Entry) -> None:
        if entry.column is not None:
            self.columns.append(entry.column)
            self.values.append(entry.value)
        if entry.quality is not None:
            self.quality[entry.name] = entry.quality
        self.size += entry.size

    @property
    def readings(self) -> int:
        return len(self.columns) + sum(text.startswith("bad:") for text in self.quality.values())

    def sample(self, whole: Sample, readings: int) -> Sample:
        columns, values = tuple(self.columns), tuple(self.values)
        return whole._replace(columns=columns, values=values, quality=self.quality, readings=readings)


def cut(meta: Meta, samples: Iterable[Sample]) -> list[Sample]:
    """Give each sample itself if it fits, else several with its timestamp that hold its tags between them.

    A single value that is too large, or that JSON has no form for, becomes bad; readings stay as many as they were.
    """
    widths = _widths(meta)
    pieces: list[Sample] = []
    for sample in samples:
        if _fits(widths, sample):
            pieces.append(sample)
        else:
            pieces += _cut_plain(widths, sample) or _cut(meta, sample)
    return pieces


def _cut_plain(widths: _Widths, sample: Sample) -> list[Sample] | None:
    """Cut a large sample in which all is good, and no value is too large; None where that is not so."""
    unknown = widths.unknown
    try:
        sizes = [
            widths.columns[column] + (len(orjson.dumps(value)) if column in unknown else 0)
            for column, value in zip(sample.columns, sample.values, strict=True)
        ]
    except TypeError:
        return None
    if sample.quality or sample.readings != len(sizes) or max(sizes) > MAX_VALUE_BYTES:
        return None
    pieces, start, size = [], 0, _FRAME_BYTES
    for at, width in enumerate(sizes):
        if size + width > MAX_SAMPLE_BYTES:
            pieces.append(_slice(sample, start, at))
            start, size = at, _FRAME_BYTES
        size += width
    return [*pieces, _slice(sample, start, len(sizes))]


def _slice(sample: Sample, start: int, end: int) -> Sample:
    return sample._replace(columns=sample.columns[start:end], values=sample.values[start:end], readings=end - start)


def _cut(meta: Meta, sample: Sample) -> tuple[Sample, ...]:
    entries = list(_entries(meta, sample))
    pieces = _fill(entries)
    if len(pieces) == 1 and len(pieces[0].columns) == len(sample.columns):
        return (sample,)
    # What the tags alone do not tell ("*" stands for all of them) is counted with the first piece.
    counted = [piece.readings for piece in pieces]
    counted[0] += sample.readings - sum(counted)
    return tuple(piece.sample(sample, readings) for piece, readings in zip(pieces, counted, strict=True))


def _fits(widths: _Widths, sample: Sample) -> bool:
    """Whether the sample certainly fits: from the types' widths where they have one, else by encoding at once."""
    whole = len(sample.columns) == len(widths.columns)
    size = _FRAME_BYTES + (widths.total if whole else sum([widths.columns[column] for column in sample.columns]))
    if sample.quality:
        size += _bytes(dict(sample.quality)) or MAX_SAMPLE_BYTES
    if widths.unknown and size <= MAX_SAMPLE_BYTES:
        unknown = _bytes(_of_unknown_width(widths, sample))
        if unknown is None or unknown > MAX_VALUE_BYTES:
            return False
        size += unknown
    return size <= MAX_SAMPLE_BYTES


def _of_unknown_width(widths: _Widths, sample: Sample) -> Sequence[Value]:
    if len(widths.unknown) == len(widths.columns):
        return sample.values
    return [value for column, value in zip(sample.columns, sample.values, strict=True) if column in widths.unknown]


@lru_cache(maxsize=256)
def _widths(meta: Meta) -> _Widths:
    columns = tuple(_key_bytes(name) + _WIDTHS.get(code, 0) for name, code in zip(meta.names, meta.codes, strict=True))
    unknown = frozenset(column for column, code in enumerate(meta.codes) if code not in _WIDTHS)
    return _Widths(columns, sum(columns), unknown)


def _fill(entries: Sequence[_Entry]) -> list[_Piece]:
    """Fill one piece after the other, tag by tag."""
    pieces = [_Piece()]
    for entry in entries:
        if pieces[-1].size + entry.size > MAX_SAMPLE_BYTES:
            pieces.append(_Piece())
        pieces[-1].add(entry)
    return pieces


def _entries(meta: Meta, sample: Sample) -> Iterator[_Entry]:
    """Give the values, and then the tags that have only a quality."""
    left: dict[str, str] = dict(sample.quality)
    for column, value in zip(sample.columns, sample.values, strict=True):
        name, size = meta.names[column], _bytes(value)
        quality = left.pop(name, None)
        if size is None or size > MAX_VALUE_BYTES:
            yield _bad(name, "bad:not-storable" if size is None else "bad:too-large")
        else:
            of_quality = 0 if quality is None else _quality_bytes(name, quality)
            yield _Entry(name, column, value, quality, _key_bytes(name) + size + of_quality)
    for name, text in left.items():
        yield _bad(name, text)


def _bad(name: str, quality: str) -> _Entry:
    return _Entry(name, None, None, quality, _quality_bytes(name, quality))


def _quality_bytes(name: str, text: str) -> int:
    return _key_bytes(name) + len(orjson.dumps(text))


def _key_bytes(name: str) -> int:
    return len(orjson.dumps(name)) + 2  # the colon and the comma


def _bytes(value: Value | Mapping[str, str]) -> int | None:
    """Count the bytes of a value as JSON; None if JSON has no form for it."""
    try:
        return len(orjson.dumps(value))
    except TypeError:  # an integer of more than 64 bits, a string with half a surrogate pair
        return None
