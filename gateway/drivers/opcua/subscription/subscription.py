"""A subscription and its publish loop: what the server notifies, acknowledged only when it is on disk.

The library's own loop acknowledges a notification as soon as it has handed it on, and keeps one request
outstanding. This one keeps several, sends acknowledgements when they are given, never more, and takes the answers
in the order in which they came (OPC 10000-4 sections 5.14.1 and 5.14.5).
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds

from gateway.drivers.base import NOTIFICATIONS_LOST, Notification
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.faults import CONNECTION_LOST, device_errors, refused
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.messages import Published, publish_response
from gateway.drivers.opcua.samples import in_samples
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.types.values import status_name
from gateway.errors import DeviceError
from gateway.model import Gap, Sample

_OUTSTANDING: Final = 3
"""PublishRequests that wait at the server: it can always send, also while an answer or a request is on its way."""
_MOST_NOTIFICATIONS: Final = 1000
"""A publish is decoded in one go, in which nothing else runs."""
_KEEP_ALIVE_TIMEOUTS: Final = 5
"""The server speaks at least this often, in device timeouts; it is taken for dead after three times as long."""
_MISSED_KEEP_ALIVES: Final = 3
_LIFETIME_S: Final = 60.0
_FASTEST: Final = 100
_LEAST_QUEUE: Final = 10
"""Many servers report each change, however fast: a variable may be written several times within a sampling interval."""
_NUMBERS: Final = 0xFFFF_FFFF
"""Sequence numbers run from 1 to this, and then from 1 again."""


class Receipt(NamedTuple):
    """Names a notification: what an acknowledgement needs."""

    subscription: int
    sequence: int


class Subscription:
    """A subscription with its monitored items; `refused` names the tags that the server will not monitor, and why."""

    def __init__(self, connection: Connection, created: ua.CreateSubscriptionResult) -> None:
        session, section = connection.session, connection.section
        self.id: int = created.SubscriptionId
        self.refused: dict[str, str] = {}
        self._session = session
        self._unpack = connection.definitions.book.unpack
        self._section = section
        self._names = tuple(tag.name for tag in section.tags)
        revised_s = created.RevisedPublishingInterval * created.RevisedMaxKeepAliveCount / 1000
        keep_alive_s = max(revised_s, _KEEP_ALIVE_TIMEOUTS * section.timeout)
        self._patience_s = _MISSED_KEEP_ALIVES * keep_alive_s + section.timeout
        self._acknowledgements: list[ua.SubscriptionAcknowledgement] = []
        self._answers: asyncio.Queue[asyncio.Future[Buffer]] = asyncio.Queue()
        self._outstanding = 0
        self._window = _OUTSTANDING
        self._next_sequence = 1

    def acknowledge(self, receipt: Receipt | None) -> None:
        """Let the next PublishRequest tell the server that it may forget this notification."""
        if receipt is not None:
            acknowledgement = ua.SubscriptionAcknowledgement(*receipt)
            self._acknowledgements.append(acknowledgement)

    async def changes(self) -> AsyncIterator[Notification]:
        """Give what the server notifies. Raises DeviceError when the link or the subscription is lost."""
        if self.refused:
            now = time.time_ns() // 1_000_000
            yield Notification((Sample(now, (), (), len(self.refused), dict(self.refused)),))
        while True:
            self._request()
            published = await self._next()
            if published is None:
                continue
            if published.status is not None and published.status >> 30:
                raise self._ended(published.status)
            notification = self._notification(published)
            if notification is not None:
                # The next request goes out before the consumer takes its time: the server can go on meanwhile.
                self._request()
                yield notification

    def _request(self) -> None:
        """Top up the requests that wait at the server; the first of them takes the acknowledgements along."""
        while self._outstanding < self._window:
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements = self._acknowledgements
            answered = self._session.post(request)
            self._acknowledgements = []
            self._outstanding += 1
            answered.add_done_callback(self._arrived)

    def _arrived(self, answered: "asyncio.Future[Buffer]") -> None:
        if not answered.cancelled():
            answered.exception()  # marks it as seen: nobody may be waiting any more
        self._answers.put_nowait(answered)

    async def _next(self) -> Published | None:
        """Give the next message; None where the server answered without one."""
        try:
            async with asyncio.timeout(self._patience_s):
                answered = await self._answers.get()
        except TimeoutError:
            text = f"{self._session.address} has not spoken on its subscription for {self._patience_s:.0f} s"
            raise DeviceError(text, reason=CONNECTION_LOST, do="Check the load of the server.") from None
        self._outstanding -= 1
        try:
            body = self._session.collect(answered)
        except DeviceError as error:
            if error.reason == "BadTooManyPublishRequests" and self._window > 1:
                self._window -= 1
                return None
            if error.reason == "BadTimeout":
                return None
            raise
        with device_errors(self._session.address):
            return publish_response(body)

    def _ended(self, status: int) -> DeviceError:
        error = refused(status, self._session.address)
        text = f"{self._session.address} ended the subscription: {status_name(status)}"
        return DeviceError(text, reason=error.reason, do=error.do)

    def _notification(self, published: Published) -> Notification | None:
        rx = time.time_ns() // 1_000_000
        gaps = [*self._lost(published, rx), *self._overflowed(published, rx)]
        if published.keep_alive and not gaps:
            return None
        samples = in_samples(published.changes, self._names, self._section.timestamp, rx, self._unpack)
        receipt = None if published.keep_alive else Receipt(published.subscription, published.sequence)
        return Notification(samples, tuple(gaps), receipt)

    def _lost(self, published: Published, rx: int) -> list[Gap]:
        """Tell of messages that the server sent and that never came."""
        ahead = (published.sequence - self._next_sequence) % _NUMBERS
        if ahead > _NUMBERS // 2:
            return []  # a message from before, late: it fills a hole that was told
        consumed = 0 if published.keep_alive else 1
        self._next_sequence = (published.sequence + consumed - 1) % _NUMBERS + 1
        return [Gap(rx, NOTIFICATIONS_LOST, {"count": ahead, "to": rx})] if ahead else []

    def _overflowed(self, published: Published, rx: int) -> list[Gap]:
        tags = sorted({self._names[column] for column, value in published.changes if value.overflowed})
        return [Gap(rx, "source-overflow", {"tags": tags, "to": rx})] if tags else []


async def subscribe(connection: Connection) -> Subscription:
    """Create a subscription and its monitored items. Raises DeviceError.

    A node that is None, or that the server refuses, costs no other.
    """
    session, section, nodes = connection.session, connection.section, connection.nodes
    answer = await session.ask_for(
        ua.CreateSubscriptionRequest(Parameters=_wishes(section)), ua.CreateSubscriptionResponse
    )
    subscription = Subscription(connection, answer.Parameters)
    publishing_s = answer.Parameters.RevisedPublishingInterval / 1000
    known = [column for column, node in enumerate(nodes) if node is not None]
    subscription.refused.update(
        (tag.name, "bad:BadNodeIdUnknown") for tag, node in zip(section.tags, nodes, strict=True) if node is None
    )
    items = [_item(section, column, nodes[column], publishing_s) for column in known]
    create = partial(_create_items, session, subscription.id)
    results = await in_chunks(connection.server.limits, Service.MONITOR, items, create)
    for column, result in zip(known, results, strict=True):
        if not result.StatusCode.is_good():
            subscription.refused[section.tags[column].name] = f"bad:{status_name(result.StatusCode.value)}"
    return subscription


def _wishes(section: OpcuaDevice) -> ua.CreateSubscriptionParameters:
    keep_alive_s = _KEEP_ALIVE_TIMEOUTS * section.timeout
    keep_alives = max(1, math.ceil(keep_alive_s / section.interval))
    lifetime = max(_MISSED_KEEP_ALIVES * keep_alives, math.ceil(_LIFETIME_S / section.interval))
    return ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=section.interval * 1000,
        RequestedLifetimeCount=lifetime,
        RequestedMaxKeepAliveCount=keep_alives,
        MaxNotificationsPerPublish=_MOST_NOTIFICATIONS,
        PublishingEnabled=True,
        Priority=0,
    )


async def _create_items(
    session: Session, subscription: int, items: Sequence[ua.MonitoredItemCreateRequest]
) -> list[ua.MonitoredItemCreateResult]:
    request = ua.CreateMonitoredItemsRequest()
    request.Parameters.SubscriptionId = subscription
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    request.Parameters.ItemsToCreate = list(items)
    answer = await session.ask_for(request, ua.CreateMonitoredItemsResponse)
    results: list[ua.MonitoredItemCreateResult] = answer.Results
    return results


def _item(
    section: OpcuaDevice, column: int, node: ua.NodeId | None, publishing_s: float
) -> ua.MonitoredItemCreateRequest:
    tag = section.tags[column]
    sampling_s = section.interval_of(tag) if tag.sampling is None else tag.sampling
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value)
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters.ClientHandle = column
    request.RequestedParameters.SamplingInterval = sampling_s * 1000
    request.RequestedParameters.QueueSize = tag.queue or queue_size(sampling_s, publishing_s)
    request.RequestedParameters.DiscardOldest = True
    return request


def queue_size(sampling_s: float, publishing_s: float) -> int:
    """Values the server should be able to keep: those of two publishing intervals, and never just a few."""
    per_publishing = math.ceil(publishing_s / sampling_s) if sampling_s > 0 else _FASTEST
    return max(_LEAST_QUEUE, 2 * per_publishing)
