"""Parts of a gateway that runs well, as scripted values at the seam where health reads them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.health.report import Certificate, ConfigParts, Parts
from gateway.model import DeviceState, Ledger, MqttState
from gateway.supervisor import Component


class FakeDevice(Component[DeviceState]):
    """A device as the poller shows it."""

    def __init__(self, name: str = "press-1", state: DeviceState = DeviceState.OK, **changes: Any) -> None:
        super().__init__(name, state, well=frozenset({DeviceState.OK, DeviceState.DEGRADED}))
        self.since_ms = 1_763_843_000_123
        self.protocol = "modbus-tcp"
        self.address = "192.0.2.10:502"
        self.critical = True
        self.tags = 1000
        self.bad_tags = 0
        self.bad_names: Sequence[str] = ()
        self.last_good_ms: int | None = 1_763_843_009_123
        self.cycle_last_s: float | None = 0.041
        self.cycle_p95_s: float | None = 0.055
        self.interval_s = 1.0
        self.slowness = ""
        self.skipped_cycles = 0
        self.reconnects = 0
        self.details: dict[str, Any] = {}
        self.__dict__.update(changes)


class FakeBroker(Component[MqttState]):
    """The broker connection as the publisher shows it."""

    def __init__(self, state: MqttState = MqttState.CONNECTED, **changes: Any) -> None:
        super().__init__("mqtt", state, well=frozenset({MqttState.CONNECTED}))
        self.since_ms = 1_763_843_000_123
        self.address = "broker.example.com:8883"
        self.last_ack: float | None = time.monotonic() - 0.4
        self.inflight = 1
        self.published = 812
        self.rejected = 0
        self.unmatched = 0
        self.set_aside = 0
        self.tls = True
        self.refusals: Mapping[str, str] = {}
        self.alarms: tuple[Any, ...] = ()
        self.__dict__.update(changes)


@dataclass(frozen=True)
class FakeLevel:
    pending_samples: int = 0
    pending_readings: int = 0
    bytes: int = 40_960
    max_bytes: int = 1_073_741_824
    disk_free_bytes: int = 9_999_999_999
    kept_bytes: int = 0
    salvaging: bool = False
    left_aside: dict[str, str] = field(default_factory=dict)
    unlawful: dict[str, int] = field(default_factory=dict)
    oldest_age_s: float = 0.0
    full_in_s: float | None = None
    dropped_readings: int = 0
    writable: bool = True
    error: str | None = None


@dataclass(frozen=True)
class FakeBuffer:
    epoch: str = "5f0c2a9e"
    status: FakeLevel = field(default_factory=FakeLevel)
    ledgers: Mapping[str, Ledger] = field(default_factory=lambda: {"press-1": Ledger(93_000, 11_800, 81_100, 100, 0)})


def fake_parts(*devices: FakeDevice, **changes: Any) -> Parts:
    """A gateway in good order, with these devices (default: one), and these fields of Parts changed."""
    parts = Parts(
        gateway_id="hall-3",
        started=time.monotonic() - 5123.2,
        devices={device.name: device for device in devices or (FakeDevice(),)},
        broker=FakeBroker(),
        buffer=FakeBuffer(),
        config=ConfigParts("77ab01cd", 1_763_843_000_123),
        insecure=(),
        certificates=lambda: (),
        clock=lambda: True,
    )
    return replace(parts, **changes)


def expiring(name: str, days: float) -> Certificate:
    """A certificate that is valid for so many days from now."""
    return Certificate(name, int((time.time() + days * 86_400) * 1000))
