"""The limits of a simulated OPC UA server: enforced always, told to clients or hidden from them."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final

import asyncua
from asyncua.common.utils import ServiceError
from pydantic import Field

ua: Any = asyncua.ua
Limit = Annotated[int, Field(ge=0, le=2**31)]

_CAPABILITIES: Final = "Server_ServerCapabilities_"
_OPERATIONS: Final = f"{_CAPABILITIES}OperationLimits_"
_NODES: Final = {
    "nodes_per_read": f"{_OPERATIONS}MaxNodesPerRead",
    "nodes_per_history_read": f"{_OPERATIONS}MaxNodesPerHistoryReadData",
    "nodes_per_browse": f"{_OPERATIONS}MaxNodesPerBrowse",
    "items_per_call": f"{_OPERATIONS}MaxMonitoredItemsPerCall",
    "items_per_subscription": f"{_CAPABILITIES}MaxMonitoredItemsPerSubscription",
    "subscriptions_per_session": f"{_CAPABILITIES}MaxSubscriptionsPerSession",
    "sessions": f"{_CAPABILITIES}MaxSessions",
}
"""Where a client reads the limits (OPC 10000-5 sections 6.3.2 and 6.3.11)."""


@dataclass
class Limits:
    """The limits; 0 is none. Intervals in milliseconds are the least that the server grants."""

    nodes_per_read: int = 0
    nodes_per_history_read: int = 0
    nodes_per_browse: int = 0
    references_per_node: int = 0
    continuation_points: int = 0
    oldest_point_is_dropped: bool = False
    items_per_call: int = 0
    items_per_subscription: int = 0
    subscriptions_per_session: int = 0
    sessions: int = 0
    queue: int = 0
    sampling_ms: int = 0
    publishing_ms: int = 0

    def check(self, limit: str, count: int) -> None:
        """Raise ServiceError if a request has more operations than the server takes."""
        most: int = getattr(self, limit)
        if most and count > most:
            raise ServiceError(ua.StatusCodes.BadTooManyOperations)

    def told(self, announced: bool) -> dict[int, int]:
        """What the nodes show that tell of the limits, by their number; all 0 where the server tells nothing."""
        return {getattr(ua.ObjectIds, node): getattr(self, limit) * announced for limit, node in _NODES.items()}


def lowering(limits: Limits, changed: Callable[[bool], Any]) -> Callable[..., Any]:
    """The command that sets all limits at once; those that are not given end."""

    def limit(
        nodes_per_read: Limit = 0,
        nodes_per_history_read: Limit = 0,
        nodes_per_browse: Limit = 0,
        references_per_node: Limit = 0,
        continuation_points: Limit = 0,
        oldest_point_is_dropped: bool = False,
        items_per_call: Limit = 0,
        items_per_subscription: Limit = 0,
        subscriptions_per_session: Limit = 0,
        sessions: Limit = 0,
        queue: Limit = 0,
        sampling_ms: Limit = 0,
        publishing_ms: Limit = 0,
        announced: bool = True,
    ) -> Any:
        given = locals()
        for field in fields(limits):
            setattr(limits, field.name, given[field.name])
        return changed(announced)

    return limit
