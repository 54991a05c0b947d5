"""Browse: the references of nodes, in requests that the server takes, followed to their end (OPC 10000-4 section 5.9).

The answers are taken apart here: a large one, decoded by the library, would hold up everything else.
"""

import struct
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.limits import Limits, Service, in_chunks
from gateway.drivers.opcua.messages import after_header, count_at
from gateway.drivers.opcua.session import Session

_MOST_REFERENCES: Final = 1000
"""References of one node that one answer may hold; what is more comes by continuation points."""
_UINT16: Final = struct.Struct("<H")
_UINT32: Final = struct.Struct("<I")
_INT32: Final = struct.Struct("<i")
_BROWSE_NAME: Final = 8
_NODE_CLASS: Final = 4
_TYPE_DEFINITION: Final = 32


class Reference(NamedTuple):
    """One reference: the node it goes to, that node's browse name without its namespace, its class and its type.

    `node` is None where the target lies at another server.
    """

    node: ua.NodeId | None
    name: str
    node_class: int
    type: ua.NodeId | None


class Wanted(NamedTuple):
    """Which references of a node: of this type and, if wanted, its subtypes; `inverse` for those that come from it."""

    reference_type: int
    inverse: bool = False
    subtypes: bool = True
    node_classes: int = 0


class _Page(NamedTuple):
    status: int
    continuation: bytes
    references: list[Reference]


async def references(
    session: Session, limits: Limits, nodes: Sequence[ua.NodeId], wanted: Wanted
) -> list[list[Reference]]:
    """Give the references of each node; none for one that the server does not know. Raises DeviceError."""
    pages = await in_chunks(limits, Service.BROWSE, nodes, partial(_browse, session, wanted))
    found = [page.references for page in pages]
    open_pages = {at: page.continuation for at, page in enumerate(pages) if page.continuation}
    while open_pages:
        items = list(open_pages.items())
        ask = partial(_browse_next, session)
        nexts = await in_chunks(limits, Service.BROWSE, [point for _, point in items], ask)
        open_pages = {}
        for (at, _), page in zip(items, nexts, strict=True):
            found[at] = found[at] + page.references
            if page.continuation:
                open_pages[at] = page.continuation
    return found


async def _browse(session: Session, wanted: Wanted, nodes: Sequence[ua.NodeId]) -> list[_Page]:
    request = ua.BrowseRequest()
    request.Parameters.RequestedMaxReferencesPerNode = ua.UInt32(_MOST_REFERENCES)
    request.Parameters.NodesToBrowse = [
        ua.BrowseDescription(
            NodeId=node,
            BrowseDirection=ua.BrowseDirection.Inverse if wanted.inverse else ua.BrowseDirection.Forward,
            ReferenceTypeId=ua.NodeId(ua.Int32(wanted.reference_type)),
            IncludeSubtypes=wanted.subtypes,
            NodeClassMask=ua.UInt32(wanted.node_classes),
            ResultMask=ua.UInt32(_BROWSE_NAME | _NODE_CLASS | _TYPE_DEFINITION),
        )
        for node in nodes
    ]
    return await _ask(session, request)


async def _browse_next(session: Session, points: Sequence[bytes]) -> list[_Page]:
    request = ua.BrowseNextRequest()
    request.Parameters.ReleaseContinuationPoints = False
    request.Parameters.ContinuationPoints = list(points)
    return await _ask(session, request)


async def _ask(session: Session, request: ua.BrowseRequest | ua.BrowseNextRequest) -> list[_Page]:
    body = await session.ask(request, session.setup_timeout)
    with device_errors(session.address):
        data, at = after_header(body)
        count, at = count_at(data, at)
        pages = []
        for _ in range(count):
            page, at = _page(data, at)
            pages.append(page)
        return pages


def _page(data: bytes, at: int) -> tuple[_Page, int]:
    (status,) = _UINT32.unpack_from(data, at)
    continuation, at = _bytes(data, at + 4)
    count, at = count_at(data, at)
    if count > len(data) - at:
        raise IndexError("the message ends before its references do")
    found = []
    for _ in range(count):
        reference, at = _reference(data, at)
        found.append(reference)
    return _Page(status, continuation, found), at


def _reference(data: bytes, at: int) -> tuple[Reference, int]:
    _, at = _node_id(data, at)  # the type of the reference
    node, at = _node_id(data, at + 1)
    name, at = _bytes(data, at + 2)
    mask = data[at]
    at += 1
    for bit in (1, 2):  # a display name, which was not asked for
        if mask & bit:
            _, at = _bytes(data, at)
    (node_class,) = _UINT32.unpack_from(data, at)
    kind, at = _node_id(data, at + 4)
    return Reference(node, name.decode("utf-8", "replace"), node_class, kind), at


def _node_id(data: bytes, at: int) -> tuple[ua.NodeId | None, int]:
    """Read a NodeId or an ExpandedNodeId (OPC 10000-6 section 5.2.2.9); None for one of another server."""
    form = data[at]
    if form == 0x00:
        return ua.NodeId(ua.Int32(data[at + 1])), at + 2
    if form == 0x01:
        return ua.NodeId(ua.Int32(_UINT16.unpack_from(data, at + 2)[0]), ua.Int16(data[at + 1])), at + 4
    if form == 0x02:
        (namespace,) = _UINT16.unpack_from(data, at + 1)
        return ua.NodeId(ua.Int32(_UINT32.unpack_from(data, at + 3)[0]), ua.Int16(namespace)), at + 7
    if form == 0x03:
        (namespace,) = _UINT16.unpack_from(data, at + 1)
        text, end = _bytes(data, at + 3)
        return ua.NodeId(ua.String(text.decode("utf-8", "surrogateescape")), ua.Int16(namespace)), end
    buffer = Buffer(data, at)
    found = nodeid_from_binary(buffer)
    if form & 0xC0:
        return None, buffer.cur_pos
    return found, buffer.cur_pos


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _INT32.unpack_from(data, at)
    at += 4
    if length <= 0:
        return b"", at
    if at + length > len(data):
        raise IndexError("the message ends before its references do")
    return data[at : at + length], at + length
