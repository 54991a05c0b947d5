"""The live parts of a running gateway as health sees them: attributes to read, nothing to call or to change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.model import DeviceState, Ledger, MqttState


class DeviceParts(Protocol):
    """A device: a `Component` of its state, with what its poller counts."""

    @property
    def state(self) -> DeviceState:
        """What the device is doing."""

    @property
    def since_ms(self) -> int:
        """Since when it has this state."""

    @property
    def error(self) -> str | None:
        """The sentence that explains a state which is not well."""

    @property
    def do(self) -> str:
        """What a person can do about it; may be empty."""

    @property
    def protocol(self) -> str:
        """The protocol's name as in the config."""

    @property
    def address(self) -> str:
        """Where the device is, as a person would write it."""

    @property
    def critical(self) -> bool:
        """Whether its failure can make the gateway `failing`."""

    @property
    def tags(self) -> int:
        """How many tags are configured."""

    @property
    def bad_tags(self) -> int:
        """How many of them had no good value when last read."""

    @property
    def bad_names(self) -> Sequence[str]:
        """The names of a few of those."""

    @property
    def last_good_ms(self) -> int | None:
        """When a good value last came."""

    @property
    def cycle_last_s(self) -> float | None:
        """How long the last poll took; None for a device that notifies."""

    @property
    def cycle_p95_s(self) -> float | None:
        """How long 95 of 100 recent polls took at most; None for a device that notifies."""

    @property
    def interval_s(self) -> float:
        """The device's configured interval."""

    @property
    def slowness(self) -> str:
        """Why polls take longer than their interval; empty while they do not."""

    @property
    def skipped_cycles(self) -> int:
        """Polls that were left out because the one before took too long."""

    @property
    def reconnects(self) -> int:
        """Connections made after the first."""

    @property
    def details(self) -> Mapping[str, Any]:
        """What the open connection tells of itself, as JSON values; may be empty."""


class BrokerAlarm(Protocol):
    """One thing that somebody should look into: a reason's code, and two sentences."""

    @property
    def code(self) -> str:
        """The reason's code."""

    @property
    def text(self) -> str:
        """What is wrong."""

    @property
    def do(self) -> str:
        """What to do about it."""


class BrokerParts(Protocol):
    """The connection to the broker: a `Component` of its state, with what the publisher counts."""

    @property
    def state(self) -> MqttState:
        """What the connection is doing."""

    @property
    def since_ms(self) -> int:
        """Since when it has this state."""

    @property
    def error(self) -> str | None:
        """The sentence that explains a state which is not well."""

    @property
    def do(self) -> str:
        """What a person can do about it; may be empty."""

    @property
    def address(self) -> str:
        """`host:port`."""

    @property
    def last_ack(self) -> float | None:
        """When the last PUBACK came, in monotonic seconds."""

    @property
    def inflight(self) -> int:
        """Messages that wait for their PUBACK."""

    @property
    def published(self) -> int:
        """Messages that the broker acknowledged."""

    @property
    def rejected(self) -> int:
        """Messages that the broker refused (MQTT 5.0 section 3.4.2.1: reason codes from 0x80)."""

    @property
    def unmatched(self) -> int:
        """Messages that nobody subscribed to (MQTT 5.0 section 3.4.2.1: reason code 0x10)."""

    @property
    def set_aside(self) -> int:
        """Samples that the broker refused for themselves, and that are kept as dead letters."""

    @property
    def alarms(self) -> Sequence[BrokerAlarm]:
        """What somebody should look into though the connection stands."""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""

    @property
    def refusals(self) -> Mapping[str, str]:
        """The topics that the broker refuses now, each with a sentence saying why."""


class BufferLevel(Protocol):
    """How full the buffer is, and whether the disk takes it."""

    @property
    def pending_samples(self) -> int:
        """Samples that no broker has acknowledged."""

    @property
    def pending_readings(self) -> int:
        """The readings in them."""

    @property
    def bytes(self) -> int:
        """Size of what is stored."""

    @property
    def max_bytes(self) -> int:
        """The configured limit."""

    @property
    def disk_free_bytes(self) -> int:
        """Free space on the buffer's file system."""

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest pending sample."""

    @property
    def full_in_s(self) -> float | None:
        """When the buffer will be full at the present rate; None if it does not grow, or nobody knows."""

    @property
    def dropped_readings(self) -> int:
        """Readings dropped since the epoch began, each within a gap record."""

    @property
    def writable(self) -> bool:
        """Whether the last commit succeeded."""

    @property
    def error(self) -> str | None:
        """Why it did not."""

    @property
    def kept_bytes(self) -> int:
        """What of `bytes` was acknowledged and only stays for a resend: it makes room when room is needed."""

    @property
    def salvaging(self) -> bool:
        """Whether what a file that was set aside still holds is being taken over."""

    @property
    def left_aside(self) -> Mapping[str, str]:
        """Files that were set aside and that the gateway does not take over, and why."""

    @property
    def unlawful(self) -> Mapping[str, int]:
        """By device, the readings that its ledger does not explain."""


class BufferParts(Protocol):
    """The store-and-forward buffer."""

    @property
    def epoch(self) -> str:
        """The epoch of the numbering."""

    @property
    def status(self) -> BufferLevel:
        """How full it is."""

    @property
    def ledgers(self) -> Mapping[str, Ledger]:
        """Where the readings of each device went."""


@dataclass(slots=True)
class ConfigParts:
    """The config in force. A reload changes it; one that was refused leaves its sentence in `last_error`."""

    hash: str
    loaded_ms: int
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that somebody has to renew: what it is for, until when it is valid (ms since the epoch), how."""

    name: str
    not_after_ms: int
    do: str = "Replace it."


@dataclass(frozen=True)
class Parts:
    """All that health reads. `started` is monotonic seconds.

    `insecure` holds one sentence for each endpoint without encryption or verification, `clock` says whether the
    system's clock is synchronised (None: unknown), `ready` whether the config is applied and the buffer open.
    """

    gateway_id: str
    started: float
    devices: Mapping[str, DeviceParts]
    broker: BrokerParts
    buffer: BufferParts
    config: ConfigParts
    insecure: Sequence[str]
    certificates: Callable[[], Sequence[Certificate]]
    clock: Callable[[], bool | None]
    ready: Callable[[], bool] = lambda: True
