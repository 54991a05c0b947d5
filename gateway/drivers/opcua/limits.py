"""How much a server takes in one request: what it says itself, and what it was found to take."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeVar

from gateway.errors import DeviceError

CHUNK: Final = 500
"""Operations a request, where the server knows no limit: longer answers would be decoded in one go for too long."""
ITEMS_PER_SUBSCRIPTION: Final = "max_monitored_items_per_subscription"
TOO_MUCH: Final = frozenset(
    {
        "BadTooManyOperations",
        "BadRequestTooLarge",
        "BadResponseTooLarge",
        "BadEncodingLimitsExceeded",
        "BadTcpMessageTooLarge",
    }
)
_Thing = TypeVar("_Thing")
_Result = TypeVar("_Result")


class Service(StrEnum):
    """The services that take many operations at once, by the limit that holds for them (OPC 10000-5 section 6.3.11)."""

    READ = "max_nodes_per_read"
    BROWSE = "max_nodes_per_browse"
    TRANSLATE = "max_nodes_per_translate_browse_paths_to_node_ids"
    REGISTER = "max_nodes_per_register_nodes"
    MONITOR = "max_monitored_items_per_call"
    HISTORY = "max_nodes_per_history_read_data"


@dataclass(slots=True)
class Limits:
    """The most operations that one request may hold, by service.

    `told` is what the server says, `given` what the config says instead; `found` is what the server was found to take,
    by the limits' names: it may outlive this.
    """

    told: dict[str, int] = field(default_factory=dict)
    given: Mapping[Any, int] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)

    def of(self, service: Service) -> int:
        """Give how many operations to put into one request."""
        return min((CHUNK, *self._known(service)))

    @property
    def items_per_subscription(self) -> int:
        """How many monitored items a subscription takes; 0 where nobody knows."""
        return min(self._known(ITEMS_PER_SUBSCRIPTION), default=0)

    @property
    def document(self) -> dict[str, int]:
        """What is known, by the limits' names, for a person; requests are kept smaller still (see `of`)."""
        names = (*(service.value for service in Service), ITEMS_PER_SUBSCRIPTION)
        return {name: min(known) for name in names if (known := self._known(name))}

    @property
    def sources(self) -> dict[str, str]:
        """From where each limit of `document` is: `found` by trying, `told` by the server, or the `config`'s."""
        return {name: self._source(name, most) for name, most in self.document.items()}

    def _known(self, name: str) -> tuple[int, ...]:
        """Give what holds: what was found, and what the config says, else the server."""
        said = self.given if name in self.given else self.told
        return tuple(known[name] for known in (self.found, said) if name in known)

    def _source(self, name: str, most: int) -> str:
        if self.found.get(name) == most:
            return "found"
        return "config" if name in self.given else "told"

    def tell(self, name: str, told: object) -> None:
        """Take what the server says; 0, or none at all, says that there is no limit."""
        if isinstance(told, int) and told > 0:
            self.told[name] = told

    def forgo(self, service: Service) -> None:
        """Note that the service is refused, or of no use here: nothing more is to be asked."""
        self.found[service] = 0

    def refused(self, service: Service, tried: int) -> bool:
        """Note that so many were too many; whether fewer are worth a try. One alone says nothing of many."""
        if tried > 1:
            self.found[service] = max(1, min(tried, self.of(service)) // 2)
        return tried > 1

    def believe(self, service: Service, before: int | None) -> None:
        """Go back to what was known before: one thing was too large, and not the number of things."""
        if before is None:
            self.found.pop(service, None)
        else:
            self.found[service] = before

    def apart(self) -> "Limits":
        """Give limits that begin as these: what is learned by asking for other things must not slow the polls."""
        return Limits(self.told, self.given, dict(self.found))


async def in_chunks(
    limits: Limits,
    service: Service,
    things: Sequence[_Thing],
    ask: Callable[[Sequence[_Thing]], Awaitable[Sequence[_Result]]],
    alone: Callable[[_Thing, DeviceError], _Result] | None = None,
) -> list[_Result]:
    """Ask about many things in requests that the server takes, in order; one result for each thing.

    A request that is refused for its size is halved, and the size remembered. `alone` gives the result for a thing that
    is too large by itself, which says nothing of the size of others. Raises DeviceError.
    """
    results: list[_Result] = []
    before = limits.found.get(service)
    while len(results) < len(things):
        chunk = things[len(results) : len(results) + limits.of(service)]
        try:
            answer = await ask(chunk)
        except DeviceError as error:
            if error.reason not in TOO_MUCH:
                raise
            if limits.refused(service, len(chunk)):
                continue
            limits.believe(service, before)
            if alone is None:
                raise
            answer = [alone(chunk[0], error)]
        if len(answer) != len(chunk):
            raise DeviceError(
                f"the server answered {len(chunk)} operations with {len(answer)} results", reason="connection-lost"
            )
        results += answer
    return results
