"""Cuts samples so that each fits into any message: at most 16 KiB as JSON, no single value over 8 KiB."""

from collections.abc import Iterator
from dataclasses import replace
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
_UNKNOWN: Final = MAX_SAMPLE_BYTES


def cut(meta: Meta, sample: Sample) -> tuple[Sample, ...]:
    """Give the sample itself if it fits, else several with its timestamp that hold its tags between them."""
    if _widest(meta, sample.columns) + _quality_bytes(sample) <= MAX_SAMPLE_BYTES:
        return (sample,)
    pieces = tuple(_pieces(meta, sample))
    return pieces if len(pieces) > 1 or pieces[0].quality != sample.quality else (sample,)


@lru_cache(maxsize=256)
def _widths(meta_id: str, names: tuple[str, ...], codes: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(_key_bytes(name) + _WIDTHS.get(code, _UNKNOWN) for name, code in zip(names, codes, strict=True))


def _widest(meta: Meta, columns: tuple[int, ...]) -> int:
    widths = _widths(meta.id, meta.names, meta.codes)
    if len(columns) == len(widths):
        return _FRAME_BYTES + _total(widths)
    return _FRAME_BYTES + sum([widths[column] for column in columns])


@lru_cache(maxsize=256)
def _total(widths: tuple[int, ...]) -> int:
    return sum(widths)


def _key_bytes(name: str) -> int:
    return len(orjson.dumps(name)) + 2  # the colon and the comma


def _quality_bytes(sample: Sample) -> int:
    return sum(_key_bytes(name) + len(text) + 2 for name, text in sample.quality.items())


def _pieces(meta: Meta, sample: Sample) -> Iterator[Sample]:
    """Fill one piece after the other, tag by tag, values first and then the tags that have only a quality."""
    columns: list[int] = []
    values: list[Value] = []
    quality: dict[str, str] = {}
    size = _FRAME_BYTES

    def piece() -> Sample:
        bad = sum(text.startswith("bad:") for text in quality.values())
        return replace(
            sample, columns=tuple(columns), values=tuple(values), quality=dict(quality), readings=len(columns) + bad
        )

    for column, name, value, text in _entries(meta, sample):
        needed = (_key_bytes(name) + _value_bytes(value) if column is not None else 0) + (
            _key_bytes(name) + len(text) + 2 if text else 0
        )
        if size + needed > MAX_SAMPLE_BYTES:
            yield piece()
            columns, values, quality, size = [], [], {}, _FRAME_BYTES
        if column is not None:
            columns.append(column)
            values.append(value)
        if text:
            quality[name] = text
        size += needed
    yield piece()


def _entries(meta: Meta, sample: Sample) -> Iterator[tuple[int | None, str, Value, str]]:
    left = dict(sample.quality)
    for column, value in zip(sample.columns, sample.values, strict=True):
        name = meta.names[column]
        text = left.pop(name, "")
        if _value_bytes(value) > MAX_VALUE_BYTES:
            yield None, name, None, "bad:too-large"
        else:
            yield column, name, value, text
    for name, text in left.items():
        yield None, name, None, text


def _value_bytes(value: Value) -> int:
    return len(orjson.dumps(value))
