"""A subscription at the server as we know it: its tags, its monitored items, and where its messages stand."""

import json
from dataclasses import dataclass, field
from typing import Any

from asyncua import ua

from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.subscription.revised import Revisions
from gateway.drivers.opcua.subscription.sequence import Sequence
from gateway.drivers.opcua.subscription.wishes import MISSED_KEEP_ALIVES, keep_alive_s


@dataclass(slots=True)
class Subscription:
    """One subscription. `columns` are its tags, `items` the monitored item of each that the server monitors.

    `patience_s` is how long it may be silent, `heard` when it last spoke (monotonic). One that was `taken_over` from
    an earlier session and has not `spoken` since may be dead at the server; of the tags in `unread` it has told
    nothing since.
    """

    id: int
    publishing_s: float
    patience_s: float
    columns: list[int] = field(default_factory=list)
    items: dict[int, int] = field(default_factory=dict)
    sequence: Sequence = field(default_factory=Sequence)
    revised: Revisions = field(default_factory=Revisions)
    heard: float = 0.0
    taken_over: bool = False
    spoken: bool = False
    unread: set[int] = field(default_factory=set)

    @classmethod
    def created(cls, section: OpcuaDevice, asked_s: float, made: ua.CreateSubscriptionResult) -> "Subscription":
        """Make what the server made of our wishes (OPC 10000-4 section 5.14.2)."""
        publishing_s = made.RevisedPublishingInterval / 1000
        spoken_every_s = max(publishing_s * made.RevisedMaxKeepAliveCount, keep_alive_s(section))
        return cls(made.SubscriptionId, publishing_s, MISSED_KEEP_ALIVES * spoken_every_s)

    @property
    def facts(self) -> str:
        """What a later connection, or a later gateway, has to know of it."""
        known: dict[str, Any] = {
            "publishing_s": self.publishing_s,
            "patience_s": self.patience_s,
            "columns": self.columns,
            "items": [self.items.get(column, 0) for column in self.columns],
            "revised": self.revised.summary,
        }
        return json.dumps(known, separators=(",", ":"))

    @classmethod
    def remembered(cls, number: int, facts: str, sequence: Sequence) -> "Subscription":
        """Make what an earlier connection wrote down of a subscription that was taken over."""
        known = json.loads(facts)
        columns: list[int] = known["columns"]
        items = {column: item for column, item in zip(columns, known["items"], strict=True) if item}
        found = cls(number, known["publishing_s"], known["patience_s"], columns, items, sequence)
        found.taken_over, found.unread = True, set(columns)
        found.revised = Revisions(known["revised"])
        return found
