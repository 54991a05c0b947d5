"""What a server says of itself when we connect: its namespaces, its limits."""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.learned import Learned
from gateway.drivers.opcua.limits import ITEMS_PER_SUBSCRIPTION, Limits, Service, in_chunks
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.session import Session, read_request, standard_node
from gateway.drivers.opcua.types.values import DataValue

_LIMITS: Final = {
    Service.READ: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    Service.MONITOR: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    Service.BROWSE: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    Service.TRANSLATE: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds,
    Service.REGISTER: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRegisterNodes,
    Service.HISTORY: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData,
}
BASICS: Final = (
    standard_node(ObjectIds.Server_NamespaceArray),
    standard_node(ObjectIds.Server_ServerStatus_StartTime),
    standard_node(ObjectIds.Server_ServerCapabilities_MaxMonitoredItemsPerSubscription),
    standard_node(ObjectIds.Server_ServerStatus_BuildInfo_ProductName),
    standard_node(ObjectIds.Server_ServerStatus_BuildInfo_SoftwareVersion),
    *(standard_node(number) for number in _LIMITS.values()),
)


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself: its namespaces, by index, and how much it takes in one request.

    `started` is since when it runs (ms since the Unix epoch), None if it does not say. `product` is its name and
    version (BuildInfo, OPC 10000-5 section 12.4); empty where it tells none.
    """

    namespaces: tuple[str, ...]
    limits: Limits
    started: int | None = None
    product: str = ""


async def survey(session: Session, memory: MutableMapping[str, Any], given: Mapping[Service, int]) -> Server:
    """Ask the server for what everything else needs. Raises DeviceError.

    Limits that were found by halving stay in `memory` while the server runs; those that the config gave hold whatever
    the server says.
    """
    learned = Learned.of(memory, session.address)
    before = dict(learned.found)
    limits = Limits(given=given, found=learned.found)
    namespaces, started, items, name, version, *told = await read_basics(session, limits, BASICS, session.setup_timeout)
    product = " ".join(text for text in (name, version) if isinstance(text, str) and text)
    learned.meet(f"{started} {product}" if isinstance(started, int) else "", before)
    for limit, most in zip((*_LIMITS, ITEMS_PER_SUBSCRIPTION), (*told, items), strict=True):
        limits.tell(limit, most)
    return Server(
        tuple(namespaces) if isinstance(namespaces, list) else (),
        limits,
        started if isinstance(started, int) else None,
        product,
    )


async def read_basics(session: Session, limits: Limits, nodes: Sequence[ua.NodeId], timeout: float) -> list[Any]:
    """Read the values of nodes that every server has, in as many requests as it wants. Raises DeviceError."""

    async def ask(chunk: Sequence[ua.NodeId]) -> list[DataValue]:
        body = await session.ask(read_request(chunk), timeout)
        with device_errors(session.address):
            return read_response(body)

    return [value.value for value in await in_chunks(limits, Service.READ, nodes, ask)]
