"""What the services of a simulated OPC UA server do wrong on demand, and how often each was asked for."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import asyncua
from asyncua.common.utils import ServiceError

from simulators.modbus_faults import Seconds

ua: Any = asyncua.ua  # its annotations ask for types that its own functions do not return

_SUFFIX = "Request_Encoding_DefaultBinary"
SERVICES: dict[int, str] = {
    number: name.removesuffix(_SUFFIX)
    for name, number in vars(ua.ObjectIds).items()
    if name.endswith(_SUFFIX) and isinstance(number, int)
}
"""Names of the services (OPC 10000-4 section 5), such as Read or CreateSession, by the number of their request."""
CHANGING = ("Write", "Call", "HistoryUpdate", "AddNodes", "DeleteNodes", "AddReferences", "DeleteReferences")

changes: Counter[str] = Counter()
"""Requests that would change a PLC, seen by all simulators of this process: a test suite can hold it to be empty."""


def status_code(name: str) -> int:
    """The number of a status code.

    Raises:
        ValueError: there is none of that name.
    """
    code: int | None = getattr(ua.StatusCodes, name, None)
    if code is None or name.startswith("_"):
        raise ValueError(f"{name!r} is not an OPC UA status code; write for example BadSensorFailure")
    return code


class ServiceFaults:
    """The faults of a server's services; all off at first, each may be set while the simulator runs.

    A server answers the requests of a connection one after the other: a slow service holds up what comes behind it.
    Requests that would change something are always refused, and counted. `suffered` counts what a fault did to
    clients, such as "refused Read" or "unpublished": one that is set and met by nobody has shown nothing.
    """

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.suffered: Counter[str] = Counter()
        self.acknowledged = 0
        self.clear()

    def clear(self) -> None:
        """Behave again."""
        self.refused: dict[str, int] = {}
        self.slow: dict[str, float] = {}
        self.mute: set[str] = set()
        self.items: dict[str, int] = {}
        self.refuses_filters = False
        self.publishes = True

    def refuse_services(self, services: list[str], status: str = "BadServiceUnsupported") -> None:
        """Answer each request for one of these services with a status code. Raises ValueError."""
        self.refused.update(dict.fromkeys(_known(services), status_code(status)))

    def slow_services(self, services: list[str], s: Seconds) -> None:
        """Answer these services `s` seconds late; 0 ends it. Raises ValueError."""
        self.slow.update(dict.fromkeys(_known(services), s))

    def mute_services(self, services: list[str]) -> None:
        """Never answer a request for one of these services. Raises ValueError."""
        self.mute.update(_known(services))

    def accept_services(self, services: list[str]) -> None:
        """Serve these services again, at once. Raises ValueError."""
        for service in _known(services):
            self.refused.pop(service, None)
            self.slow.pop(service, None)
            self.mute.discard(service)

    def refuse_items(self, nodes: list[str], status: str = "BadNodeIdUnknown") -> None:
        """Refuse to monitor these nodes, with a status code; what is monitored already stays. Raises ValueError."""
        self.items.update(dict.fromkeys(nodes, status_code(status)))

    def accept_items(self, nodes: list[str]) -> None:
        """Monitor these nodes when asked again."""
        for node in nodes:
            self.items.pop(node, None)

    def refuse_filters(self, on: bool = True) -> None:
        """Refuse monitored items that ask for a deadband, with BadMonitoredItemFilterUnsupported, as small PLCs do."""
        self.refuses_filters = on

    def stop_publishing(self) -> None:
        """Publish nothing and keep no subscription alive, though all else is answered: connected, and no data."""
        self.publishes = False

    def resume_publishing(self) -> None:
        """Publish again, first what the queues held."""
        self.publishes = True

    async def admit(self, service: str) -> bool:
        """Count a request, and say whether it is answered at all. Raises ServiceError where it is refused."""
        self.requests[service] += 1
        if service in CHANGING:
            changes[service] += 1
            raise ServiceError(ua.StatusCodes.BadUserAccessDenied)
        if self.slow.get(service):
            self.suffered[f"slow {service}"] += 1
            await asyncio.sleep(self.slow[service])
        if service in self.refused:
            self.suffered[f"refused {service}"] += 1
            raise ServiceError(self.refused[service])
        self.suffered[f"unanswered {service}"] += service in self.mute
        return service not in self.mute

    def report(self) -> dict[str, Any]:
        """What clients have asked for."""
        count = self.requests
        return {
            "reads": count["Read"],
            "writes": count["Write"],
            "calls": count["Call"],
            "changes": sum(count[service] for service in CHANGING),
            "history_reads": count["HistoryRead"],
            "publishes": count["Publish"],
            "acks": self.acknowledged,
            "transfers": count["TransferSubscriptions"],
            "republishes": count["Republish"],
            "requests": dict(count),
            "suffered": {name: times for name, times in self.suffered.items() if times},
        }

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        services = (self.refuse_services, self.slow_services, self.mute_services, self.accept_services)
        items = (self.refuse_items, self.accept_items, self.refuse_filters)
        publishing = (self.stop_publishing, self.resume_publishing)
        return {command.__name__: command for command in services + items + publishing}


def _known(services: list[str]) -> list[str]:
    for service in services:
        if service not in SERVICES.values():
            raise ValueError(f"{service!r} is not an OPC UA service; write for example Read or CreateSubscription")
    return services
