"""A walk through a server's address space, with Browse and BrowseNext only (OPC 10000-4 section 5.9)."""

import asyncio
import fnmatch
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Protocol

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.nodes import canonical, portable, resolve
from gateway.drivers.opcua.pages import Page, Reference, each_page
from gateway.drivers.opcua.session import Session, standard_node
from gateway.drivers.opcua.survey import Server
from gateway.drivers.opcua.types.values import status_name
from gateway.errors import DeviceError
from gateway.model import DeviceState

OBJECTS: Final = "i=85"
SERVER: Final = "i=2253"
"""The server's own object: diagnostics of thousands of nodes, walked only when asked for."""
OBJECT_CLASS: Final = 1
VARIABLE_CLASS: Final = 2
_HAS_PROPERTY: Final = "i=46"
_VARIABLES_AT_ONCE: Final = 100
_OBJECTS_AT_ONCE: Final = 20
"""Nodes in one request at most: objects have more references, and a server has few continuation points."""
_REFERENCES: Final = 5000
"""References in one answer at most: megabytes would keep the line, and the control socket, from others."""
_REFERENCES_OF_ONE: Final = 1000
"""References of one node in one answer at most; the server may give fewer."""
_PATIENCE_S: Final = 60.0
"""For an answer: some servers look through all that a folder has, 100,000 nodes, before they give the first page."""
_TURN: Final = 100
"""A page of so many references took a millisecond to decode: whoever else has something to do does it now."""
_FULL: Final = frozenset({StatusCodes.BadNoContinuationPoints, StatusCodes.BadContinuationPointInvalid})


class Pages(Protocol):
    """Whoever asks the server: one call is one bounded step. Both raise DeviceError."""

    async def first(self, nodes: Sequence[str]) -> list[Page]:
        """Ask for the first references of each node."""

    async def more(self, points: Sequence[bytes], *, release: bool = False) -> list[Page]:
        """Ask for what follows at each continuation point, or say that nobody will."""


@dataclass(frozen=True, slots=True)
class Node:
    """An object or variable that the walk came to.

    `path` has the browse names below the start, with dots between; `properties` the node ids of the node's
    properties by their names. `fault` is the StatusCode's name if the server did not tell what is below. `parent` is
    the node from which the walk came here.
    """

    node: str
    path: str
    node_class: int
    depth: int
    properties: dict[str, str] = field(default_factory=dict)
    fault: str = ""
    name: str = ""
    parent: str = ""

    @property
    def is_variable(self) -> bool:
        """Whether it has a value."""
        return self.node_class == VARIABLE_CLASS


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where a walk ends: levels below the start, and nodes met. `most` is exceeded only by raising DeviceError."""

    depth: int = 64
    most: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """Which nodes are wanted, by globs on their path; what an `exclude` matches goes with all that is below it."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, path: str) -> bool:
        """Whether a node at this path is wanted."""
        return (not self.include or _matches(self.include, path)) and not self.prunes(path)

    def prunes(self, path: str) -> bool:
        """Whether the walk need not go there."""
        return bool(self.exclude) and _matches(self.exclude, path)


def _matches(globs: tuple[str, ...], path: str) -> bool:
    return _pattern(globs).fullmatch(path) is not None


@lru_cache(maxsize=64)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{fnmatch.translate(glob)})" for glob in globs))


