"""One device's way from the PLC to the buffer."""

from gateway.poller.component import DeviceComponent
from gateway.poller.poller import HEARTBEAT_LOOKS, Changed, Poller

__all__ = ["HEARTBEAT_LOOKS", "Changed", "DeviceComponent", "Poller"]
