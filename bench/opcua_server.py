"""An OPC UA server that notifies as fast as it is asked to: asyncua's, whose notifications are packed beforehand.

Sessions, monitored items, sequence numbers, keep-alives and acknowledgements are the library's. Only what a
DataChangeNotification holds is written by one `struct` call a cycle: otherwise the server, not its client, would be
what is measured.
"""

import argparse
import asyncio
import struct
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import asyncua
from asyncua.server import subscription_service
from asyncua.server.internal_subscription import InternalSubscription
from asyncua.server.server import Server

ua: Any = asyncua.ua
NAMESPACE: Final = "urn:bench:plc"
_EPOCH_MS: Final = 11_644_473_600_000
_TYPES: Final = (("Double", 11, "d"), ("Float", 10, "f"), ("Int32", 6, "i"), ("Boolean", 1, "?"))
"""Types take turns: no two neighbours are alike, as in a PLC's program."""
_VALUE_AND_STAMPS: Final = 0x0D


class Prepared(InternalSubscription):
    """A subscription whose items all change in each publishing interval, in their order."""

    spread = False
    most_per_publish = 0

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self._waiting: deque[Any] = deque()
        self._layout = struct.Struct("")
        self._items: list[tuple[int, int]] = []
        self._cycle = 0

    def has_published_results(self) -> bool:
        return bool(self._waiting) or bool(super().has_published_results())

    async def publish_results(self, requestdata: Any = None) -> bool:
        if requestdata is None and not self._waiting and self._task is not None:
            self._change()
        consumed = await super().publish_results(requestdata)
        more = consumed
        while more and self._waiting:
            more = await super().publish_results()
        return consumed

    def _pop_triggered_datachanges(self, result: Any) -> None:
        super()._pop_triggered_datachanges(result)
        if self._waiting:
            result.NotificationMessage.NotificationData = [self._waiting.popleft()]

    def _change(self) -> None:
        """Let every item change once, and cut what there is to tell into notifications."""
        handles = [item.client_handle for item in self.monitored_item_srv._monitored_items.values()]
        self._cycle += 1
        now = time.time_ns() // 1_000_000 + _EPOCH_MS
        interval_ms = self.data.RevisedPublishingInterval
        most = self.most_per_publish or len(handles)
        for first in range(0, len(handles), most):
            fields: list[Any] = []
            for handle in handles[first : first + most]:
                late = int(handle % 1000 * interval_ms / 1000) if self.spread else 0
                ticks = (now - late) * 10_000
                fields += (handle, _VALUE_AND_STAMPS, _TYPES[handle % 4][1], self._value(handle), ticks, ticks)
            self._waiting.append(_notification(handles[first : first + most], fields))

    def _value(self, handle: int) -> Any:
        kind = handle % 4
        if kind == 3:
            return self._cycle % 2 == 0
        return self._cycle + handle if kind == 2 else self._cycle / 8 + handle


def _notification(handles: Sequence[int], fields: Sequence[Any]) -> Any:
    layout = "".join(f"IBB{_TYPES[handle % 4][2]}qq" for handle in handles)
    body = struct.pack(f"<i{layout}i", len(handles), *fields, -1)
    kind = ua.NodeId(ua.Int32(ua.ObjectIds.DataChangeNotification_Encoding_DefaultBinary))
    return ua.ExtensionObject(kind, body)


class _Service(subscription_service.SubscriptionService):
    """Keeps to MaxNotificationsPerPublish, which the library's server does not look at."""

    async def create_subscription(self, params: Any, *arguments: Any, **keys: Any) -> Any:
        created = await super().create_subscription(params, *arguments, **keys)
        self.subscriptions[created.SubscriptionId].most_per_publish = params.MaxNotificationsPerPublish
        return created


async def serve(items: int, *, spread: bool) -> None:
    """Serve so many variables until killed; prints the endpoint."""
    Prepared.spread = spread
    subscription_service.InternalSubscription = Prepared
    server: Any = Server()
    await server.init()
    server.iserver.subscription_service = server.iserver.isession.subscription_service = _Service(
        server.iserver.aspace, server.iserver
    )
    index = await server.register_namespace(NAMESPACE)
    for number in range(items):
        kind = ua.VariantType(_TYPES[number % 4][1])
        variant = ua.Variant(False if number % 4 == 3 else 0, kind)
        await server.nodes.objects.add_variable(ua.NodeId(f"v{number:05}", index), f"v{number:05}", variant)
    server.set_endpoint("opc.tcp://127.0.0.1:0")
    await server.start()
    print(f"opc.tcp://127.0.0.1:{server.bserver.port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("items", type=int)
    parser.add_argument("--spread", action="store_true", help="each item has a source timestamp of its own")
    options = parser.parse_args()
    asyncio.run(serve(options.items, spread=options.spread))