class Browser:
    """Asks a server through an open session, within the server's limits."""

    def __init__(self, session: Session, server: Server) -> None:
        self._session = session
        self._server = server
        self.requests = 0

    async def first(self, nodes: Sequence[str]) -> list[Page]:
        """Ask for the first references of each node; a node that the server cannot have has BadNodeIdUnknown."""
        found = [resolve(node, self._server.namespaces) for node in nodes]
        known = [node for node in found if node]
        pages = await in_chunks(self._server.limits, Service.BROWSE, known, self._browse)
        answered = iter(pages)
        none = Page(StatusCodes.BadNodeIdUnknown, b"", [])
        return [
            (next(answered) if node else none)._replace(node=canonical(text, self._server.namespaces))
            for text, node in zip(nodes, found, strict=True)
        ]

    async def more(self, points: Sequence[bytes], *, release: bool = False) -> list[Page]:
        """Ask for what follows at each continuation point, or free it."""

        async def ask(chunk: Sequence[bytes]) -> list[Page]:
            parameters = ua.BrowseNextParameters(ReleaseContinuationPoints=release, ContinuationPoints=list(chunk))
            return await self._ask(ua.BrowseNextRequest(Parameters=parameters), len(chunk))

        return await in_chunks(self._server.limits, Service.BROWSE, points, ask)

    async def _browse(self, nodes: Sequence[ua.NodeId]) -> list[Page]:
        most = min(_REFERENCES_OF_ONE, _REFERENCES // len(nodes))
        parameters = ua.BrowseParameters(RequestedMaxReferencesPerNode=ua.UInt32(most))
        parameters.NodesToBrowse = [
            ua.BrowseDescription(
                NodeId=node,
                BrowseDirection=ua.BrowseDirection.Forward,
                ReferenceTypeId=standard_node(ObjectIds.HierarchicalReferences),
                IncludeSubtypes=True,
                NodeClassMask=ua.UInt32(OBJECT_CLASS | VARIABLE_CLASS),
                ResultMask=ua.UInt32(ua.BrowseResultMask.All),
            )
            for node in nodes
        ]
        return await self._ask(ua.BrowseRequest(Parameters=parameters), len(nodes))

    async def _ask(self, request: object, expected: int) -> list[Page]:
        self.requests += 1
        body = await self._session.ask_in_background(request, max(_PATIENCE_S, self._session.setup_timeout))
        pages = []
        with device_errors(self._session.address):
            for page in each_page(body):
                pages.append(self._portable(page))
                if len(page.references) >= _TURN:
                    await asyncio.sleep(0)
        if len(pages) > expected:
            text = f"{self._session.address} answered {expected} nodes with {len(pages)} results"
            raise DeviceError(text, reason="connection-lost")
        return pages

    def _portable(self, page: Page) -> Page:
        """Write the node ids as they can be kept beyond this connection."""
        spaces = self._server.namespaces
        return page._replace(references=[each._replace(node=portable(each.node, spaces)) for each in page.references])


class Walk:
    """One walk from a node downwards, breadth first; each node is met once, by the shortest way to it."""

    def __init__(
        self,
        pages: Pages,
        start: str = OBJECTS,
        *,
        bounds: Bounds = Bounds(),
        choice: Choice = Choice(),
        tell: Callable[[int], None] = lambda _met: None,
    ) -> None:
        """Prepare. `tell` is called after each step with how many nodes were met."""
        self._pages = pages
        self._start = start
        self._bounds = bounds
        self._choice = choice
        self._tell = tell
        self._met = {start}

    async def nodes(self) -> AsyncIterator[Node]:
        """Give what is below the start, each node once its own references are known. Raises DeviceError."""
        waiting = deque([Node(self._start, "", OBJECT_CLASS, 0)])
        while waiting:
            batch = _batch(waiting)
            deep = [node for node in batch if node.depth < self._bounds.depth or node.is_variable]  # for its unit
            children = dict(zip((node.node for node in deep), await self._children(deep), strict=True))
            for node in batch:
                references, fault = children.get(node.node, ([], ""))
                if node.depth < self._bounds.depth:
                    waiting.extend(self._below(node, references))
                properties = {each.name: each.node for each in references if each.kind == _HAS_PROPERTY and each.node}
                if node.depth:
                    yield replace(node, properties=properties, fault=fault)
                elif fault:
                    raise _no_start(self._start, fault)
            self._tell(len(self._met))

    def _below(self, parent: Node, references: Sequence[Reference]) -> list[Node]:
        """Give those children that nobody has met yet."""
        found = []
        for each in references:
            if each.kind == _HAS_PROPERTY or not each.node or each.node in self._met or each.node == SERVER:
                continue
            path = f"{parent.path}.{each.name}" if parent.path else each.name
            if not self._choice.prunes(path):
                self._met.add(each.node)
                child = Node(each.node, path, each.node_class, parent.depth + 1, name=each.name, parent=parent.node)
                found.append(child)
        return found

    async def _children(self, nodes: Sequence[Node]) -> list[tuple[list[Reference], str]]:
        """Give all references of some nodes, with the name of the status where the server gave none."""
        if not nodes:
            return []
        pages = await self._pages.first([node.node for node in nodes])
        self._met.update(page.node for page in pages)
        found = [page.references for page in pages]
        status = [page.status for page in pages]
        points = {at: page.point for at, page in enumerate(pages) if page.point}
        await self._follow(points, found, status)
        for at, node in enumerate(nodes):
            if status[at] in _FULL:  # the server follows only so many nodes at a time: this one by itself
                (page,) = await self._pages.first([node.node])
                found[at], status[at] = page.references, page.status
                await self._follow({at: page.point} if page.point else {}, found, status)
        return [
            (references, status_name(code) if code >> 31 else "")
            for references, code in zip(found, status, strict=True)
        ]

    async def _follow(self, points: dict[int, bytes], found: list[list[Reference]], status: list[int]) -> None:
        """Ask at the continuation points until nothing is left there, adding to what was found."""
        while True:
            if len(self._met) + sum(map(len, found)) > self._bounds.most:
                if points:
                    await self._pages.more(list(points.values()), release=True)
                raise _too_many(self._bounds.most)
            if not points:
                return
            pages = await self._pages.more(list(points.values()))
            for at, page in zip(list(points), pages, strict=True):
                found[at] += page.references
                status[at] = page.status
                points[at] = page.point
            points = {at: point for at, point in points.items() if point and not status[at] >> 31}


def _batch(waiting: deque[Node]) -> list[Node]:
    """Take nodes of one class for one request."""
    is_variable = waiting[0].is_variable
    most = _VARIABLES_AT_ONCE if is_variable else _OBJECTS_AT_ONCE
    batch: list[Node] = []
    while waiting and len(batch) < most and waiting[0].is_variable == is_variable:
        batch.append(waiting.popleft())
    return batch


def _no_start(start: str, fault: str) -> DeviceError:
    return DeviceError(
        f"browsing cannot begin at {start}: {fault}",
        reason=fault,
        state=DeviceState.CONFIG_ERROR,
        do="Look for the node with edge-gateway browse.",
    )


def _too_many(most: int) -> DeviceError:
    return DeviceError(
        f"there are more than {most} nodes to browse",
        reason="too-many-nodes",
        state=DeviceState.CONFIG_ERROR,
        do="Begin further down, or leave branches out with exclude.",
    )
