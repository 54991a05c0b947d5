"""A client that sends OPC UA requests one by one: nothing is asked, published or acknowledged by itself."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncua
from asyncua import Client
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from simulators import OpcuaSimulator
from simulators.robot import NAMESPACE

ua: Any = asyncua.ua
BOUND_S = 20.0


class RawClient:
    """An activated session; `index` is the robot's namespace."""

    def __init__(self, client: Client, index: int) -> None:
        self.client = client
        self.index = index

    def node(self, path: str) -> Any:
        return ua.NodeId(path, self.index)

    async def ask(self, service: str, *, timeout: float = BOUND_S, **parameters: Any) -> Any:
        """Send a request and give the whole answer; raises what the server refuses it with."""
        request = getattr(ua, f"{service}Request")()
        for name, value in parameters.items():
            setattr(request.Parameters, name, value)
        body = await self.client.uaclient._send_request(request, timeout)
        return _decoded(getattr(ua, f"{service}Response"), body)

    async def read(self, *nodes: Any) -> list[Any]:
        wanted = [ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value) for node in nodes]
        answer = await self.ask("Read", NodesToRead=wanted, TimestampsToReturn=ua.TimestampsToReturn.Both)
        return list(answer.Results)

    async def subscribe(self, interval_ms: float = 20.0, keep_alives: int = 1000, most: int = 0) -> Any:
        """Create a subscription and give its revised parameters."""
        answer = await self.ask(
            "CreateSubscription",
            RequestedPublishingInterval=interval_ms,
            RequestedLifetimeCount=10_000,
            RequestedMaxKeepAliveCount=keep_alives,
            MaxNotificationsPerPublish=most,
            PublishingEnabled=True,
        )
        return answer.Parameters

    async def monitor(
        self, subscription: int, *paths: str, queue: int = 100, deadband: float | None = None, percent: bool = False
    ) -> Any:
        """Create items, whose client handles are 0, 1 and so on; gives their results."""
        items = []
        for handle, path in enumerate(paths):
            item = ua.MonitoredItemCreateRequest()
            item.ItemToMonitor = ua.ReadValueId(NodeId=self.node(path), AttributeId=ua.AttributeIds.Value)
            item.MonitoringMode = ua.MonitoringMode.Reporting
            item.RequestedParameters.ClientHandle = handle
            item.RequestedParameters.SamplingInterval = 10.0
            item.RequestedParameters.QueueSize = queue
            if deadband is not None:
                kind = ua.DeadbandType.Percent if percent else ua.DeadbandType.Absolute
                item.RequestedParameters.Filter = ua.DataChangeFilter(ua.DataChangeTrigger.StatusValue, kind, deadband)
            items.append(item)
        answer = await self.ask("CreateMonitoredItems", SubscriptionId=subscription, ItemsToCreate=items)
        return answer.Results

    async def publish(self, *acks: tuple[int, int], timeout: float = BOUND_S) -> Any:
        acknowledgements = [ua.SubscriptionAcknowledgement(*ack) for ack in acks]
        answer = await self.ask("Publish", SubscriptionAcknowledgements=acknowledgements, timeout=timeout)
        return answer.Parameters


def values(published: Any) -> list[Any]:
    """The DataValues of a publish response's data changes."""
    return [
        item.Value
        for notification in published.NotificationMessage.NotificationData
        if isinstance(notification, ua.DataChangeNotification)
        for item in notification.MonitoredItems
    ]


@asynccontextmanager
async def raw_client(simulator: OpcuaSimulator) -> AsyncIterator[RawClient]:
    """Connect without security; whatever the test does to the session, the socket is closed afterwards."""
    client = Client(simulator.endpoint, timeout=BOUND_S)
    await client.connect()
    try:
        yield RawClient(client, await client.get_namespace_index(NAMESPACE))
    finally:
        try:
            await client.disconnect()
        except (OSError, ua.UaError, TimeoutError):
            client.disconnect_socket()


def _decoded(kind: Any, body: Buffer) -> Any:
    answer = struct_from_binary(kind, body)
    answer.ResponseHeader.ServiceResult.check()
    return answer
