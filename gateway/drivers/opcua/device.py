"""An open OPC UA device on one page: from the config's section to a driver, and what is kept running beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any

from gateway.drivers.base import Notification, Shared
from gateway.drivers.opcua.connect import CHANNEL_S, keep_identity
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.definitions import Definitions
from gateway.drivers.opcua.facts import Facts
from gateway.drivers.opcua.history.seams import Seams
from gateway.drivers.opcua.learned import recall
from gateway.drivers.opcua.nodes import resolve
from gateway.drivers.opcua.reading import OpcuaDriver
from gateway.drivers.opcua.redundancy import open_best
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.subscription.deadbands import held_back
from gateway.drivers.opcua.subscription.fallback import why_poll
from gateway.drivers.opcua.subscription.follower import Follower, follow
from gateway.drivers.opcua.subscription.memory import Memory
from gateway.drivers.opcua.subscription.trial import try_again
from gateway.drivers.opcua.survey import survey
from gateway.drivers.opcua.taking import completed
from gateway.drivers.opcua.watch import Watch
from gateway.errors import DeviceError
from gateway.model import Bookmark


class OpcuaSubscriber(OpcuaDriver):
    """An open session with a subscription; nodes can still be read, for heartbeats."""

    subscribes = True

    def __init__(self, connection: Connection, follower: Follower) -> None:
        super().__init__(connection)
        self._follower = follower

    @property
    def details(self) -> Mapping[str, Any]:
        """How the server is followed, and what it made of our wishes."""
        return {**super().details, **self._follower.details}

    @property
    def farewell(self) -> Mapping[str, Bookmark | None]:
        """The subscriptions are deleted at the server: nobody need look for them."""
        return self._follower.farewell

    @property
    def held_back(self) -> Mapping[int, float]:
        """What the server's own deadbands may keep to itself."""
        return held_back(self._connection)

    def changes(self) -> AsyncIterator[Notification]:
        """Give what the server notifies, until the connection ends. Raises DeviceError when it does."""
        return self._follower.changes(self.poll)

    async def poll(self, columns: tuple[int, ...]) -> Notification:
        """Read tags that were not notified of late: what is read may overtake notifications that are on their way."""
        readings = await self._read(columns)
        marks = self._connection.seams.aside(readings) | self._connection.learned
        return Notification(await self._samples(readings), bookmarks=marks)

    def acknowledge(self, receipt: Any) -> None:
        """Note that the notification with this receipt is on disk; the next PublishRequest tells the server."""
        self._follower.acknowledge(receipt)


@contextlib.asynccontextmanager
async def open_device(
    section: OpcuaDevice, shared: Shared, *, channel_s: float = CHANNEL_S
) -> AsyncIterator[OpcuaDriver]:
    """Connect to the section's server. Raises DeviceError on entry, and out of the body when the link is found dead.

    The keys of the secure channel are used for `channel_s` seconds at most, and renewed before.
    """
    recall(shared.memory.setdefault(section.name, {}), shared.bookmarks(section.name))
    async with open_best(section, shared, channel_s) as (session, watch):
        try:
            connection = await _connected(section, session, watch, shared)
            driver = await _driver(connection)
            async with asyncio.TaskGroup() as group:
                keepers = [
                    group.create_task(session.renew(), name=f"opcua[{section.name}].renew"),
                    group.create_task(watch.keep_looking(), name=f"opcua[{section.name}].watch"),
                    group.create_task(
                        keep_identity(section, shared.gateway_id), name=f"opcua[{section.name}].certificate"
                    ),
                ]
                if section.mode == "subscribe" and not driver.subscribes:
                    keepers.append(group.create_task(try_again(connection), name=f"opcua[{section.name}].trial"))
                try:
                    yield driver
                finally:
                    for keeper in keepers:
                        keeper.cancel()
        except BaseExceptionGroup as group_error:
            first = _telling(group_error)
            session.keeps_subscriptions = isinstance(first, Exception) and Memory.of(connection.memory).transfers
            raise first from first.__cause__
        except DeviceError:
            session.keeps_subscriptions = True
            raise


def _telling(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the exception that a caller without task groups would have seen: what is not ours goes first."""
    return next((error for error in group.exceptions if not isinstance(error, DeviceError)), group.exceptions[0])


async def _connected(section: OpcuaDevice, session: Session, watch: Watch, shared: Shared) -> Connection:
    """Learn what the server tells of itself and of the tags."""
    memory = shared.memory.setdefault(section.name, {})
    server = await survey(session, memory, section.limits)
    section = await completed(section, session, server, memory)
    nodes = [resolve(tag.node, server.namespaces) for tag in section.tags]
    definitions = Definitions(session, server.limits)
    facts = Facts(section, session, server, nodes, definitions, memory)
    section = await facts.complete()
    seams = Seams(section, shared.bookmarks(section.name))
    known = partial(shared.bookmarks, section.name)
    return Connection(section, session, watch, server, nodes, definitions, facts, memory, known, seams)


async def _driver(connection: Connection) -> OpcuaDriver:
    """Follow what the server notifies; read instead where the config says so, or its subscriptions are of no use."""
    if connection.section.mode == "poll":
        return OpcuaDriver(connection)
    why = why_poll(connection)
    if not why:
        try:
            return OpcuaSubscriber(connection, await follow(connection))
        except DeviceError as error:
            why = why_poll(connection, error)
            if not why:
                raise
    return OpcuaDriver(connection, why)
