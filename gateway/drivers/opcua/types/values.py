"""What a DataValue on the wire means: a JSON-safe value or the reason why there is none, a status, timestamps.

The decoder walks the bytes of OPC 10000-6 section 5.2 itself: a subscription's cost is almost all decoding, and the
library builds five objects for each value. Types that no sensor sends are left to the library.
"""

import base64
import struct
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import unpack_uatype

from gateway.drivers.opcua.types.data_value import (
    INVALID_STRING,
    NO_VALUE,
    NOT_A_NUMBER,
    TYPE_MISMATCH,
    DataValue,
    Packed,
    Unusable,
    status_name,
)
from gateway.drivers.opcua.types.float32 import shortest
from gateway.drivers.opcua.types.plain import EPOCH_MS, LAST_TICK, plain
from gateway.model import Value

_DEEPEST: Final = 8
_BINARY_BODY: Final = 1
_CUT_SHORT: Final = "the message ends before its values do"
_LARGEST_MATRIX: Final = 1_000_000

_BYTE_STATUS: Final = struct.Struct("<I")
_INT32: Final = struct.Struct("<i")
_INT64: Final = struct.Struct("<q")
_FLOAT32: Final = struct.Struct("<f")
_FLOAT64: Final = struct.Struct("<d")
_WHOLE: Final = {kind: struct.Struct("<" + code) for kind, code in enumerate("?bBhHiIqQ", start=1)}

_FLOAT, _DOUBLE, _STRING, _DATETIME, _GUID, _BYTESTRING, _XML = range(10, 17)
_NODE_ID, _EXPANDED_NODE_ID, _STATUS, _QUALIFIED_NAME, _LOCALIZED_TEXT, _STRUCTURE, _DATA_VALUE, _VARIANT = range(
    17, 25
)
_TEXTS: Final = {_STRING, _LOCALIZED_TEXT}


def decode_data_value(data: bytes, at: int) -> tuple[DataValue, int]:
    """Read a DataValue (OPC 10000-6 section 5.2.2.17) that starts at `at`; also gives where it ends.

    Raises struct.error, IndexError, ValueError or the library's UaError if the bytes are none.
    """
    if (found := plain(data, at)) is not None:
        return found
    mask = data[at]
    at += 1
    value: Value | Unusable = NO_VALUE
    status, source, server, ticks = 0, None, None, None
    if mask & 0x01:
        value, at = variant(data, at, 0)
    if mask & 0x02:
        (status,) = _BYTE_STATUS.unpack_from(data, at)
        at += 4
    if mask & 0x04:
        source, ticks = _instant(data, at)
        at += 8
    if mask & 0x10:
        at += 2  # picoseconds stand beside their timestamp on the wire, though not in the mask
    if mask & 0x08:
        server, _ = _instant(data, at)
        at += 8
    if mask & 0x20:
        at += 2
    if at > len(data):
        raise IndexError(_CUT_SHORT)
    return DataValue(value, status, source, server, ticks), at


