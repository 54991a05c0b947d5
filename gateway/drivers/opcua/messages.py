"""The answers that carry readings, taken apart: ReadResponse, PublishResponse, HistoryReadResponse (OPC 10000-4)."""

import struct
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary

from gateway.drivers.opcua.types.values import DataValue, decode_data_value

_UINT32: Final = struct.Struct("<I")
_INT32: Final = struct.Struct("<i")
_DATA_CHANGE: Final = ObjectIds.DataChangeNotification_Encoding_DefaultBinary
_STATUS_CHANGE: Final = ObjectIds.StatusChangeNotification_Encoding_DefaultBinary
_HISTORY_DATA: Final = ObjectIds.HistoryData_Encoding_DefaultBinary


Changes = list[tuple[int, DataValue]]
"""Client handles and values, in the server's order."""


class Published(NamedTuple):
    """One NotificationMessage.

    A keep-alive has no notifications at all, and carries the sequence number that the next message will have.
    `available` are the sequence numbers that the server still has for Republish;
    `more` says that the next message is there already.
    """

    subscription: int
    sequence: int
    keep_alive: bool
    changes: Changes
    status: int | None
    available: tuple[int, ...] = ()
    more: bool = False


class Kept(NamedTuple):
    """What a server kept of one node: a StatusCode, values, and where it would go on; empty if that was all."""

    status: int
    values: list[DataValue]
    continuation: bytes


def read_response(body: Buffer) -> list[DataValue]:
    """Take apart a ReadResponse (section 5.11.2). Raises what `decode_data_value` does, or a bad ServiceResult."""
    data, at = after_header(body)
    count, at = count_at(data, at)
    values = []
    for _ in range(count):
        value, at = decode_data_value(data, at)
        values.append(value)
    return values


def publish_response(body: Buffer) -> Published:
    """Take apart a PublishResponse (section 5.14.5). Raises as `read_response` does."""
    data, at = after_header(body)
    (subscription,) = _UINT32.unpack_from(data, at)
    count, at = count_at(data, at + 4)
    available = struct.unpack_from(f"<{count}I", data, at)
    at += 4 * count
    return _message(data, at + 1, subscription, available)._replace(more=data[at] != 0)


def republish_response(body: Buffer, subscription: int) -> Published:
    """Take apart a RepublishResponse (section 5.14.6). Raises as `read_response` does."""
    data, at = after_header(body)
    return _message(data, at, subscription, ())


def _message(data: bytes, at: int, subscription: int, available: tuple[int, ...]) -> Published:
    (sequence,) = _UINT32.unpack_from(data, at)
    notifications, at = count_at(data, at + 4 + 8)
    changes: Changes = []
    status = None
    for _ in range(notifications):
        kind, begin, at = _extension_object(data, at)
        if kind == _DATA_CHANGE:
            _data_changes(data, begin, changes)
        elif kind == _STATUS_CHANGE:
            (status,) = _UINT32.unpack_from(data, begin)
    return Published(subscription, sequence, notifications == 0, changes, status, available)


def history_response(body: Buffer) -> list[Kept]:
    """Take apart a HistoryReadResponse (section 5.11.3) with raw values. Raises as `read_response` does."""
    data, at = after_header(body)
    count, at = count_at(data, at)
    found = []
    for _ in range(count):
        (status,) = _UINT32.unpack_from(data, at)
        length, begin = count_at(data, at + 4)
        kind, inside, at = _extension_object(data, begin + length)
        values: list[DataValue] = []
        if kind == _HISTORY_DATA:
            number, inside = count_at(data, inside)
            for _ in range(number):
                value, inside = decode_data_value(data, inside)
                values.append(value)
        found.append(Kept(status, values, data[begin : begin + length]))
    return found


def after_header(body: Buffer) -> tuple[bytes, int]:
    """Check a response's header; give the message and where the rest begins. Raises UaError if it is bad."""
    data = bytes(body)
    buffer = Buffer(data)
    nodeid_from_binary(buffer)
    struct_from_binary(ua.ResponseHeader, buffer).ServiceResult.check()
    return data, buffer.cur_pos


def count_at(data: bytes, at: int) -> tuple[int, int]:
    """Give the length of an array, 0 for none, and where its elements begin."""
    (count,) = _INT32.unpack_from(data, at)
    return max(count, 0), at + 4


def _extension_object(data: bytes, at: int) -> tuple[int, int, int]:
    """Give an ExtensionObject's type, where its body begins, and where it ends."""
    buffer = Buffer(data, at)
    kind = nodeid_from_binary(buffer)
    at = buffer.cur_pos
    encoding = data[at]
    if not encoding:
        return 0, at + 1, at + 1
    (length,) = _INT32.unpack_from(data, at + 1)
    number = kind.Identifier if isinstance(kind.Identifier, int) and kind.NamespaceIndex == 0 else 0
    return number, at + 5, at + 5 + max(length, 0)


def _data_changes(data: bytes, at: int, changes: Changes) -> None:
    count, at = count_at(data, at)
    for _ in range(count):
        (handle,) = _UINT32.unpack_from(data, at)
        value, at = decode_data_value(data, at + 4)
        changes.append((handle, value))
