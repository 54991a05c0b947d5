"""The tags that the server would not monitor, or whose node has vanished: told, and tried again."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from asyncua.ua.status_codes import StatusCodes

from gateway.drivers.base import Notification
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.faults import CONNECTION_LOST
from gateway.drivers.opcua.messages import Changes
from gateway.drivers.opcua.subscription.items import UNKNOWN_NODE, monitor
from gateway.drivers.opcua.subscription.recovery import facts_of
from gateway.drivers.opcua.subscription.retries import Retries
from gateway.drivers.opcua.subscription.subscription import Subscription
from gateway.drivers.opcua.survey import survey
from gateway.errors import DeviceError
from gateway.model import Bookmark, Sample

_VANISHED: Final = frozenset({StatusCodes.BadNodeIdUnknown, StatusCodes.BadNodeIdInvalid})
"""What servers notify of a node that was taken away; some end its item with it, and know no more when it is back."""


class Unmonitored:
    """Knows which tags are not monitored. `refused` are those that were refused just now, with the status' name."""

    def __init__(
        self, connection: Connection, subscriptions: Sequence[Subscription], refused: Mapping[int, str]
    ) -> None:
        self._connection = connection
        self._subscriptions = subscriptions
        self._refused = refused
        self._names = tuple(tag.name for tag in connection.section.tags)
        self._retries = Retries()

    @property
    def count(self) -> int:
        """How many tags are not monitored."""
        return len(self._retries)

    @property
    def next(self) -> float:
        """When the next is to be tried again (monotonic seconds)."""
        return self._retries.next

    def begin(self) -> tuple[Sample, ...]:
        """Start the waiting; give what is to be told. What an earlier session could not monitor is read anyway."""
        now = asyncio.get_running_loop().time()
        for column, status in self._refused.items():
            self._retries.wait(column, status, now)
        for subscription in self._subscriptions:
            if subscription.taken_over:
                for column in set(subscription.columns) - subscription.items.keys():
                    self._retries.wait(column, "", now)
        return self._bad(self._refused)

    def note(self, changes: Changes, flagged: Changes) -> None:
        """Note which nodes have vanished from the server, and which are back; `flagged` have another status than 0."""
        gone = {column for column, value in flagged if value.status & 0xFFFF_0000 in _VANISHED}
        if gone:
            now = asyncio.get_running_loop().time()
            for column in gone:
                self._retries.wait(column, UNKNOWN_NODE, now, quick=True)
        if self.count:
            self._retries.good({column for column, _ in changes} - gone)

    async def retry(self) -> Notification | None:
        """Try again what is due; give what is news of it. Raises DeviceError, also where nodes have new ids now."""
        loop = asyncio.get_running_loop()
        columns = self._retries.take(loop.time())
        if not columns:
            return None
        await self._look_for_namespaces(columns)
        news: dict[int, str] = {}
        marks: dict[str, Bookmark | None] = {}
        for subscription in self._subscriptions:
            if mine := sorted(set(columns) & set(subscription.columns)):
                still = await monitor(self._connection, subscription, mine, {})
                self._retries.good(set(mine) - still.keys())
                news |= {c: status for c, status in still.items() if self._retries.wait(c, status, loop.time())}
                if len(still) < len(mine):
                    self._retries.hurry(loop.time())
                    marks |= facts_of(subscription)
        return Notification(self._bad(news), bookmarks=marks) if news or marks else None

    async def _look_for_namespaces(self, columns: Sequence[int]) -> None:
        """Raise DeviceError if tags had no node because their namespace was missing, and now there are others."""
        connection = self._connection
        if all(connection.nodes[column] is not None for column in columns):
            return
        server = await survey(connection.session, connection.memory, connection.section.limits)
        if server.namespaces != connection.server.namespaces:
            text = f"{connection.session.address} has other namespaces now"
            raise DeviceError(text, reason=CONNECTION_LOST, do="Nothing: the nodes are looked up again.")

    def _bad(self, refused: Mapping[int, str]) -> tuple[Sample, ...]:
        if not refused:
            return ()
        quality = {self._names[column]: f"bad:{status}" for column, status in refused.items()}
        return (Sample(time.time_ns() // 1_000_000, (), (), len(quality), quality),)
