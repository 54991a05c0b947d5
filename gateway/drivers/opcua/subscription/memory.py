"""What outlives a connection, though not the gateway: receipts on their way, and how subscriptions fared."""

from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from gateway.drivers.opcua.subscription.publishing import Receipt

_KEY: Final = "subscriptions"
_WINDOW_S: Final = 600.0
_DEATHS: Final = 3
_POLLED_S: Final = 3600.0


class Memory:
    """One device's memory of its subscriptions. Times are monotonic seconds, unless the name ends in `_ms`.

    `acknowledgements` are on disk and not yet told to the server, `unsettled` receipts are not known to be on disk.
    `dead` are subscriptions that gave nothing after they were taken over. `heard_ms` is when a server last spoke.
    `transfers` is False once the server was found not to hand subscriptions over. The device is polled until
    `poll_until`, for the reason `why`.
    """

    def __init__(self) -> None:
        self.acknowledgements: list[Receipt] = []
        self.unsettled: set[Receipt] = set()
        self.dead: set[int] = set()
        self.heard_ms = 0
        self.transfers = True
        self.poll_until = 0.0
        self.why = ""
        self._deaths: list[float] = []

    @classmethod
    def of(cls, memory: MutableMapping[str, Any]) -> "Memory":
        """Give the memory that a device's connections share."""
        found: Memory = memory.setdefault(_KEY, cls())
        return found

    def settle(self, stored: Iterable[Receipt]) -> None:
        """Take what the server still keeps of what was stored: it is acknowledged, now or once it is on disk."""
        told = set(self.acknowledgements) | self.unsettled
        self.acknowledgements += [receipt for receipt in stored if receipt not in told]

    def acknowledge(self, receipt: Receipt) -> None:
        """Note that this notification is on disk."""
        self.unsettled.discard(receipt)
        self.acknowledgements.append(receipt)

    def died(self, now: float) -> None:
        """Note a subscription that died without having given a value."""
        self._deaths = [*(at for at in self._deaths if now - at < _WINDOW_S), now]
        if len(self._deaths) >= _DEATHS:
            self.poll(now, f"{len(self._deaths)} subscriptions in a row gave nothing: the nodes are read instead")

    def poll(self, now: float, why: str) -> None:
        """Note that the device is to be polled from now on, and why."""
        self._deaths = []
        self.why, self.poll_until = why, now + _POLLED_S

    def why_poll(self, now: float) -> str:
        """Say why the device is to be polled; empty if subscriptions are worth a try."""
        return self.why if now < self.poll_until else ""
