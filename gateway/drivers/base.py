"""The contract between the gateway and a protocol: the section that configures a device, and the open driver."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from gateway.files import CertificateFile
from gateway.model import Bookmark, Gap, Sample
from gateway.quantities import Name, PositiveDuration

DEFAULT_HEARTBEAT_S: Final = 900.0
NOTIFICATIONS_LOST: Final = "notifications-lost"
"""The reason of a gap after which nobody knows what the tags' values are until they are read."""


class Section(BaseModel):
    """A part of the config: frozen once loaded, and closed to keys that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_deadband(value: object) -> object:
    """Read a deadband: a number is absolute, `"2%"` is a share of the tag's range."""
    if isinstance(value, str) and value.endswith("%"):
        try:
            return Percent(share=Decimal(value[:-1]) / 100)
        except InvalidOperation:
            raise ValueError(f"{value!r} is no share of a range; write a number and %, such as 2%") from None
    return value


class Percent(Section):
    """A deadband that is a share of the tag's range: `share` is 0.02 for "2%"."""

    share: Decimal = Field(ge=0, le=1)

    def __str__(self) -> str:
        """Write it as the config did."""
        return f"{(self.share * 100).normalize():f}%"


Deadband = Annotated[Percent | Annotated[Decimal, Field(ge=0)], BeforeValidator(parse_deadband)]
TagName = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class Tag(Section):
    """One configured point of a PLC: what all protocols have in common.

    The value that leaves the gateway is raw * scale + offset.
    """

    name: TagName
    unit: str | None = Field(default=None, description="UCUM code or free text")
    description: str | None = None
    interval: PositiveDuration | None = Field(default=None, description="default: the device's interval")
    scale: Decimal | None = None
    offset: Decimal | None = None
    deadband: Deadband | None = Field(
        default=None,
        description='0: changes only; a number: absolute; "2%": of the range; omitted: every read',
    )
    heartbeat: PositiveDuration | None = Field(default=None, description="default: the device's heartbeat")
    range: tuple[Decimal, Decimal] | None = Field(default=None, description="[low, high]")
    min: Decimal | None = Field(default=None, description="a (scaled) value below it is bad:out-of-range")
    max: Decimal | None = Field(default=None, description="a (scaled) value above it is bad:out-of-range")
    map: Mapping[int, str] | None = Field(
        default=None,
        description="names for raw whole numbers, such as {0: stopped, 1: running}; a number without a name is sent "
        "as it is, as uncertain:unmapped",
    )

    @property
    def source(self) -> str:
        """Where the value comes from, in the protocol's own notation; part of the tag's meta."""
        raise NotImplementedError

    @property
    def value_type(self) -> str | None:
        """Name of the raw value's type, as the config names it; None where only the PLC knows."""
        raise NotImplementedError

    @property
    def shown_type(self) -> str | None:
        """The type's name in the meta."""
        return self.value_type

    @property
    def scaled(self) -> bool:
        """Whether the value is calculated from the raw one; it is a float then."""
        return self.scale is not None or self.offset is not None

    @property
    def code(self) -> str:
        """How the tag's value, once scaled, is packed on disk (see `Meta.codes`)."""
        raise NotImplementedError


VALIDATED: Final = "validated"
"""The key of pydantic's validation context under which the loader keeps lists of tags that it has validated."""


