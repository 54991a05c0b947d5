"""When a device is polled though its config wants a subscription: the server has none, or they give nothing."""

import asyncio
from typing import Final

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.subscription.memory import Memory
from gateway.errors import DeviceError

_NONE: Final = frozenset(
    {"BadServiceUnsupported", "BadNotImplemented", "BadNotSupported", "BadSubscriptionServiceUnsupported"}
)
_TOO_MANY: Final = "BadTooManySubscriptions"


def why_poll(connection: Connection, error: DeviceError | None = None) -> str:
    """Say, for a person, why the device is to be polled; empty if it is not. `error` is how subscribing failed.

    For an hour; from then on subscriptions are tried again (`trial.py`).
    """
    memory = Memory.of(connection.memory)
    now = asyncio.get_running_loop().time()
    if error is not None and error.reason in _NONE:
        memory.poll(now, f"the server has no subscriptions ({error.reason}): the nodes are read instead")
    elif error is not None and error.reason == _TOO_MANY:
        memory.poll(now, f"the server has no free subscription ({error.reason}): the nodes are read instead")
    return memory.why_poll(now)
