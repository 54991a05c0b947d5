"""Beside the polling of a device whose subscriptions were of no use: whether they are by now."""

import asyncio
from typing import NoReturn

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.faults import CONNECTION_LOST
from gateway.drivers.opcua.subscription import wishes
from gateway.drivers.opcua.subscription.items import monitor
from gateway.drivers.opcua.subscription.memory import Memory
from gateway.drivers.opcua.subscription.publishing import Publishing
from gateway.drivers.opcua.subscription.services import create_subscription, delete_subscriptions
from gateway.drivers.opcua.subscription.subscription import Subscription
from gateway.errors import DeviceError


async def try_again(connection: Connection) -> NoReturn:
    """Try one subscription with one tag once in an hour. Raises DeviceError when it gives a value: connect anew."""
    memory = Memory.of(connection.memory)
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(memory.poll_until - loop.time())
        if await _gives_a_value(connection):
            text = f"{connection.session.address} has subscriptions that give values again"
            raise DeviceError(text, reason=CONNECTION_LOST, do="Nothing: they are used from now on.")
        memory.poll(loop.time(), memory.why)


async def _gives_a_value(connection: Connection) -> bool:
    section, session = connection.section, connection.session
    column = next((column for column, node in enumerate(connection.nodes) if node is not None), None)
    if column is None:
        return False
    made: list[int] = []
    try:
        publishing_s = section.interval_of(section.tags[column])
        created = await create_subscription(session, wishes.subscription(section, publishing_s))
        subscription = Subscription.created(section, publishing_s, created)
        made.append(subscription.id)
        await monitor(connection, subscription, [column], {})
        return await _published(Publishing(session, []), subscription.patience_s)
    except DeviceError as error:
        if error.reason.startswith("Bad"):
            return False
        raise
    finally:
        await delete_subscriptions(session, made)


async def _published(publishing: Publishing, patience_s: float) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    while loop.time() < until:
        publishing.request(1)
        published = await publishing.next(until)
        if published is not None and published.changes:
            return True
    return False
