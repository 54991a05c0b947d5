"""Taking over the subscriptions of an earlier session: after a lost link, and after a crash of the gateway.

What the server still keeps of them is asked for again, before anything newer is passed on (OPC 10000-4 section 6.7).
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.messages import Published
from gateway.drivers.opcua.subscription.memory import Memory
from gateway.drivers.opcua.subscription.plan import fingerprint, server_of
from gateway.drivers.opcua.subscription.publishing import Receipt
from gateway.drivers.opcua.subscription.sequence import Sequence, after, ahead
from gateway.drivers.opcua.subscription.services import delete_subscriptions, republish, transfer
from gateway.drivers.opcua.subscription.subscription import Subscription
from gateway.model import Bookmark

_SEQUENCE: Final = "subscription:"
_FACTS: Final = "items:"
PLAN: Final = "plan"
SERVER: Final = "server"
TOLD: Final = "told"
"""The bookmark of when the last notification that was stored had come (ms since the Unix epoch)."""


@dataclass(slots=True)
class Recovered:
    """Subscriptions of before: those that go on, what the server still has of each, and those that are lost."""

    subscriptions: list[Subscription] = field(default_factory=list)
    available: dict[int, tuple[int, ...]] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)


async def take_over(connection: Connection, memory: Memory) -> Recovered:
    """Go on with what an earlier session left at the server. Raises DeviceError.

    Only what was made for the very same tags in the same order may go on; else the subscription is deleted.
    """
    marks = connection.bookmarks()
    numbers = sorted(int(name.removeprefix(_SEQUENCE)) for name in marks if name.startswith(_SEQUENCE))
    server = server_of(connection)
    if not numbers or not server or marks.get(SERVER) != server:
        return Recovered(lost=numbers)
    given = await transfer(connection.session, numbers)
    memory.transfers = given is not None
    given = given or {}
    fits = marks.get(PLAN) == fingerprint(connection)
    wanted = [number for number in given if fits and number not in memory.dead and f"{_FACTS}{number}" in marks]
    await delete_subscriptions(connection.session, given.keys() - set(wanted))
    memory.dead.clear()
    found = Recovered(lost=[number for number in numbers if number not in wanted])
    for number in wanted:
        stored = int(marks[f"{_SEQUENCE}{number}"])
        sequence = Sequence(after(stored))
        found.subscriptions.append(Subscription.remembered(number, str(marks[f"{_FACTS}{number}"]), sequence))
        found.available[number] = tuple(sorted(given[number], key=lambda each, of=stored: ahead(each, of)))  # type: ignore[misc]
        memory.settle(Receipt(number, each) for each in given[number] if ahead(each, stored) <= 0)
    return found


async def kept(connection: Connection, recovered: Recovered, subscription: Subscription) -> AsyncIterator[Published]:
    """Give what the server still has of a subscription and nobody stored, in order. Raises DeviceError."""
    for number in recovered.available[subscription.id]:
        if ahead(number, subscription.sequence.next) >= 0:
            published = await republish(connection.session, subscription.id, number)
            if published is not None:
                yield published


def marks_of(connection: Connection, subscriptions: list[Subscription]) -> dict[str, Bookmark | None]:
    """Give the bookmarks under which these subscriptions, and no others, are found again."""
    marks: dict[str, Bookmark | None] = dict(forgotten(connection.bookmarks()))
    marks |= {SERVER: server_of(connection), PLAN: fingerprint(connection)}
    for subscription in subscriptions:
        marks[f"{_SEQUENCE}{subscription.id}"] = subscription.sequence.last
        marks |= facts_of(subscription)
    return marks


def facts_of(subscription: Subscription) -> dict[str, Bookmark]:
    """Give the bookmark of what is known of a subscription beside its messages."""
    return {f"{_FACTS}{subscription.id}": subscription.facts}


def mark_of(subscription: Subscription, rx: int) -> dict[str, Bookmark]:
    """Give the bookmarks that are stored with the last message that was passed on."""
    return {f"{_SEQUENCE}{subscription.id}": subscription.sequence.last, TOLD: rx}


def forgotten(marks: Mapping[str, Bookmark]) -> dict[str, None]:
    """Give the bookmarks that forget all subscriptions."""
    return {name: None for name in marks if name in (SERVER, PLAN) or name.startswith((_SEQUENCE, _FACTS))}
