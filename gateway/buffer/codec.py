"""How a batch lies on disk: its samples in columns, packed by type, compressed, under a checksum.

    blob = zstd(length of head: u32 LE | head: JSON | columns and values of each sample, one after the other)
    head = [version, epoch, device, first seq, samples], a sample = [ts, rx, clock, quality, columns, format, objects]

`columns` is null where all of the meta's tags are present, else how many there are: their positions follow in the
body as the steps from one to the next, since a run of ones compresses to nothing. `format` is a `struct` format;
`objects` holds the values that have no such format, as JSON. The zstd frame carries a checksum (RFC 8878 section
3.1.1) because SQLite's pages have none, and the head repeats whose samples these are, so that neither a flipped
bit nor a row under another's name is ever sent as a reading.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, groupby
from operator import sub
from typing import Any, Final

import orjson
import zstandard

from gateway.model import Gap, Meta, Sample, Value

VERSION: Final = 1
_LENGTH: Final = struct.Struct("<I")
_OBJECT: Final = "j"
_SHOWN_BY_VALUE: Final = "*"
_INT64: Final = range(-(1 << 63), 1 << 63)
_UINT64_END: Final = 1 << 64
_compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
_decompressor = zstandard.ZstdDecompressor()
_MAX_BLOB: Final = 64 << 20


class CorruptBlobError(ValueError):
    """What was read back is not what was written."""


def pack(meta: Meta, samples: Sequence[Sample], *, epoch: str, first_seq: int) -> bytes:
    """Pack the samples of one batch. Raises struct.error if a value does not fit the tag's code."""
    packed = [_pack_sample(meta, sample) for sample in samples]
    head = orjson.dumps([VERSION, epoch, meta.device, first_seq, [head for head, _ in packed]])
    bodies = [body for _, body in packed]
    return _compressor.compress(b"".join((_LENGTH.pack(len(head)), head, *bodies)))


def unpack(blob: bytes, meta: Meta, *, epoch: str, first_seq: int) -> tuple[Sample, ...]:
    """Read back what `pack` wrote under the same names. Raises CorruptBlobError if it is anything else."""
    try:
        plain = _decompressor.decompress(blob, max_output_size=_MAX_BLOB)
        (length,) = _LENGTH.unpack_from(plain)
        start = _LENGTH.size
        version, *identity, heads = orjson.loads(plain[start : start + length])
        if version != VERSION or identity != [epoch, meta.device, first_seq]:
            raise CorruptBlobError(f"holds samples of {identity}, not of {[epoch, meta.device, first_seq]}")
        return _unpack_samples(meta, heads, memoryview(plain)[start + length :])
    except (zstandard.ZstdError, struct.error, orjson.JSONDecodeError, ValueError, IndexError, TypeError) as error:
        raise CorruptBlobError(str(error)) from error


def pack_gap(gap: Gap, *, epoch: str, device: str, seq: int) -> bytes:
    """Pack a gap record, under the same checksum and names as a batch."""
    return _compressor.compress(orjson.dumps([VERSION, epoch, device, seq, gap.ts, gap.reason, gap.fields]))


def unpack_gap(blob: bytes, *, epoch: str, device: str, seq: int) -> Gap:
    """Read back what `pack_gap` wrote under the same names. Raises CorruptBlobError if it is anything else."""
    try:
        *identity, ts, reason, fields = orjson.loads(_decompressor.decompress(blob, max_output_size=_MAX_BLOB))
    except (zstandard.ZstdError, orjson.JSONDecodeError, ValueError, TypeError) as error:
        raise CorruptBlobError(str(error)) from error
    if identity != [VERSION, epoch, device, seq]:
        raise CorruptBlobError(f"holds a gap of {identity}, not of {[epoch, device, seq]}")
    return Gap(ts, reason, fields)


def _pack_sample(meta: Meta, sample: Sample) -> tuple[list[Any], bytes]:
    columns, body = None, b""
    if len(sample.columns) != len(meta.names):
        columns, body = len(sample.columns), _pack_columns(sample.columns)
    codes = _codes(meta, sample)
    objects = None
    values: Sequence[Value] = sample.values
    if _OBJECT in codes:
        objects = [value for code, value in zip(codes, values, strict=True) if code == _OBJECT]
        values = [value for code, value in zip(codes, values, strict=True) if code != _OBJECT]
    layout = _layout(codes)
    body += struct.pack(layout.replace(_OBJECT, ""), *values) if values else b""
    return [sample.ts, sample.rx, sample.clock, sample.quality or None, columns, layout, objects], body


def _unpack_samples(meta: Meta, heads: list[Any], body: memoryview) -> tuple[Sample, ...]:
    samples, at = [], 0
    for ts, rx, clock, quality, count, layout, objects in heads:
        if count is None:
            columns: tuple[int, ...] = _all_columns(len(meta.names))
        else:
            steps = struct.unpack_from(f"<{count}H", body, at)
            at += 2 * count
            columns = tuple(accumulate(steps))
        packed = layout.replace(_OBJECT, "")
        values: Sequence[Value] = struct.unpack_from(packed, body, at)
        at += struct.calcsize(packed)
        if objects is not None:
            values = _merge(layout, values, objects)
        if len(values) != len(columns):
            raise CorruptBlobError(f"{len(values)} values for {len(columns)} tags")
        readings = len(columns) + sum(text.startswith("bad:") for text in (quality or {}).values())
        samples.append(Sample(ts, columns, tuple(values), readings, quality or {}, rx, clock))
    return tuple(samples)


@lru_cache(maxsize=64)
def _pack_columns(columns: tuple[int, ...]) -> bytes:
    # A tag's position is below 65,536: the config allows no more tags on one device.
    return struct.pack(f"<{len(columns)}H", *map(sub, columns, (0, *columns))) if columns else b""


@lru_cache(maxsize=64)
def _all_columns(count: int) -> tuple[int, ...]:
    return tuple(range(count))


def _codes(meta: Meta, sample: Sample) -> str:
    """Give one code a value; the tags' own where they have one."""
    codes = _codes_of(meta.codes, sample.columns)
    if _SHOWN_BY_VALUE not in codes:
        return codes
    return "".join(
        _code_of(value) if code == _SHOWN_BY_VALUE else code for code, value in zip(codes, sample.values, strict=True)
    )


@lru_cache(maxsize=256)
def _codes_of(codes: tuple[str, ...], columns: tuple[int, ...]) -> str:
    return "".join(codes[column] for column in columns)


def _code_of(value: Value) -> str:
    if isinstance(value, float):
        return "d"
    if isinstance(value, bool):
        return "?"
    if isinstance(value, int) and value in _INT64:
        return "q"
    if isinstance(value, int) and 0 <= value < _UINT64_END:
        return "Q"
    return _OBJECT


@lru_cache(maxsize=256)
def _layout(codes: str) -> str:
    """Shorten "fffff" to "<5f"."""
    return "<" + "".join(
        code * length if code == _OBJECT else f"{length}{code}"
        for code, length in ((code, sum(1 for _ in run)) for code, run in groupby(codes))
    )


def _merge(layout: str, packed: Sequence[Value], objects: list[Value]) -> list[Value]:
    packed_values, object_values = iter(packed), iter(objects)
    merged: list[Value] = []
    count = ""
    for char in layout[1:]:
        if char.isdigit():
            count += char
            continue
        source = object_values if char == _OBJECT else packed_values
        merged.extend(next(source) for _ in range(int(count or 1)))
        count = ""
    return merged