def _instant(data: bytes, at: int) -> tuple[int, int] | tuple[None, None]:
    """Read a timestamp, in ms and as it stands there; the two ends of the range mean that there is none."""
    (ticks,) = _INT64.unpack_from(data, at)
    return (ticks // 10_000 - EPOCH_MS, ticks) if 0 < ticks < LAST_TICK else (None, None)


def variant(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    """Read a Variant (OPC 10000-6 section 5.2.2.16)."""
    head = data[at]
    kind = head & 0x3F
    at += 1
    if not head & 0x80:
        return scalar(kind, data, at, depth)
    (count,) = _INT32.unpack_from(data, at)
    elements, at = array(kind, count, data, at + 4, depth)
    if head & 0x40:
        (rank,) = _INT32.unpack_from(data, at)
        lengths = struct.unpack_from(f"<{max(rank, 0)}i", data, at + 4)
        elements, at = shaped(elements, lengths), at + 4 + 4 * len(lengths)
    return elements, at


def scalar(kind: int, data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    whole = _WHOLE.get(kind)
    if whole is not None:
        return whole.unpack_from(data, at)[0], at + whole.size
    if kind == _DOUBLE:
        (number,) = _FLOAT64.unpack_from(data, at)
        return (number if number - number == 0.0 else NOT_A_NUMBER), at + 8
    if kind == _FLOAT:
        (number,) = _FLOAT32.unpack_from(data, at)
        return (shortest(number) if number - number == 0.0 else NOT_A_NUMBER), at + 4
    if kind == 0:
        return NO_VALUE, at
    decode = _OTHERS.get(kind) or _by_library(kind)
    return decode(data, at, depth)


def array(kind: int, count: int, data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    if count < 0:
        return NO_VALUE, at
    whole = _WHOLE.get(kind)
    if whole is not None:
        return list(struct.unpack_from(f"<{count}{whole.format[1:]}", data, at)), at + count * whole.size
    if kind == 0 or count > len(data) - at:
        # An element takes one byte at least, and nothing has no arrays: the count alone must not cost memory.
        raise IndexError(_CUT_SHORT)
    elements: list[Value] = []
    unusable: Unusable | None = None
    if kind == _STRUCTURE:
        return _structures(count, data, at)
    for _ in range(count):
        element, at = scalar(kind, data, at, depth)
        if element is NO_VALUE and kind in _TEXTS:
            element = ""  # many stacks know no difference between a null and an empty text (OPC 10000-6 5.2.2.4)
        if isinstance(element, Unusable):
            unusable = unusable or (TYPE_MISMATCH if isinstance(element, Packed) else element)
        elements.append(element)
    return unusable or elements, at


def shaped(elements: Value | Unusable, lengths: tuple[int, ...]) -> Value | Unusable:
    """Nest a matrix's elements, the last dimension innermost."""
    if isinstance(elements, Unusable) and not isinstance(elements, Packed):
        return elements
    size = 1
    for length in lengths:
        size *= max(length, 0)
        if size > _LARGEST_MATRIX:
            return TYPE_MISMATCH
    if isinstance(elements, Packed):
        return Packed(elements.parts, lengths) if size == len(elements.parts) else TYPE_MISMATCH
    if size != len(elements):
        return TYPE_MISMATCH
    for length in reversed(lengths[1:]):
        elements = [elements[first : first + length] for first in range(0, len(elements), length)] if length else []
    return elements


def _bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    (length,) = _INT32.unpack_from(data, at)
    at += 4
    if length < 0:
        return None, at
    if at + length > len(data):
        raise IndexError(_CUT_SHORT)
    return data[at : at + length], at + length


def _text(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    raw, at = _bytes(data, at)
    if raw is None:
        return NO_VALUE, at
    try:
        return raw.decode("utf-8"), at
    except UnicodeDecodeError:
        return INVALID_STRING, at


def _datetime(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    (ticks,) = _INT64.unpack_from(data, at)
    return (min(ticks, LAST_TICK) // 10_000 - EPOCH_MS if ticks > 0 else NO_VALUE), at + 8


def _guid(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    return str(uuid.UUID(bytes_le=data[at : at + 16])), at + 16


def _bytestring(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    raw, at = _bytes(data, at)
    return (NO_VALUE if raw is None else base64.b64encode(raw).decode("ascii")), at


def _status(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    return status_name(_BYTE_STATUS.unpack_from(data, at)[0]), at + 4


def _localized_text(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    mask = data[at]
    at += 1
    text: Value | Unusable = NO_VALUE
    if mask & 0x01:
        _, at = _bytes(data, at)
    if mask & 0x02:
        text, at = _text(data, at, depth)
    return text, at


def _structure(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    """Read an ExtensionObject (OPC 10000-6 section 5.2.2.15): its length tells where it ends, whatever is in it."""
    part, at = _part(data, at)
    return (NO_VALUE if part is None else Packed((part,))), at


def _structures(count: int, data: bytes, at: int) -> tuple[Value | Unusable, int]:
    parts = []
    for _ in range(count):
        part, at = _part(data, at)
        parts.append(part)
    whole = tuple(part for part in parts if part is not None)
    return (Packed(whole, (count,)) if len(whole) == count else TYPE_MISMATCH), at


def _part(data: bytes, at: int) -> tuple[tuple[ua.NodeId, bytes] | None, int]:
    """Read the id and the bytes of one structure; None if it has no body. An XML body gets no id: nobody reads it."""
    buffer = Buffer(data, at)
    kind: ua.NodeId = unpack_uatype(ua.VariantType.NodeId, buffer)
    at = buffer.cur_pos + 1
    encoding = data[at - 1]
    if not encoding:
        return None, at
    body, at = _bytes(data, at)
    return (kind if encoding == _BINARY_BODY else ua.NodeId(), body or b""), at


def _reserved(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    """Step over a type of a later version of the standard, which must look like a ByteString until then."""
    return TYPE_MISMATCH, _bytes(data, at)[1]


def _nested_value(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    _, at = decode_data_value(data, at)
    return TYPE_MISMATCH, at


def _nested_variant(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
    if depth >= _DEEPEST:
        raise ValueError("Variants lie too deep in one another")
    return variant(data, at, depth + 1)


_Decoder = Callable[[bytes, int, int], tuple[Value | Unusable, int]]


@lru_cache(maxsize=64)
def _by_library(kind: int) -> _Decoder:
    def decode(data: bytes, at: int, depth: int) -> tuple[Value | Unusable, int]:
        buffer = Buffer(data, at)
        found: Any = unpack_uatype(ua.VariantType(kind), buffer)
        return _plain(found), buffer.cur_pos

    return decode


def _plain(found: Any) -> Value | Unusable:
    if isinstance(found, ua.NodeId):
        return found.to_string()
    if isinstance(found, ua.QualifiedName) and found.Name is not None:
        return found.to_string()
    return TYPE_MISMATCH


_OTHERS: Final[dict[int, _Decoder]] = {
    _STRING: _text,
    _DATETIME: _datetime,
    _GUID: _guid,
    _BYTESTRING: _bytestring,
    _XML: _text,
    _STATUS: _status,
    _LOCALIZED_TEXT: _localized_text,
    _STRUCTURE: _structure,
    _DATA_VALUE: _nested_value,
    _VARIANT: _nested_variant,
    **dict.fromkeys(range(26, 32), _reserved),
}

__all__ = [
    "NOT_A_NUMBER",
    "NO_VALUE",
    "TYPE_MISMATCH",
    "DataValue",
    "Packed",
    "Unusable",
    "status_name",
]
