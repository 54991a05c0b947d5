"""An open OPC UA device on one page: from the config's section to a driver, and what is kept running beside it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from gateway.drivers.base import Notification, Shared
from gateway.drivers.opcua.connect import CHANNEL_S
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.nodes import resolve
from gateway.drivers.opcua.reading import OpcuaDriver
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session, open_session
from gateway.drivers.opcua.subscription.subscription import Subscription, subscribe
from gateway.drivers.opcua.survey import survey
from gateway.drivers.opcua.taking import completed
from gateway.errors import DeviceError


class OpcuaSubscriber(OpcuaDriver):
    """An open session with a subscription; nodes can still be read, for heartbeats."""

    subscribes = True

    def __init__(self, connection: Connection, subscription: Subscription) -> None:
        super().__init__(connection)
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
        driver = await _driver(await _connected(section, session, shared))
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


async def _connected(section: OpcuaDevice, session: Session, shared: Shared) -> Connection:
    """Learn what the server tells of itself and of the tags."""
    server = await survey(session)
    section = await completed(section, session, server)
    nodes = [resolve(tag.node, server.namespaces) for tag in section.tags]
    memory = shared.memory.setdefault(section.name, {})
    return Connection(section, session, server, nodes, memory, lambda: shared.bookmarks(section.name))


async def _driver(connection: Connection) -> OpcuaDriver:
    if connection.section.mode == "poll":
        return OpcuaDriver(connection)
    return OpcuaSubscriber(connection, await subscribe(connection))
