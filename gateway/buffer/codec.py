"""How a batch lies on disk: its samples in columns, packed by type, compressed, sealed under a checksum.

    blob = CRC-32 of name and frame: u32 LE | frame
    frame = zstd(length of head: u32 LE | head: JSON | columns and values of each sample, one after the other)
    head = [version, samples], a sample = [ts, rx, clock, quality, readings, columns, format, objects]

`readings` is null where it is the number of values. `columns` is null where all of the meta's tags are present, else
how many there are: their positions follow in the body as the steps from one to the next, since a run of ones
compresses to nothing. `format` is a `struct` format; `objects` holds the values that have none, as JSON.

SQLite's pages have no checksum, so the blob has its own. It covers the name of what is in it too (epoch, device,
first seq), so that neither a flipped bit nor a row under another's name is ever sent as a reading. It is read before
the frame is: nothing decodes what may be damaged. The seal is apart from the packing because the seq is given last.
"""

import struct
import zlib
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
_compressor = zstandard.ZstdCompressor(level=3, write_checksum=False)
_decompressor = zstandard.ZstdDecompressor()

UNSTORABLE: Final = (struct.error, TypeError, ValueError, OverflowError, IndexError)
"""What packing raises for a sample that no format fits: a bug of the driver that made it."""


class CorruptBlobError(ValueError):
    """What was read back is not what was written."""


def pack(meta: Meta, samples: Sequence[Sample]) -> bytes:
    """Pack the samples of one batch. Raises UNSTORABLE if a value does not fit its tag's code, or has no tag."""
    whole = _all_columns(len(meta.names))
    packed = [_pack_sample(meta, sample, whole) for sample in samples]
    head = orjson.dumps([VERSION, [head for head, _ in packed]])
    return _compressor.compress(b"".join((_LENGTH.pack(len(head)), head, *(body for _, body in packed))))


def unpack(frame: bytes, meta: Meta) -> tuple[Sample, ...]:
    """Read back what `pack` wrote under the same meta. Raises CorruptBlobError if it is anything else."""
    try:
        plain = _decompressor.decompress(frame)
        (length,) = _LENGTH.unpack_from(plain)
        start = _LENGTH.size
        version, heads = orjson.loads(plain[start : start + length])
        if version != VERSION:
            raise CorruptBlobError(f"its format is version {version}, this program reads version {VERSION}")
        return _unpack_samples(meta, heads, memoryview(plain)[start + length :])
    except (zstandard.ZstdError, struct.error, ValueError, TypeError) as error:
        raise CorruptBlobError(str(error)) from error


def pack_gap(gap: Gap) -> bytes:
    """Pack a gap record."""
    return orjson.dumps([VERSION, gap.ts, gap.reason, dict(gap.fields)])


def unpack_gap(frame: bytes) -> Gap:
    """Read back what `pack_gap` wrote. Raises CorruptBlobError if it is anything else."""
    try:
        version, ts, reason, fields = orjson.loads(frame)
    except (ValueError, TypeError) as error:
        raise CorruptBlobError(str(error)) from error
    if version != VERSION:
        raise CorruptBlobError(f"its format is version {version}, this program reads version {VERSION}")
    return Gap(ts, reason, fields)


def pack_meta(meta: Meta) -> bytes:
    """Pack all that there is to a meta, under a checksum."""
    fields = [meta.id, meta.device, meta.topic, meta.names, meta.codes, dict(meta.labels), meta.document.decode()]
    frame = _compressor.compress(orjson.dumps([VERSION, *fields], option=orjson.OPT_SORT_KEYS))
    return seal(frame, epoch="", device="", seq=0)


def unpack_meta(blob: bytes) -> Meta:
    """Read back what `pack_meta` wrote. Raises CorruptBlobError if it is anything else."""
    frame = unseal(blob, epoch="", device="", seq=0)
    try:
        _, hash_, device, topic, names, codes, labels, document = orjson.loads(_decompressor.decompress(frame))
    except (zstandard.ZstdError, ValueError, TypeError) as error:
        raise CorruptBlobError(str(error)) from error
    return Meta(hash_, device, topic, tuple(names), tuple(codes), labels, document.encode())


