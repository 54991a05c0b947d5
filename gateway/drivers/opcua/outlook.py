"""What a server will be asked for, before anybody connects: requests at connect, subscriptions, polls.

It counts what `survey`, `facts`, `creating` and `reading` send. What only the server knows is left out: browsing, the
structures behind the tags, properties such as units and ranges, history, refusals.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from gateway.drivers.opcua.facts import ATTRIBUTES
from gateway.drivers.opcua.limits import Limits, Service
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.subscription import wishes
from gateway.drivers.opcua.subscription.groups import by_interval
from gateway.drivers.opcua.survey import BASICS
from gateway.drivers.opcua.watch import LOOK, LOOK_S


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription: what its items ask for, from the least to the most. Times are seconds."""

    publishing_s: float
    items: int
    sampling_s: tuple[float, float]
    queue: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Poll:
    """Tags that are read together, so many times a second, in so many requests each time."""

    rate: float
    tags: int
    requests: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a server is asked for. `connect` are requests by their service, until the first values come.

    `per_second` are requests a second from then on: what is polled, or a PublishRequest for each publishing interval in
    which something changes; and the look at the server's own state.
    """

    connect: tuple[tuple[str, int], ...]
    subscriptions: tuple[Subscription, ...]
    polls: tuple[Poll, ...]
    per_second: float


def look_ahead(section: OpcuaDevice, limits: Limits, due: Iterable[tuple[Sequence[int], float]]) -> Outlook:
    """Give what a device's config leads to, within the limits. `due` are the polls: columns, and how often a second."""
    subscriptions = _subscriptions(section, limits) if section.mode == "subscribe" else ()
    polls: tuple[Poll, ...] = ()
    if section.mode == "poll":
        read = limits.of(Service.READ)
        polls = tuple(Poll(rate, len(columns), ceil(len(columns) / read)) for columns, rate in due)
    published = sum(ceil(each.items / wishes.MOST_NOTIFICATIONS) / each.publishing_s for each in subscriptions)
    asked = published + sum(each.rate * each.requests for each in polls)
    connect = _connect(section, limits, subscriptions)
    return Outlook(tuple(connect.items()), subscriptions, polls, asked + 1 / LOOK_S)


def _subscriptions(section: OpcuaDevice, limits: Limits) -> tuple[Subscription, ...]:
    found = []
    for publishing_s, group in by_interval(section, range(len(section.tags))):
        most = limits.items_per_subscription or len(group)
        for begin in range(0, len(group), most):
            tags = [section.tags[column] for column in group[begin : begin + most]]
            sampling = [wishes.sampling_s(section, tag) for tag in tags]
            queues = [
                tag.queue or wishes.queue_size(each, publishing_s) for tag, each in zip(tags, sampling, strict=True)
            ]
            bounds = (min(sampling), max(sampling))
            found.append(Subscription(publishing_s, len(tags), bounds, (min(queues), max(queues))))
    return tuple(found)


def _connect(section: OpcuaDevice, limits: Limits, subscriptions: Sequence[Subscription]) -> Mapping[str, int]:
    """Count the requests of the first connect: later ones find most of it remembered."""
    nodes = dict.fromkeys(tag.node for tag in section.tags)
    read, monitor = limits.of(Service.READ), limits.of(Service.MONITOR)
    attributes = (len(LOOK), len(BASICS), len(ATTRIBUTES) * len(nodes))
    registered = 0
    if section.mode == "poll" and limits.of(Service.REGISTER):
        registered = ceil(sum(not _is_numeric(node) for node in nodes) / limits.of(Service.REGISTER))
    counted = {
        "GetEndpoints": 1,
        "CreateSession": 1,
        "ActivateSession": 1,
        "Read": sum(ceil(number / read) for number in attributes),
        "Browse": ceil(len(nodes) / limits.of(Service.BROWSE)),
        "RegisterNodes": registered,
        "CreateSubscription": len(subscriptions),
        "CreateMonitoredItems": sum(ceil(each.items / monitor) for each in subscriptions),
    }
    return {service: number for service, number in counted.items() if number}


def _is_numeric(node: str) -> bool:
    return (node.partition(";")[2] if node.startswith("ns") else node).startswith("i=")
