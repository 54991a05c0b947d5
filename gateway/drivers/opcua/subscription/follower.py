"""All subscriptions of one session: what the server notifies, watched, and acknowledged only when it is on disk."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.drivers.base import NOTIFICATIONS_LOST, Notification
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.faults import CONNECTION_LOST, refused
from gateway.drivers.opcua.messages import Changes, Published
from gateway.drivers.opcua.subscription.creating import subscribe_to
from gateway.drivers.opcua.subscription.memory import Memory
from gateway.drivers.opcua.subscription.plan import fingerprint
from gateway.drivers.opcua.subscription.publishing import Publishing, Receipt
from gateway.drivers.opcua.subscription.recovery import (
    PLAN,
    TOLD,
    Recovered,
    forgotten,
    kept,
    mark_of,
    marks_of,
    take_over,
)
from gateway.drivers.opcua.subscription.revised import merged
from gateway.drivers.opcua.subscription.sequence import after
from gateway.drivers.opcua.subscription.services import republish
from gateway.drivers.opcua.subscription.subscription import Subscription
from gateway.drivers.opcua.subscription.unmonitored import Unmonitored
from gateway.drivers.opcua.types.values import status_name
from gateway.errors import DeviceError
from gateway.model import Bookmark, Gap

SUBSCRIPTION_LOST: Final = "subscription-lost"
"""The reason of a gap: what changed since `from` and was not notified by then, nobody knows."""
_MOST_ASKED_AGAIN: Final = 100
_TRANSFERRED: Final = "GoodSubscriptionTransferred"

Read = Callable[[tuple[int, ...]], Awaitable[Notification]]


class Follower:
    """Follows the subscriptions of a session. `refused` are tags that the server would not monitor, and the status."""

    def __init__(
        self,
        connection: Connection,
        memory: Memory,
        recovered: Recovered,
        subscriptions: Sequence[Subscription],
        refused: Mapping[int, str],
    ) -> None:
        self._connection = connection
        self._memory = memory
        self._recovered = recovered
        self._subscriptions = {each.id: each for each in subscriptions}
        self._publishing = Publishing(connection.session, memory.acknowledgements)
        self._unmonitored = Unmonitored(connection, subscriptions, refused)
        self._has_data = False

    @property
    def details(self) -> dict[str, Any]:
        """What a person should see: the subscriptions, and what the server made of our wishes."""
        subscriptions = self._subscriptions.values()
        details: dict[str, Any] = {
            "subscriptions": [{"tags": len(each.items), "publishing_s": each.publishing_s} for each in subscriptions]
        }
        if revised := merged(each.revised for each in subscriptions):
            details["revised"] = revised
        if self._unmonitored.count:
            details["not_monitored"] = self._unmonitored.count
        return details

    @property
    def farewell(self) -> dict[str, None]:
        """The bookmarks to forget when the subscriptions are deleted at the server."""
        return forgotten(self._connection.bookmarks())

    def acknowledge(self, receipt: Receipt | None) -> None:
        """Let the next PublishRequest tell the server that it may forget this notification."""
        if receipt is not None:
            self._memory.acknowledge(receipt)

    async def changes(self, read: Read) -> AsyncIterator[Notification]:
        """Give what the server notifies; `read` reads tags. Raises DeviceError when link or subscription is lost.

        Bookmarks alone are no reason for a transaction: they go with the next that tells something.
        """
        marks: dict[str, Bookmark | None] = {}
        async for notification in self._followed(read):
            marks.update(notification.bookmarks)
            if notification.samples or notification.gaps or notification.receipt is not None:
                yield replace(notification, bookmarks=marks)
                marks = {}

    async def _followed(self, read: Read) -> AsyncIterator[Notification]:
        yield self._beginning()
        async for notification in self._kept():
            yield notification
        self._listen()
        while True:
            self._publishing.request(len(self._subscriptions))
            published = await self._publishing.next(self._wake())
            if published is not None:
                # The next request goes out before the consumer takes its time: the server can go on meanwhile.
                self._publishing.request(len(self._subscriptions))
                async for notification in self._taken(published):
                    yield notification
                # Answers that have all come already are taken without a wait, each some ms long: others get their turn.
                await asyncio.sleep(0)
                if columns := self._unread(published):
                    yield await read(columns)
            self._watch()
            if (retried := await self._unmonitored.retry()) is not None:
                yield retried

    def _beginning(self) -> Notification:
        """Tell what is refused and what is lost, and write down where the new subscriptions are found again."""
        now = _now_ms()
        self._memory.unsettled = {receipt for receipt in self._memory.unsettled if receipt[0] in self._subscriptions}
        marks = marks_of(self._connection, list(self._subscriptions.values())) | self._connection.learned
        gaps: tuple[Gap, ...] = ()
        if self._recovered.lost:
            since = max(int(self._connection.bookmarks().get(TOLD, 0)), self._memory.heard_ms)
            gaps = (Gap(now, SUBSCRIPTION_LOST, {"from": since or None, "to": now}),)
        return Notification(self._unmonitored.begin(), gaps, bookmarks=marks)

    async def _kept(self) -> AsyncIterator[Notification]:
        """Give what was sent to the session before and is not stored, of each subscription that was taken over."""
        for subscription in self._subscriptions.values():
            if subscription.taken_over:
                self._connection.seams.mend(subscription.columns)
                async for published in kept(self._connection, self._recovered, subscription):
                    gaps = self._lost(subscription, subscription.sequence.missing(published.sequence))
                    yield await self._notification(subscription, published, gaps)

    def _listen(self) -> None:
        now = asyncio.get_running_loop().time()
        for subscription in self._subscriptions.values():
            subscription.heard = now

    def _wake(self) -> float:
        """When to look up though the server says nothing (monotonic seconds)."""
        return min([self._unmonitored.next, *(each.heard + each.patience_s for each in self._subscriptions.values())])

    def _watch(self) -> None:
        """Raise DeviceError if a subscription has been silent for three keep-alives."""
        if self._publishing.has_answers:
            return
        now = asyncio.get_running_loop().time()
        for subscription in self._subscriptions.values():
            if now - subscription.heard >= subscription.patience_s:
                if subscription.taken_over and not subscription.spoken:
                    self._memory.dead.add(subscription.id)
                self._note_death(now)
                address = self._connection.session.address
                text = f"{address} has not spoken on its subscription for {subscription.patience_s:.0f} s"
                raise DeviceError(text, reason=CONNECTION_LOST, do="Check the load of the server.")

    def _note_death(self, now: float) -> None:
        if not self._has_data:
            self._memory.died(now)

    async def _taken(self, published: Published) -> AsyncIterator[Notification]:
        """Give what a message tells; first what was sent before it and has not come."""
        subscription = self._subscriptions.get(published.subscription)
        if subscription is None or (not published.keep_alive and subscription.sequence.is_old(published.sequence)):
            return
        subscription.heard, subscription.spoken = asyncio.get_running_loop().time(), True
        if published.status is not None and (published.status >> 30 or status_name(published.status) == _TRANSFERRED):
            self._memory.dead.add(subscription.id)
            self._note_death(subscription.heard)
            raise self._ended(published.status)
        lost = 0
        if missing := subscription.sequence.missing(published.sequence):
            for number in self._worth_asking(subscription, published, missing):
                if (again := await republish(self._connection.session, subscription.id, number)) is not None:
                    gaps = self._lost(subscription, subscription.sequence.missing(number))
                    yield await self._notification(subscription, again, gaps)
            lost = subscription.sequence.missing(published.sequence)
        gaps = self._lost(subscription, lost)
        self._memory.heard_ms = _now_ms()
        if gaps or not published.keep_alive:
            yield await self._notification(subscription, published, gaps)

    def _unread(self, published: Published) -> tuple[int, ...]:
        """Give the tags of which a subscription that was taken over told nothing, once it has told what it had kept.

        How they stood was forgotten with the link, and servers need not send it with a transfer.
        """
        subscription = self._subscriptions.get(published.subscription)
        if subscription is None or not subscription.unread or published.more:
            return ()
        columns, subscription.unread = sorted(subscription.unread), set()
        return tuple(columns)

    def _worth_asking(self, subscription: Subscription, published: Published, missing: int) -> list[int]:
        """Give the numbers of missing messages, of those that the server says it has if it says so."""
        numbers = [after(subscription.sequence.next, step) for step in range(min(missing, _MOST_ASKED_AGAIN))]
        if not published.available:
            return numbers
        return [number for number in numbers if number in published.available]

    def _lost(self, subscription: Subscription, count: int) -> tuple[Gap, ...]:
        """Give up so many messages that are due and will not come."""
        if not count:
            return ()
        self._connection.seams.tear()
        for step in range(min(count, _MOST_ASKED_AGAIN)):
            subscription.sequence.give_up(after(subscription.sequence.next, step))
        subscription.sequence.next = after(subscription.sequence.next, count)
        now = _now_ms()
        return (Gap(now, NOTIFICATIONS_LOST, {"count": count, "to": now}),)

    async def _notification(
        self, subscription: Subscription, published: Published, gaps: tuple[Gap, ...]
    ) -> Notification:
        rx = _now_ms()
        if published.keep_alive:
            return Notification((), gaps, bookmarks=mark_of(subscription, rx))
        subscription.sequence.take(published.sequence)
        receipt = Receipt(subscription.id, published.sequence)
        self._memory.unsettled.add(receipt)
        self._has_data = self._has_data or bool(published.changes)
        if subscription.unread:
            subscription.unread.difference_update(column for column, _ in published.changes)
        flagged = [change for change in published.changes if change[1].status]
        self._unmonitored.note(published.changes, flagged)
        known = self._connection.section
        samples = await self._connection.samples(published.changes, rx)
        marks: dict[str, Bookmark | None] = {**mark_of(subscription, rx)}
        if self._connection.section is not known:
            # More is known of some tags: what the server keeps for us is still as the next connection will have it.
            marks[PLAN] = fingerprint(self._connection)
        marks |= self._connection.seams.note(published.changes)
        return Notification(samples, gaps + self._overflowed(flagged, rx), receipt, marks)

    def _overflowed(self, flagged: Changes, rx: int) -> tuple[Gap, ...]:
        tags = sorted({self._connection.names[column] for column, value in flagged if value.overflowed})
        return (Gap(rx, "source-overflow", {"tags": tags, "to": rx}),) if tags else ()

    def _ended(self, status: int) -> DeviceError:
        address = self._connection.session.address
        error = refused(status, address)
        text = f"{address} ended the subscription: {status_name(status)}"
        return DeviceError(text, reason=error.reason, do=error.do)


async def follow(connection: Connection) -> Follower:
    """Take over the subscriptions that are left at the server, and make those that are missing. Raises DeviceError.

    A node that is None, or that the server refuses, costs no other.
    """
    memory = Memory.of(connection.memory)
    recovered = await take_over(connection, memory)
    subscriptions = recovered.subscriptions
    covered = {column for each in subscriptions for column in each.columns}
    missing = [column for column in range(len(connection.nodes)) if column not in covered]
    new = list(subscriptions)
    refused = await subscribe_to(connection, missing, new)
    return Follower(connection, memory, recovered, new, refused)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
