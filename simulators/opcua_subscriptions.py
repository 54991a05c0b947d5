"""Subscriptions as OPC 10000-4 section 5.14 has them, where asyncua's server does otherwise.

Its queues lose values without the overflow bit, a message holds all there is, Republish forgets what it gives and
answers an empty message for what it has not got, an acknowledgement of nothing is good, and a transferred
subscription goes on taking the PublishRequests of the connection that it came from.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Final

import asyncua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.subscription_service import SubscriptionService

from simulators.opcua_faults import ServiceFaults
from simulators.opcua_items import RobotItems
from simulators.opcua_limits import Limits

ua: Any = asyncua.ua
_OVERFLOW: Final = 0x0480
"""InfoType DataValue with the overflow bit (OPC 10000-4 section 7.39.1)."""


class RobotSubscription(InternalSubscription):
    """A client's subscription; `most` is its MaxNotificationsPerPublish, 0 for no limit."""

    faults: ServiceFaults
    most: int = 0

    async def publish_results(self, requestdata: Any = None) -> bool:
        """Publish what there is, in as many messages as it takes."""
        if not self.faults.publishes:
            self.faults.suffered["unpublished"] += 1
            return False
        published = await super().publish_results(requestdata)
        more = published
        while more and self._triggered_datachanges:
            more = await super().publish_results()
        return published

    def republish(self, nb: int) -> Any:
        """Give a message that was sent and not acknowledged, and keep it. Raises ServiceError."""
        if nb not in self._not_acknowledged_results:
            raise ServiceError(ua.StatusCodes.BadMessageNotAvailable)
        return self._not_acknowledged_results[nb].NotificationMessage

    def acknowledge(self, sequence: int) -> Any:
        """Forget a message, and give the status of that."""
        known = self._not_acknowledged_results.pop(sequence, None) is not None
        return ua.StatusCode(ua.StatusCodes.Good if known else ua.StatusCodes.BadSequenceNumberUnknown)

    async def send_initial_values(self) -> None:
        """Queue the present value of each item (SendInitialValues of OPC 10000-4 section 5.14.7)."""
        service = self.monitored_item_srv
        items: list[Any] = list(service._monitored_items.values())
        for item in items:
            event = ua.MonitoredItemNotification()
            event.ClientHandle = item.client_handle
            event.Value = service.aspace.read_attribute_value(item.read_value_id.NodeId, ua.AttributeIds.Value)
            await self.enqueue_datachange_event(item.monitored_item_id, event, item.queue_size)

    def _pop_publish_result(self) -> Any:
        result = super()._pop_publish_result()
        result.MoreNotifications = bool(self._triggered_datachanges)
        return result

    def _pop_triggered_datachanges(self, result: Any) -> None:
        if not self._triggered_datachanges:
            return
        notification = ua.DataChangeNotification()
        for item, queue in list(self._triggered_datachanges.items()):
            room = self.most - len(notification.MonitoredItems) if self.most else len(queue)
            notification.MonitoredItems += queue[:room]
            del queue[:room]
            if queue:
                break
            del self._triggered_datachanges[item]
        result.NotificationMessage.NotificationData.append(notification)

    async def _enqueue_event(self, mid: int, eventdata: Any, size: int, queue: dict[int, list[Any]]) -> None:
        waiting = queue.get(mid, [])
        if not waiting or len(waiting) < size:
            await super()._enqueue_event(mid, eventdata, size, queue)
            return
        waiting.append(eventdata)
        del waiting[0]
        if size > 1 and queue is self._triggered_datachanges:  # a queue of one has no overflow
            self.faults.suffered["overflow"] += 1
            waiting[0] = _overflowed(waiting[0])


