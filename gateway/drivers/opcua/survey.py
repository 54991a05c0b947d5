"""What a server says of itself when we connect: its namespaces, its limits."""

from dataclasses import dataclass
from typing import Final

from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.limits import Limits, Service
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.session import Session, read_request, standard_node

_LIMITS: Final = {
    Service.READ: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    Service.BROWSE: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
    Service.MONITOR: ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
}
_BASICS: Final = read_request(
    [standard_node(ObjectIds.Server_NamespaceArray), *(standard_node(number) for number in _LIMITS.values())]
)


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself: its namespaces, by index, and how much it takes in one request."""

    namespaces: tuple[str, ...]
    limits: Limits


async def survey(session: Session) -> Server:
    """Ask the server for what everything else needs. Raises DeviceError."""
    body = await session.ask(_BASICS, session.setup_timeout)
    with device_errors(session.address):
        namespaces, *given = (value.value for value in read_response(body))
    limits = Limits()
    for service, limit in zip(_LIMITS, given, strict=True):
        limits.tell(service, limit)
    return Server(tuple(namespaces) if isinstance(namespaces, list) else (), limits)
