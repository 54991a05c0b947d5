"""What the server is asked for: of a subscription, and of each monitored item."""

import math
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds

from gateway.drivers.base import Percent
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.tag import OpcuaTag

MOST_NOTIFICATIONS: Final = 1000
"""A publish is decoded in one go, in which nothing else runs."""
_KEEP_ALIVE_S: Final = 1.5
"""The server speaks at least this often, or once in a device timeout: three times as long is soon enough to notice."""
MISSED_KEEP_ALIVES: Final = 3
_LIFETIME_S: Final = 180.0
"""How long the server keeps a subscription that nobody asks about: a gateway that crashed is back by then."""
_SHORT_LIFETIME_S: Final = 30.0
"""Where nobody can come back for it: what it costs the server is soon free again."""
_FASTEST: Final = 100
_LEAST_QUEUE: Final = 10
"""Many servers report each change, however fast: a variable may be written several times within a sampling interval."""
_OF_DEADBAND: Final = 10
"""The server gets this part of a deadband, the gateway what is left (`deadbands.held_back`). Each compares with what it
sent last itself, which need not be the same value: what both hold back is together never more than a deadband."""


def keep_alive_s(section: OpcuaDevice) -> float:
    """How often the server is to speak on each subscription, at least."""
    return max(_KEEP_ALIVE_S, section.timeout)


def subscription(
    section: OpcuaDevice, publishing_s: float, *, transfers: bool = True
) -> ua.CreateSubscriptionParameters:
    """Ask for a subscription (OPC 10000-4 section 5.14.2), which a later session takes over where it `transfers`."""
    keep_alives = max(1, math.floor(keep_alive_s(section) / publishing_s))
    lifetime = max(
        MISSED_KEEP_ALIVES * keep_alives, math.ceil((_LIFETIME_S if transfers else _SHORT_LIFETIME_S) / publishing_s)
    )
    return ua.CreateSubscriptionParameters(
        RequestedPublishingInterval=publishing_s * 1000,
        RequestedLifetimeCount=lifetime,
        RequestedMaxKeepAliveCount=keep_alives,
        MaxNotificationsPerPublish=MOST_NOTIFICATIONS,
        PublishingEnabled=True,
        Priority=0,
    )


def sampling_s(section: OpcuaDevice, tag: OpcuaTag) -> float:
    """How often the server is to look at a tag."""
    return section.interval_of(tag) if tag.sampling is None else tag.sampling


def deadband(tag: OpcuaTag) -> float | None:
    """Give the absolute deadband to try at the server; None where it has to be left to the gateway.

    Values that are scaled or named leave the deadband by what they become, not by what the server compares; those with
    limits may cross one by less than a deadband. A share of the tag's range is sent as the distance that it is: the
    server's EURange may be another.
    """
    if tag.scaled or tag.map is not None or tag.min is not None or tag.max is not None or tag.deadband is None:
        return None
    if not isinstance(tag.deadband, Percent):
        return float(tag.deadband) / _OF_DEADBAND or None
    if tag.range is None:
        return None
    low, high = tag.range
    return float(tag.deadband.share * abs(high - low)) / _OF_DEADBAND or None


def item(
    section: OpcuaDevice, column: int, node: ua.NodeId, publishing_s: float, distance: float | None
) -> ua.MonitoredItemCreateRequest:
    """Ask for a monitored item whose client handle is the tag's column (section 5.13.2)."""
    tag = section.tags[column]
    every_s = sampling_s(section, tag)
    request = ua.MonitoredItemCreateRequest()
    request.ItemToMonitor = ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value)
    request.MonitoringMode = ua.MonitoringMode.Reporting
    request.RequestedParameters.ClientHandle = column
    request.RequestedParameters.SamplingInterval = every_s * 1000
    request.RequestedParameters.QueueSize = tag.queue or queue_size(every_s, publishing_s)
    request.RequestedParameters.DiscardOldest = True
    if distance is not None:
        request.RequestedParameters.Filter = ua.DataChangeFilter(
            Trigger=ua.DataChangeTrigger.StatusValue,
            DeadbandType=ua.DeadbandType.Absolute,
            DeadbandValue=distance,
        )
    return request


def queue_size(sampling_s: float, publishing_s: float) -> int:
    """Values the server should be able to keep: those of two publishing intervals, and never just a few."""
    per_publishing = math.ceil(publishing_s / sampling_s) if sampling_s > 0 else _FASTEST
    return max(_LEAST_QUEUE, 2 * per_publishing)
