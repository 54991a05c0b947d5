"""An open OPC UA device whose nodes are read: `mode: poll`, and what any other mode reads beside."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.base import Driver
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.exploring import SessionExplorer
from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.samples import in_samples
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import read_request
from gateway.drivers.opcua.types.values import NO_VALUE, DataValue
from gateway.model import Sample

_NODE_ID_UNKNOWN: Final = DataValue(NO_VALUE, StatusCodes.BadNodeIdUnknown, None, None)


class OpcuaDriver(Driver):
    """An open session from which nodes are read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session = connection.session
        self._names = tuple(tag.name for tag in connection.section.tags)

    @property
    def address(self) -> str:
        """`host:port` of the endpoint."""
        return self._session.address

    @property
    def section(self) -> OpcuaDevice:
        """The device's section as it is at this server."""
        return self._connection.section

    @property
    def details(self) -> Mapping[str, Any]:
        """How the server is read."""
        return {"mode": "subscribe" if self.subscribes else "poll"}

    @property
    def explorer(self) -> SessionExplorer:
        """What shows the server's nodes to a person, through this session."""
        return SessionExplorer(self._session, self._connection.server)

    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Read the tags at these positions now; one sample for each millisecond that the server's values are from.

        Raises DeviceError if the link is lost or the server refuses a whole request.
        """
        nodes = self._connection.nodes
        known = [(column, node) for column in columns if (node := nodes[column]) is not None]
        values = await in_chunks(self._connection.server.limits, Service.READ, [node for _, node in known], self._ask)
        readings = [(column, _NODE_ID_UNKNOWN) for column in columns if nodes[column] is None]
        readings += zip((column for column, _ in known), values, strict=True)
        return in_samples(readings, self._names, self.section.timestamp, time.time_ns() // 1_000_000)

    async def _ask(self, nodes: Sequence[ua.NodeId]) -> list[DataValue]:
        body = await self._session.ask(read_request(nodes))
        with device_errors(self.address):
            return read_response(body)
