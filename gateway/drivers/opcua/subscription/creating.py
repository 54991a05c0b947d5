"""From tags to subscriptions: as few as there are paces, as many as the server's limits ask for."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.limits import ITEMS_PER_SUBSCRIPTION
from gateway.drivers.opcua.subscription import wishes
from gateway.drivers.opcua.subscription.deadbands import distances
from gateway.drivers.opcua.subscription.groups import by_interval
from gateway.drivers.opcua.subscription.items import UNKNOWN_NODE, monitor
from gateway.drivers.opcua.subscription.memory import Memory
from gateway.drivers.opcua.subscription.services import (
    TOO_MANY_ITEMS,
    create_subscription,
    delete_subscriptions,
)
from gateway.drivers.opcua.subscription.subscription import Subscription
from gateway.errors import DeviceError

_TOO_MANY: Final = "BadTooManySubscriptions"


async def subscribe_to(
    connection: Connection, columns: Sequence[int], subscriptions: list[Subscription]
) -> dict[int, str]:
    """Monitor tags, in further subscriptions that are appended; give the refused tags, each with its status' name.

    Raises DeviceError, and leaves no new subscription behind then.
    """
    there_were = len(subscriptions)
    refused = {column: UNKNOWN_NODE for column in columns if connection.nodes[column] is None}
    known = [column for column in columns if column not in refused]
    try:
        at_server = distances(connection, known)
        for publishing_s, group in by_interval(connection.section, known):
            refused |= await _place(connection, group, publishing_s, subscriptions, at_server)
    except DeviceError:
        await delete_subscriptions(connection.session, [made.id for made in subscriptions[there_were:]])
        raise
    return refused


async def _place(
    connection: Connection,
    group: list[int],
    publishing_s: float,
    subscriptions: list[Subscription],
    at_server: Mapping[int, float],
) -> dict[int, str]:
    """Monitor tags of one pace; a subscription that is full is followed by another."""
    refused: dict[int, str] = {}
    while group:
        most = connection.server.limits.items_per_subscription or len(group)
        try:
            made = await _new(connection, publishing_s)
        except DeviceError as error:
            if error.reason != _TOO_MANY or not subscriptions:
                raise
            return refused | await _squeeze(connection, group, publishing_s, subscriptions, at_server)
        subscriptions.append(made)
        made.columns, group = group[:most], group[most:]
        found = await monitor(connection, made, made.columns, at_server)
        full = [column for column, status in found.items() if status == TOO_MANY_ITEMS]
        if full and made.items:
            connection.server.limits.found[ITEMS_PER_SUBSCRIPTION] = len(made.items)
            group = full + group
            made.columns = [column for column in made.columns if column not in set(full)]
            found = {column: status for column, status in found.items() if status != TOO_MANY_ITEMS}
        elif full and len(subscriptions) > 1:
            # The server has no room at all: an empty subscription more would not help.
            subscriptions.remove(made)
            await delete_subscriptions(connection.session, [made.id])
            subscriptions[0].columns += made.columns + group
            return refused | found | dict.fromkeys(group, TOO_MANY_ITEMS)
        refused |= found
    return refused


async def _squeeze(
    connection: Connection,
    group: list[int],
    publishing_s: float,
    subscriptions: list[Subscription],
    at_server: Mapping[int, float],
) -> dict[int, str]:
    """Monitor tags in the subscriptions that there are, the one of the nearest pace first: sampling is the item's."""
    found: dict[int, str] = {}
    for subscription in sorted(subscriptions, key=lambda each: abs(each.publishing_s - publishing_s)):
        found |= await monitor(connection, subscription, group, at_server)
        full = {column for column in group if found.get(column) == TOO_MANY_ITEMS}
        subscription.columns += [column for column in group if column not in full]
        group = [column for column in group if column in full]
        if not group:
            return found
        found = {column: status for column, status in found.items() if column not in full}
    subscriptions[0].columns += group
    return found | dict.fromkeys(group, TOO_MANY_ITEMS)


async def _new(connection: Connection, publishing_s: float) -> Subscription:
    section = connection.section
    transfers = Memory.of(connection.memory).transfers
    wish = wishes.subscription(section, publishing_s, transfers=transfers)
    made = await create_subscription(connection.session, wish)
    return Subscription.created(section, publishing_s, made)