def seal(frame: bytes, *, epoch: str, device: str, seq: int) -> bytes:
    """Put the checksum over a frame and the name of what is in it."""
    return _LENGTH.pack(_checksum(frame, epoch, device, seq)) + frame


def unseal(blob: bytes, *, epoch: str, device: str, seq: int) -> bytes:
    """Give the frame. Raises CorruptBlobError if a bit of it is not as sealed, or it was sealed under another name."""
    frame = blob[_LENGTH.size :]
    if _LENGTH.pack(_checksum(frame, epoch, device, seq)) != blob[: _LENGTH.size]:
        raise CorruptBlobError(f"is damaged, or does not hold seq {seq} of {device} in epoch {epoch}")
    return frame


def _checksum(frame: bytes, epoch: str, device: str, seq: int) -> int:
    return zlib.crc32(frame, zlib.crc32(f"{epoch}\n{device}\n{seq}\n".encode()))


def _pack_sample(meta: Meta, sample: Sample, whole: tuple[int, ...]) -> tuple[list[Any], bytes]:
    columns, body = None, b""
    own = meta.codes
    if sample.columns != whole:
        columns, body = len(sample.columns), _pack_columns(sample.columns)
        own = tuple([own[column] for column in sample.columns])
    codes = _codes(own, sample.values)
    objects = None
    values: Sequence[Value] = sample.values
    if _OBJECT in codes:
        objects = [value for code, value in zip(codes, values, strict=True) if code == _OBJECT]
        values = [value for code, value in zip(codes, values, strict=True) if code != _OBJECT]
    layout = _layout(codes)
    body += _struct(layout).pack(*values)
    readings = None if sample.readings == len(values) + len(objects or ()) else sample.readings
    quality = dict(sample.quality) if sample.quality else None
    head = [sample.ts, sample.rx, sample.clock, quality, readings, columns, layout, objects]
    return (head if sample.origin is None else [*head, sample.origin]), body


def _unpack_samples(meta: Meta, heads: list[Any], body: memoryview) -> tuple[Sample, ...]:
    samples, at = [], 0
    whole = _all_columns(len(meta.names))
    for ts, rx, clock, quality, readings, sparse, layout, objects, *more in heads:
        if sparse is None:
            columns = whole
        else:
            steps = _struct(f"<{sparse}H").unpack_from(body, at)
            at += 2 * sparse
            columns = tuple(accumulate(steps))
        packed = _struct(layout)
        values: Sequence[Value] = packed.unpack_from(body, at)
        at += packed.size
        if objects is not None:
            values = _merge(layout, values, objects)
        if len(values) != len(columns):
            raise CorruptBlobError(f"{len(values)} values for {len(columns)} tags")
        count = len(values) if readings is None else readings
        samples.append(Sample(ts, columns, tuple(values), count, quality or {}, rx, clock, *more))
    return tuple(samples)


def _pack_columns(columns: tuple[int, ...]) -> bytes:
    # A tag's position is below 65,536: the config allows no more tags on one device.
    steps = columns if len(columns) == 1 else map(sub, columns, (0, *columns))
    return _struct(f"<{len(columns)}H").pack(*steps)


@lru_cache(maxsize=64)
def _all_columns(count: int) -> tuple[int, ...]:
    return tuple(range(count))


def _codes(codes: tuple[str, ...], values: Sequence[Value]) -> str:
    """Give one code a value; the tags' own where they have one."""
    if _SHOWN_BY_VALUE not in codes:
        return "".join(codes)
    return "".join(
        [_code_of(value) if code == _SHOWN_BY_VALUE else code for code, value in zip(codes, values, strict=True)]
    )


@lru_cache(maxsize=256)
def _struct(layout: str) -> struct.Struct:
    return struct.Struct(layout.replace(_OBJECT, ""))


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
