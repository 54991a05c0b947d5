"""Monitored items as OPC 10000-4 section 7.22.2 has them, where asyncua's server does otherwise.

Its deadband is between a value and the one before it, so that a slow drift is never reported; percent it lets pass.
"""

from typing import Any

import asyncua
from asyncua.server.monitored_item_service import MonitoredItemService

ua: Any = asyncua.ua


class RobotItems(MonitoredItemService):
    """The items of a subscription; a deadband counts from the value that was reported last."""

    async def datachange_callback(self, handle: int, value: Any, error: Any = None) -> None:
        """Queue a value if it differs enough."""
        number = self._monitored_datachange[handle]
        seen = self._monitored_items[number].mvalue
        reported = seen.current_dvalue
        await super().datachange_callback(handle, value, error)
        queue = self.isub._triggered_datachanges.get(number)
        if not queue or queue[-1].Value is not value:
            seen.current_dvalue = reported


def refusal(wanted: Any, aspace: Any) -> int | None:
    """Why a percent deadband cannot be had, as a status code; where it can, it becomes an absolute one."""
    kept = wanted.RequestedParameters.Filter
    if getattr(kept, "DeadbandType", None) != ua.DeadbandType.Percent:
        return None
    node = wanted.ItemToMonitor.NodeId
    limits = aspace.read_attribute_value(
        ua.NodeId(f"{node.Identifier}.EURange", node.NamespaceIndex), ua.AttributeIds.Value
    ).Value
    if limits is None or limits.Value is None:
        return int(ua.StatusCodes.BadFilterNotAllowed)
    kept.DeadbandType = ua.DeadbandType.Absolute
    kept.DeadbandValue *= (limits.Value.High - limits.Value.Low) / 100
    return None