class RobotSubscriptions(SubscriptionService):
    """The subscriptions of a server, its own and those of its clients."""

    def __init__(self, core: Any, faults: ServiceFaults, limits: Limits) -> None:
        super().__init__(core.aspace, iserver=core)
        self._faults = faults
        self._limits = limits

    @property
    def clients(self) -> dict[int, RobotSubscription]:
        """Those of clients, by their id, the oldest first."""
        return {key: one for key, one in self.subscriptions.items() if isinstance(one, RobotSubscription)}

    def of(self, session_id: Any) -> dict[int, RobotSubscription]:
        """Those of a session."""
        return {key: one for key, one in self.clients.items() if one.session_id == session_id}

    async def create_subscription(
        self, params: Any, callback: Any, session_id: Any, request_callback: Any = None
    ) -> Any:
        """Make a subscription. Raises ServiceError."""
        if request_callback is None:
            return await super().create_subscription(params, callback, session_id)
        most = self._limits.subscriptions_per_session
        if most and len(self.of(session_id)) >= most:
            raise ServiceError(ua.StatusCodes.BadTooManySubscriptions)
        self._sub_id_counter += 1
        keep_alives = max(1, self._clamp_keep_alive_count(params.RequestedMaxKeepAliveCount))
        created = ua.CreateSubscriptionResult()
        created.SubscriptionId = number = self._sub_id_counter
        created.RevisedPublishingInterval = max(params.RequestedPublishingInterval, self._limits.publishing_ms, 10)
        created.RevisedMaxKeepAliveCount = keep_alives
        created.RevisedLifetimeCount = max(self._clamp_lifetime_count(params.RequestedLifetimeCount), 3 * keep_alives)
        subscription = RobotSubscription(
            created, self.aspace, callback, session_id,
            request_callback=request_callback,
            delete_callback=lambda: self.subscriptions.pop(number, None),
            max_queue_size=self._limits.queue or 10_000,
            publishing_enabled=params.PublishingEnabled,
        )  # fmt: skip
        subscription.faults = self._faults
        subscription.monitored_item_srv = RobotItems(subscription, self.aspace)
        subscription.most = params.MaxNotificationsPerPublish
        self.subscriptions[number] = subscription
        await subscription.start()
        return created

    def publish(self, acks: Iterable[Any]) -> tuple[int, list[Any]]:
        """Take acknowledgements; gives how many subscriptions there are, and the status of each acknowledgement."""
        statuses = []
        for ack in acks:
            self._faults.acknowledged += 1
            subscription = self.clients.get(ack.SubscriptionId)
            if subscription is None:
                statuses.append(ua.StatusCode(ua.StatusCodes.BadSubscriptionIdInvalid))
            else:
                statuses.append(subscription.acknowledge(ack.SequenceNumber))
        return len(self.subscriptions), statuses

    def republish(self, params: Any) -> Any:
        """Give a message again. Raises ServiceError."""
        subscription = self.clients.get(params.SubscriptionId)
        if subscription is None:
            raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)
        return subscription.republish(params.RetransmitSequenceNumber)

    async def transfer_subscriptions(self, params: Any, session_id: Any, callback: Callable[..., Any]) -> list[Any]:
        """Give subscriptions to another session, whose connection `callback` belongs to. Raises ServiceError."""
        if not params.SubscriptionIds:
            raise ServiceError(ua.StatusCodes.BadNothingToDo)
        processor: Any = callback.__self__  # type: ignore[attr-defined]
        results = []
        for number in params.SubscriptionIds:
            result = ua.TransferResult()
            subscription = self.clients.get(int(number))
            if subscription is None:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadSubscriptionIdInvalid)
            else:
                result.AvailableSequenceNumbers = sorted(subscription._not_acknowledged_results)
                await _tell_transferred(subscription, processor)
                subscription.session_id = session_id
                subscription.pub_result_callback = callback
                subscription.pub_request_callback = processor.get_publish_request
                if params.SendInitialValues:
                    await subscription.send_initial_values()
            results.append(result)
        return results


async def _tell_transferred(subscription: RobotSubscription, to: Any) -> None:
    """Tell the session that loses a subscription, if it is there and listens."""
    loser: Any = subscription.pub_request_callback.__self__  # type: ignore[union-attr]
    if loser is to or not loser._publish_requests:
        return
    result = ua.PublishResult()
    result.SubscriptionId = subscription.data.SubscriptionId
    notification = ua.StatusChangeNotification()
    notification.Status = ua.StatusCode(ua.StatusCodes.GoodSubscriptionTransferred)
    result.NotificationMessage.NotificationData.append(notification)
    await loser.forward_publish_response(result, loser._publish_requests.popleft())


def _overflowed(event: Any) -> Any:
    """Set the overflow bit; the value itself is shared with the address space and other subscriptions."""
    status = ua.StatusCode(event.Value.StatusCode.value | _OVERFLOW)
    marked = ua.MonitoredItemNotification()
    marked.ClientHandle = event.ClientHandle
    marked.Value = dataclasses.replace(event.Value, StatusCode=status)
    return marked
