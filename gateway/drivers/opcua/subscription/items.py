"""Monitored items: made, refused, and made again."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from asyncua import ua

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.subscription import deadbands, wishes
from gateway.drivers.opcua.subscription.services import create_items, delete_items, name_of
from gateway.drivers.opcua.subscription.subscription import Subscription

UNKNOWN_NODE: Final = "BadNodeIdUnknown"


async def monitor(
    connection: Connection, subscription: Subscription, columns: Sequence[int], distances: Mapping[int, float]
) -> dict[int, str]:
    """Create the items of these tags; give those that the server refuses, each with the name of the status.

    An item that is there already is replaced: the server may have made it for a node that has vanished since.
    Raises DeviceError.
    """
    results = await _create(connection, subscription, columns, distances)
    unfiltered = [
        column
        for column, result in results.items()
        if column in distances and name_of(result.StatusCode) in deadbands.REFUSED
    ]
    for column in unfiltered:
        deadbands.remember_refusal(connection, column)
    if unfiltered:
        results |= await _create(connection, subscription, unfiltered, {})
    good = {column: result for column, result in results.items() if result.StatusCode.is_good()}
    replaced = [subscription.items[column] for column in good if column in subscription.items]
    subscription.items.update((column, result.MonitoredItemId) for column, result in good.items())
    for column, result in good.items():
        _note_revision(connection, subscription, column, result)
    if replaced:
        delete = partial(delete_items, connection.session, subscription.id)
        await in_chunks(connection.server.limits, Service.MONITOR, replaced, delete)
    return {column: name_of(result.StatusCode) for column, result in results.items() if column not in good}


async def _create(
    connection: Connection, subscription: Subscription, columns: Sequence[int], distances: Mapping[int, float]
) -> dict[int, ua.MonitoredItemCreateResult]:
    nodes = connection.nodes
    items = [
        wishes.item(connection.section, column, node, subscription.publishing_s, distances.get(column))
        for column in columns
        if (node := nodes[column]) is not None
    ]
    create = partial(create_items, connection.session, subscription.id)
    results = await in_chunks(connection.server.limits, Service.MONITOR, items, create)
    return {item.RequestedParameters.ClientHandle: result for item, result in zip(items, results, strict=True)}


def _note_revision(
    connection: Connection, subscription: Subscription, column: int, result: ua.MonitoredItemCreateResult
) -> None:
    section = connection.section
    tag = section.tags[column]
    sampling_s = wishes.sampling_s(section, tag)
    asked = {
        "sampling_s": sampling_s,
        "queue": tag.queue or wishes.queue_size(sampling_s, subscription.publishing_s),
    }
    got = {"sampling_s": result.RevisedSamplingInterval / 1000, "queue": result.RevisedQueueSize}
    subscription.revised.note(tag.name, asked, got)
