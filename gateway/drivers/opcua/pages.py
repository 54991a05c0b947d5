"""The answers that carry references, taken apart: BrowseResponse and BrowseNextResponse (OPC 10000-4 section 5.9).

The library builds ten objects for each reference; an address space has 100,000 of them.
"""

import base64
import struct
import uuid
from collections.abc import Iterator
from typing import Final, NamedTuple

from asyncua.common.utils import Buffer

from gateway.drivers.opcua.messages import after_header, count_at

_INT32: Final = struct.Struct("<i")
_UINT32: Final = struct.Struct("<I")
_UINT16: Final = struct.Struct("<H")
_NUMERIC: Final = struct.Struct("<HI")
_OF_ANOTHER_SERVER: Final = 0x40
_WITH_URI: Final = 0x80


class Reference(NamedTuple):
    """Where a reference leads to: node ids as text, by namespace index; `node` is empty if to another server."""

    kind: str
    node: str
    name: str
    node_class: int


class Page(NamedTuple):
    """What one answer says of one node; a `point` if there is more to ask for.

    `node` is the node that was asked about, written as references write it.
    """

    status: int
    point: bytes
    references: list[Reference]
    node: str = ""


def read_pages(body: Buffer) -> list[Page]:
    """Take apart a BrowseResponse or a BrowseNextResponse.

    Raises struct.error, IndexError or ValueError if the bytes are none, or UaError for a bad ServiceResult.
    """
    return list(each_page(body))


def each_page(body: Buffer) -> Iterator[Page]:
    """Take apart one node's page at a time, so that others get their turn in between. Raises as `read_pages` does."""
    data, at = after_header(body)
    count, at = count_at(data, at)
    for _ in range(count):
        (status,) = _UINT32.unpack_from(data, at)
        point, at = _bytes(data, at + 4)
        length, at = count_at(data, at)
        references = []
        for _ in range(length):
            reference, at = _reference(data, at)
            references.append(reference)
        yield Page(status, point, references)


def _reference(data: bytes, at: int) -> tuple[Reference, int]:
    """Read a ReferenceDescription (section 7.30)."""
    kind, at = _node(data, at)
    node, at = _node(data, at + 1)  # after IsForward
    name, at = _bytes(data, at + 2)  # after the browse name's namespace index
    mask = data[at]
    at += 1
    for bit in (1, 2):  # the display name's locale and text
        if mask & bit:
            at = _bytes(data, at)[1]
    (node_class,) = _INT32.unpack_from(data, at)
    at = _node(data, at + 4)[1]  # the type definition
    return Reference(kind, node, name.decode("utf-8", "replace"), node_class), at


def _node(data: bytes, at: int) -> tuple[str, int]:
    """Read a NodeId or ExpandedNodeId (OPC 10000-6 section 5.2.2.9) as text."""
    encoding = data[at]
    namespace, identifier, at = _identifier(data, at + 1, encoding & 0x0F)
    space = f"ns={namespace};" if namespace else ""
    if encoding & _WITH_URI:
        uri, at = _bytes(data, at)
        escaped = uri.decode("utf-8", "replace").replace("%", "%25").replace(";", "%3B")
        space = f"nsu={escaped};" if escaped else space
    if encoding & _OF_ANOTHER_SERVER:
        (server,) = _UINT32.unpack_from(data, at)
        at += 4
        if server:
            return "", at
    return space + identifier, at


def _identifier(data: bytes, at: int, form: int) -> tuple[int, str, int]:
    if form == 0:
        return 0, f"i={data[at]}", at + 1
    if form == 1:
        return data[at], f"i={_UINT16.unpack_from(data, at + 1)[0]}", at + 3
    if form == 2:
        namespace, number = _NUMERIC.unpack_from(data, at)
        return namespace, f"i={number}", at + 6
    (namespace,) = _UINT16.unpack_from(data, at)
    at += 2
    if form == 4:
        return namespace, f"g={uuid.UUID(bytes_le=data[at : at + 16])}", at + 16
    text, at = _bytes(data, at)
    if form == 3:
        return namespace, f"s={text.decode('utf-8', 'replace')}", at
    if form == 5:
        return namespace, f"b={base64.b64encode(text).decode()}", at
    raise ValueError(f"a node id has no form {form}")


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """Read a String or ByteString; null is empty. Raises IndexError if it is cut short."""
    (length,) = _INT32.unpack_from(data, at)
    at += 4
    if length <= 0:
        return b"", at
    if at + length > len(data):
        raise IndexError("the message ends within a string")
    return data[at : at + length], at + length
