"""An open OPC UA device: reads nodes, and in `mode: subscribe` also gives what the server notifies."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.base import Driver, Notification, Shared
from gateway.drivers.opcua.connect import CHANNEL_S
from gateway.drivers.opcua.faults import CONNECTION_LOST, device_errors
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.samples import in_samples
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session, open_session, read_request, standard_node
from gateway.drivers.opcua.subscription import Subscription, subscribe
from gateway.drivers.opcua.values import NO_VALUE, DataValue
from gateway.errors import DeviceError
from gateway.model import Sample

_CHUNK: Final = 500
"""Nodes a request, where the server knows no limit: longer answers would be decoded in one go for too long."""
_NODE_ID_UNKNOWN: Final = DataValue(NO_VALUE, StatusCodes.BadNodeIdUnknown, None, None)
_BASICS: Final = read_request(
    [
        standard_node(ObjectIds.Server_NamespaceArray),
        standard_node(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead),
        standard_node(ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall),
    ]
)


class Basics(NamedTuple):
    """What a server says of itself: its namespaces, by index, and how many nodes it takes a request."""

    namespaces: tuple[str, ...]
    most_reads: int
    most_items: int


class OpcuaDriver(Driver):
    """An open session from which nodes are read."""

    def __init__(self, section: OpcuaDevice, session: Session, nodes: Sequence[ua.NodeId | None], chunk: int) -> None:
        self._section = section
        self._session = session
        self._nodes = nodes
        self._chunk = chunk
        self._names = tuple(tag.name for tag in section.tags)
        self._plans: dict[tuple[int, ...], list[tuple[tuple[int, ...], ua.ReadRequest]]] = {}

    @property
    def address(self) -> str:
        """`host:port` of the endpoint."""
        return self._session.address

    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Read the tags at these positions now; one sample for each millisecond that the server's values are from.

        Raises DeviceError if the link is lost or the server refuses a whole request.
        """
        readings = [(column, _NODE_ID_UNKNOWN) for column in columns if self._nodes[column] is None]
        for chunk, request in self._plan(columns):
            body = await self._session.ask(request)
            with device_errors(self.address):
                values = read_response(body)
            if len(values) != len(chunk):
                text = f"{self.address} answered {len(chunk)} nodes with {len(values)} values"
                raise DeviceError(text, reason=CONNECTION_LOST)
            readings += zip(chunk, values, strict=True)
        return in_samples(readings, self._names, self._section.timestamp, time.time_ns() // 1_000_000)

    def _plan(self, columns: tuple[int, ...]) -> list[tuple[tuple[int, ...], ua.ReadRequest]]:
        if columns not in self._plans:
            self._plans[columns] = list(self._requests(columns))
        return self._plans[columns]

    def _requests(self, columns: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ua.ReadRequest]]:
        nodes = [(column, node) for column in columns if (node := self._nodes[column]) is not None]
        for first in range(0, len(nodes), self._chunk):
            chunk = nodes[first : first + self._chunk]
            yield tuple(column for column, _ in chunk), read_request([node for _, node in chunk])


class OpcuaSubscriber(OpcuaDriver):
    """An open session with a subscription; nodes can still be read, for heartbeats."""

    subscribes = True

    def __init__(
        self,
        section: OpcuaDevice,
        session: Session,
        nodes: Sequence[ua.NodeId | None],
        chunk: int,
        subscription: Subscription,
    ) -> None:
        super().__init__(section, session, nodes, chunk)
        self._subscription = subscription

    def changes(self) -> AsyncIterator[Notification]:
        """Give what the server notifies, until the connection ends. Raises DeviceError when it does."""
        return self._subscription.changes()

    def acknowledge(self, receipt: Any) -> None:
        """Note that the notification with this receipt is on disk; the next PublishRequest tells the server."""
        self._subscription.acknowledge(receipt)


@contextlib.asynccontextmanager
async def open_device(
    section: OpcuaDevice, shared: Shared, *, channel_s: float = CHANNEL_S
) -> AsyncIterator[OpcuaDriver]:
    """Connect to the section's server. Raises DeviceError on entry, and out of the body when the link is found dead.

    The keys of the secure channel are used for `channel_s` seconds at most, and renewed before.
    """
    async with open_session(section, shared, channel_s) as session:
        driver = await _driver(section, session)
        try:
            async with asyncio.TaskGroup() as group:
                keepers = [
                    group.create_task(session.renew(), name=f"opcua[{section.name}].renew"),
                    group.create_task(session.probe(), name=f"opcua[{section.name}].probe"),
                ]
                try:
                    yield driver
                finally:
                    for keeper in keepers:
                        keeper.cancel()
        except BaseExceptionGroup as group_error:
            first = _telling(group_error)
            raise first from first.__cause__


def _telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the exception that a caller without task groups would have seen: what is not ours goes first."""
    return next((error for error in group.exceptions if not isinstance(error, DeviceError)), group.exceptions[0])


async def _driver(section: OpcuaDevice, session: Session) -> OpcuaDriver:
    basics = await _basics(session)
    nodes = [resolve(tag.node, basics.namespaces) for tag in section.tags]
    if section.mode == "poll":
        return OpcuaDriver(section, session, nodes, basics.most_reads)
    subscription = await subscribe(session, section, nodes, basics.most_items)
    return OpcuaSubscriber(section, session, nodes, basics.most_reads, subscription)


async def _basics(session: Session) -> Basics:
    body = await session.ask(_BASICS, session.setup_timeout)
    with device_errors(session.address):
        namespaces, reads, items = (value.value for value in read_response(body))
    return Basics(tuple(namespaces) if isinstance(namespaces, list) else (), _limit(reads), _limit(items))


def _limit(given: object) -> int:
    """Give a limit of a server; 0, or none at all, says that there is none (OPC 10000-5 section 6.3.11)."""
    return min(given, _CHUNK) if isinstance(given, int) and given > 0 else _CHUNK


def resolve(text: str, namespaces: Sequence[str]) -> ua.NodeId | None:
    """Give the server's NodeId for what a tag's `node` says; None if there can be no such node at this server.

    A server may number its namespaces anew at each start (OPC 10000-3 section 8.2.2), so this holds for one
    connection only. In the text form of a URI, `%3B` stands for a semicolon (OPC 10000-6 section 5.3.1.11).
    """
    if text.startswith("nsu="):
        uri, _, identifier = text.removeprefix("nsu=").partition(";")
        spellings = (uri, uri.replace("%3B", ";").replace("%25", "%"))
        index = next((namespaces.index(spelling) for spelling in spellings if spelling in namespaces), None)
    else:
        index, identifier = 0, text
        if text.startswith("ns="):
            number, _, identifier = text.removeprefix("ns=").partition(";")
            index = int(number)
    return None if index is None else _node_id(index, identifier)


def _node_id(namespace: int, identifier: str) -> ua.NodeId | None:
    kind, _, text = identifier.partition("=")
    where = ua.Int16(namespace)
    match kind:
        case "i":
            return ua.NodeId(ua.Int32(text), where)
        case "s":
            return ua.NodeId(ua.String(text), where)
        case "g":
            return ua.NodeId(ua.Guid(text), where)
    try:
        return ua.NodeId(ua.ByteString(base64.b64decode(text, validate=True)), where)
    except ValueError:
        return None
