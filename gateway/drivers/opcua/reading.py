"""An open OPC UA device whose nodes are read: `mode: poll`, and what any other mode reads beside."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.base import Driver, Notification
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.exploring import SessionExplorer
from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.history.filling import fill_holes
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.registering import ReadIds
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import read_request
from gateway.drivers.opcua.taking import MISSING
from gateway.drivers.opcua.types.values import NO_VALUE, DataValue
from gateway.errors import DeviceError
from gateway.model import Sample

_NODE_ID_UNKNOWN: Final = DataValue(NO_VALUE, StatusCodes.BadNodeIdUnknown, None, None)
_UNKNOWN: Final = frozenset({StatusCodes.BadNodeIdUnknown, StatusCodes.BadNodeIdInvalid})
"""What a server answers about an id that it gave for the session, once it has forgotten it."""
_KEPT_REQUESTS: Final = 256


class OpcuaDriver(Driver):
    """An open session from which nodes are read; `why` says why, where the config wants a subscription."""

    def __init__(self, connection: Connection, why: str = "") -> None:
        self._why = why
        self._connection = connection
        self._session = connection.session
        self._ids = ReadIds(connection)
        self._requests: dict[tuple[int, ...], ua.ReadRequest] = {}
        self._unreadable: dict[int, DataValue] = {}

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
        connection, limits = self._connection, self._connection.server.limits
        found: dict[str, Any] = {"mode": "subscribe" if self.subscribes else "poll"}
        found |= {"why": self._why} if self._why else {}
        found |= {"address": self.address}
        found |= {"server": connection.server.product} if connection.server.product else {}
        found |= connection.watch.details
        found |= {"limits": limits.document, "limits_from": limits.sources} if limits.document else {}
        found |= {"missing": connection.memory[MISSING]} if connection.memory.get(MISSING) else {}
        return found | ({"registered": self._ids.registered} if self._ids.registered else {})

    @property
    def explorer(self) -> SessionExplorer:
        """What shows the server's nodes to a person, through this session."""
        return SessionExplorer(self._session, self._connection.server, self._connection.definitions)

    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Read the tags at these positions now; one sample for each millisecond that the server's values are from.

        Raises DeviceError if the link is lost or the server refuses a whole request.
        """
        return await self._samples(await self._read(columns))

    async def poll(self, columns: tuple[int, ...]) -> Notification:
        """Read the tags that are due, with the bookmarks of how far each was stored. Raises as `read` does."""
        if await self._ids.poll(columns):
            self._requests.clear()
        readings = await self._read(columns)
        marks = self._connection.seams.note(readings) | self._connection.learned
        return Notification(await self._samples(readings), bookmarks=marks)

    def history(self) -> AsyncIterator[Notification]:
        """Give what the server kept of each outage, for as long as the connection lasts."""
        return fill_holes(self._connection)

    async def _read(self, columns: tuple[int, ...]) -> list[tuple[int, DataValue]]:
        unreadable = self._unreadable
        known = [column for column in columns if self._ids[column] is not None and column not in unreadable]
        values = dict(zip(known, await self._values(known), strict=True))
        gone = [column for column in known if self._ids.is_registered(column) and values[column].status in _UNKNOWN]
        if gone:
            self._ids.forget(gone)
            self._requests.clear()
            values |= zip(gone, await self._values(gone), strict=True)
        readings = [(column, _NODE_ID_UNKNOWN) for column in columns if self._ids[column] is None]
        readings += [
            (column, unreadable[column]) for column in columns if column in unreadable and column not in values
        ]
        return [*readings, *values.items()]

    async def _values(self, columns: Sequence[int]) -> list[DataValue]:
        limits = self._connection.server.limits
        return await in_chunks(limits, Service.READ, columns, self._ask, self._too_large)

    async def _samples(self, readings: list[tuple[int, DataValue]]) -> tuple[Sample, ...]:
        return await self._connection.samples(readings, time.time_ns() // 1_000_000)

    async def _ask(self, columns: Sequence[int]) -> list[DataValue]:
        body = await self._session.ask(self._request(tuple(columns)))
        with device_errors(self.address):
            return read_response(body)

    def _too_large(self, column: int, error: DeviceError) -> DataValue:
        """Note a value that no answer can hold; to look for it at each poll would take ten requests."""
        value = DataValue(NO_VALUE, getattr(StatusCodes, error.reason), None, None)
        self._unreadable[column] = value
        return value

    def _request(self, columns: tuple[int, ...]) -> ua.ReadRequest:
        """Give the request for these columns; the same columns are due again and again."""
        request = self._requests.get(columns)
        if request is None:
            if len(self._requests) >= _KEPT_REQUESTS:
                self._requests.clear()
            request = read_request(node for column in columns if (node := self._ids[column]) is not None)
            self._requests[columns] = request
        return request
