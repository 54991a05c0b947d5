"""An open OPC UA device whose nodes are read: `mode: poll`, and what any other mode reads beside."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.base import Driver, Notification
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.history.filling import fill_holes
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

    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Read the tags at these positions now; one sample for each millisecond that the server's values are from.

        Raises DeviceError if the link is lost or the server refuses a whole request.
        """
        return self._in_samples(await self._read(columns))

    async def poll(self, columns: tuple[int, ...]) -> Notification:
        """Read the tags that are due, with the bookmarks of how far each was stored. Raises as `read` does."""
        readings = await self._read(columns)
        return Notification(self._in_samples(readings), bookmarks=self._connection.seams.note(readings))

    def history(self) -> AsyncIterator[Notification]:
        """Give what the server kept of each outage, for as long as the connection lasts."""
        return fill_holes(self._connection)

    async def _read(self, columns: tuple[int, ...]) -> list[tuple[int, DataValue]]:
        nodes = self._connection.nodes
        known = [(column, node) for column in columns if (node := nodes[column]) is not None]
        values = await in_chunks(self._connection.server.limits, Service.READ, [node for _, node in known], self._ask)
        readings = [(column, _NODE_ID_UNKNOWN) for column in columns if nodes[column] is None]
        readings += zip((column for column, _ in known), values, strict=True)
        return readings

    def _in_samples(self, readings: list[tuple[int, DataValue]]) -> tuple[Sample, ...]:
        return in_samples(readings, self._names, self.section.timestamp, time.time_ns() // 1_000_000)

    async def _ask(self, nodes: Sequence[ua.NodeId]) -> list[DataValue]:
        body = await self._session.ask(read_request(nodes))
        with device_errors(self.address):
            return read_response(body)