def _known_tags(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    known = info.context.get(VALIDATED) if isinstance(info.context, Mapping) else None
    return known[value] if known is not None and type(value) is int else validate(value)


ALIKE: Final = WrapValidator(_known_tags)
"""Marks a section's tags: alike devices share one list, validated once, that the loader names by its number."""


@dataclass(slots=True)
class Shared:
    """What the devices of one running gateway share.

    `links` are the open connections that several devices use (one TCP endpoint with several units, one serial
    line), by the link's own key; a driver puts the link there that the next device on it will find. `memory` holds,
    by the device's name, what a connection learned about a device and the next one should know; nobody else reads it.
    `bookmarks` gives, by the device's name, the bookmarks that were stored with its samples, over restarts too.
    """

    gateway_id: str
    links: dict[Hashable, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    bookmarks: Callable[[str], Mapping[str, Bookmark]] = lambda _device: {}


@dataclass(frozen=True, slots=True)
class Notification:
    """What a server sent of its own accord: samples, in the order in which they are to be stored.

    `receipt` is the driver's own mark; `Driver.acknowledge` gets it back once the samples are on disk. `bookmarks` are
    stored with the samples, in one transaction (see `Shared.bookmarks`).
    """

    samples: tuple[Sample, ...]
    gaps: tuple[Gap, ...] = ()
    receipt: Any = None
    bookmarks: Mapping[str, Bookmark | None] = field(default_factory=dict)


class Driver(ABC):
    """One open connection to a device. It reads and translates errors; it never reconnects or logs.

    Values are raw: scaling, deadbands and qualities that come from limits are applied to what it returns.
    """

    #: Whether `changes` yields anything; if not, the gateway polls with `read`.
    subscribes: bool = False

    @property
    @abstractmethod
    def address(self) -> str:
        """The device's address as a person would write it, e.g. `192.0.2.10:502`."""

    @property
    def section(self) -> "DeviceSection | None":
        """The device's section as it is at this PLC, where the PLC told more than the config: tags, units, ranges.

        None: the config said it all. The columns of this connection are positions in this section's `tags`.
        """
        return None

    @property
    def held_back(self) -> Mapping[int, float]:
        """How far, by column, a raw value may go before the PLC tells of it; taken off the gateway's own deadband."""
        return {}

    @property
    def details(self) -> Mapping[str, Any]:
        """What a person should see of this connection beside the device's state: JSON values for health."""
        return {}

    def history(self) -> AsyncIterator[Notification]:
        """Give what the PLC itself kept of the time in which nobody was connected, oldest first, until all is told.

        The next is asked for once the last is on disk, beside the live data. Raises DeviceError.
        """
        return _nothing()

    @property
    def farewell(self) -> Mapping[str, Bookmark | None]:
        """The bookmarks to store when the connection is ended because we were asked to stop."""
        return {}

    @abstractmethod
    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Read the tags at these positions of the section's `tags` now.

        A tag that the device refuses is bad in the sample and costs no other tag. Usually gives one sample; more
        where the answers came so far apart that one timestamp would be untrue.
        Raises DeviceError if the device as a whole cannot be read.
        """

    async def poll(self, columns: tuple[int, ...]) -> Notification:
        """Read the tags that are due, for the buffer: `read`, with the bookmarks to be stored with what it gave."""
        return Notification(await self.read(columns))

    def expect(self, at: float) -> None:  # noqa: B027 -- a driver need not care
        """Note when the next read will come (monotonic seconds): what shares the line may use the time until then."""

    @property
    def slowness(self) -> str:
        """What makes reads take longer than their interval, as a sentence for a person; empty if it is not known."""
        return ""

    def changes(self) -> AsyncIterator[Notification]:
        """Give what the server notifies, until the connection ends. Raises DeviceError when it does."""
        raise NotImplementedError

    def acknowledge(self, receipt: Any) -> None:
        """Note that everything of the notification with this receipt is on disk; the server may forget it."""
        raise NotImplementedError


async def _nothing() -> AsyncIterator[Notification]:
    nothing: tuple[Notification, ...] = ()
    for notification in nothing:
        yield notification


class DeviceSection(Section):
    """What every device's config has, whatever its protocol."""

    name: Name
    interval: PositiveDuration = 1.0
    timeout: PositiveDuration = 1.0
    enabled: bool = True
    critical: bool = Field(default=True, description="false: its failure never makes the gateway `failing`")
    labels: dict[str, str] = Field(default_factory=dict)
    topic: str | None = Field(default=None, description="overrides mqtt.topic for this device")
    heartbeat: PositiveDuration = DEFAULT_HEARTBEAT_S
    tags: tuple[Tag, ...] = ()

    @property
    def address(self) -> str:
        """The configured address as a person would write it."""
        raise NotImplementedError

    @property
    def is_insecure(self) -> bool:
        """Whether the config allows a connection without protection where the protocol has one."""
        return False

    @property
    def certificate_files(self) -> dict[str, CertificateFile]:
        """The certificates of ours that this device's connection uses, by the name that health gives them."""
        return {}

    @property
    def private_keys(self) -> tuple[Path, ...]:
        """The files of ours that nobody else may read."""
        return ()

    def prepare(self) -> None:
        """Import what `open` needs: before anything runs, since an import of half a second would hold up the loop."""

    def open(self, shared: Shared) -> AbstractAsyncContextManager[Driver]:
        """Connect. Raises DeviceError on entry if the device cannot be reached or refuses us; leaks nothing then."""
        raise NotImplementedError

    def interval_of(self, tag: Tag) -> float:
        """Seconds between reads of this tag."""
        return tag.interval or self.interval

    def heartbeat_of(self, tag: Tag) -> float:
        """Seconds after which an unchanged value, or a bad quality, is sent again."""
        return tag.heartbeat or self.heartbeat


__all__ = [
    "ALIKE",
    "DEFAULT_HEARTBEAT_S",
    "NOTIFICATIONS_LOST",
    "VALIDATED",
    "Deadband",
    "DeviceSection",
    "Driver",
    "Notification",
    "Percent",
    "Section",
    "Shared",
    "Tag",
]
