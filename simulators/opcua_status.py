"""What a simulated OPC UA server says of itself: its state, how well it serves, and what time it believes it is."""

from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

import asyncua
from pydantic import Field

ua: Any = asyncua.ua
State = Literal[
    "Running", "Failed", "NoConfiguration", "Suspended", "Shutdown", "Test", "CommunicationFault", "Unknown"
]
Level = Annotated[int, Field(ge=0, le=255)]


@dataclass
class ServerStatus:
    """State and ServiceLevel (OPC 10000-5 section 12.6, OPC 10000-4 section 6.6.2.4), and errors of the clock.

    `offset_s` moves all timestamps; `zone` makes the source timestamps the local time of a place, told as if it
    were UTC.
    """

    state: State = "Running"
    level: int = 255
    seconds_till_shutdown: int = 0
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    offset_s: float = 0.0
    zone: str | None = None

    def clear(self) -> None:
        """Run well and in time."""
        self.state, self.level, self.seconds_till_shutdown = "Running", 255, 0
        self.offset_s, self.zone = 0.0, None

    def server_time(self, now: datetime) -> datetime:
        """The server's own time."""
        return now + timedelta(seconds=self.offset_s)

    def source_time(self, now: datetime) -> datetime:
        """The time that the PLC's program stamps its values with."""
        shown = self.server_time(now)
        return shown if self.zone is None else shown.astimezone(ZoneInfo(self.zone)).replace(tzinfo=UTC)

    async def show(self, server: Any, now: datetime) -> None:
        """Write all of it to the server's nodes."""
        at = self.server_time(now)
        state = int(getattr(ua.ServerState, self.state))
        plain = {
            "Server_ServerStatus_State": ua.Variant(state, ua.VariantType.Int32),
            "Server_ServerStatus_CurrentTime": ua.Variant(at, ua.VariantType.DateTime),
            "Server_ServerStatus_StartTime": ua.Variant(self.started, ua.VariantType.DateTime),
            "Server_ServerStatus_SecondsTillShutdown": ua.Variant(self.seconds_till_shutdown, ua.VariantType.UInt32),
            "Server_ServiceLevel": ua.Variant(self.level, ua.VariantType.Byte),
        }
        whole = copy(server.read_attribute_value(ua.NodeId(ua.ObjectIds.Server_ServerStatus)).Value.Value)
        whole.State, whole.CurrentTime, whole.StartTime = ua.ServerState(state), at, self.started
        whole.SecondsTillShutdown = self.seconds_till_shutdown
        plain["Server_ServerStatus"] = ua.Variant(whole, ua.VariantType.ExtensionObject)
        for name, value in plain.items():
            shown = ua.DataValue(Value=value, SourceTimestamp=at, ServerTimestamp=at)
            await server.write_attribute_value(ua.NodeId(getattr(ua.ObjectIds, name)), shown)
