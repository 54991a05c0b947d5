"""The references of nodes, asked for in requests that the server takes, followed to their end (OPC 10000-4 5.9)."""

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from asyncua import ua

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.limits import Limits, Service, in_chunks
from gateway.drivers.opcua.nodes import parse_node_id
from gateway.drivers.opcua.pages import Page, read_pages
from gateway.drivers.opcua.session import Session

_MOST_REFERENCES: Final = 1000
"""References of one node that one answer may hold; what is more comes by continuation points."""


class Reference(NamedTuple):
    """Where a reference goes to: the node, None if it lies at another server, and its browse name without namespace."""

    node: ua.NodeId | None
    name: str


class Wanted(NamedTuple):
    """Which references of a node: of this type and, if wanted, its subtypes; `inverse` for those that come from it."""

    reference_type: int
    inverse: bool = False
    subtypes: bool = True


async def references(
    session: Session, limits: Limits, nodes: Sequence[ua.NodeId], wanted: Wanted
) -> list[list[Reference]]:
    """Give the references of each node; none for one that the server does not know. Raises DeviceError."""
    pages = await in_chunks(limits, Service.BROWSE, nodes, partial(_browse, session, wanted))
    found = [_targets(page) for page in pages]
    open_pages = {at: page.point for at, page in enumerate(pages) if page.point}
    while open_pages:
        items = list(open_pages.items())
        ask = partial(_browse_next, session)
        nexts = await in_chunks(limits, Service.BROWSE, [point for _, point in items], ask)
        open_pages = {}
        for (at, _), page in zip(items, nexts, strict=True):
            found[at] += _targets(page)
            if page.point:
                open_pages[at] = page.point
    return found


async def _browse(session: Session, wanted: Wanted, nodes: Sequence[ua.NodeId]) -> list[Page]:
    request = ua.BrowseRequest()
    request.Parameters.RequestedMaxReferencesPerNode = ua.UInt32(_MOST_REFERENCES)
    request.Parameters.NodesToBrowse = [
        ua.BrowseDescription(
            NodeId=node,
            BrowseDirection=ua.BrowseDirection.Inverse if wanted.inverse else ua.BrowseDirection.Forward,
            ReferenceTypeId=ua.NodeId(ua.Int32(wanted.reference_type)),
            IncludeSubtypes=wanted.subtypes,
            ResultMask=ua.UInt32(ua.BrowseResultMask.BrowseName),
        )
        for node in nodes
    ]
    return await _ask(session, request)


async def _browse_next(session: Session, points: Sequence[bytes]) -> list[Page]:
    request = ua.BrowseNextRequest()
    request.Parameters.ReleaseContinuationPoints = False
    request.Parameters.ContinuationPoints = list(points)
    return await _ask(session, request)


async def _ask(session: Session, request: ua.BrowseRequest | ua.BrowseNextRequest) -> list[Page]:
    body = await session.ask(request, session.setup_timeout)
    with device_errors(session.address):
        return read_pages(body)


def _targets(page: Page) -> list[Reference]:
    return [Reference(parse_node_id(each.node) if each.node else None, each.name) for each in page.references]
