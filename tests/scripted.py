"""A scripted device at the seam between gateway and protocols: the test is the PLC, and answers read by read."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal

from pydantic import PrivateAttr

from gateway.drivers.base import DeviceSection, Driver, Notification, Shared, Tag
from gateway.model import Meta, Sample

PATIENCE_S = 30.0
"""What a test waits at most for something that has to happen."""


class ScriptedTag(Tag):
    """A tag of a PLC that is not there."""

    type: str | None = "int32"
    count: int | None = None

    @property
    def source(self) -> str:
        """A place in the script."""
        return f"script:{self.name}"

    @property
    def value_type(self) -> str | None:
        """As written."""
        return self.type

    @property
    def code(self) -> str:
        """The type shows with each value."""
        return "*"


@dataclass(frozen=True)
class Read:
    """A read that the gateway has begun, when, and for which tags; it goes on once the test has answered it."""

    columns: tuple[int, ...]
    began: float
    answered: "asyncio.Future[tuple[Sample, ...]]"

    def give(self, *values: Any, ts: int = 1000) -> None:
        """Answer with a good value for each tag."""
        self.give_samples(Sample.good(ts, self.columns, values))

    def give_samples(self, *samples: Sample) -> None:
        """Answer with these samples."""
        self.answered.set_result(samples)

    def fail(self, error: BaseException) -> None:
        """Let the read raise."""
        self.answered.set_exception(error)

    def cancel(self) -> None:
        """Cancel what the read waits for, as a library does to its futures when it loses a connection."""
        self.answered.cancel()


@dataclass
class Plc:
    """The PLC behind a scripted section: what the gateway asks of it shows here, and what it answers is put here."""

    subscribes: bool = False
    reads: "asyncio.Queue[Read]" = field(default_factory=asyncio.Queue)
    sent: "asyncio.Queue[Notification | Exception | None]" = field(default_factory=asyncio.Queue)
    taken: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    acknowledged: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    answers: Callable[[tuple[int, ...]], tuple[Sample, ...]] | None = None
    refusals: list[Exception] = field(default_factory=list)
    slowness: str = ""
    held_back: dict[int, float] = field(default_factory=dict)
    completed: "ScriptedSection | None" = None
    kept: "list[Notification]" = field(default_factory=list)
    farewell: dict[str, Any] = field(default_factory=dict)
    expected: list[float] = field(default_factory=list)
    openings: int = 0
    closings: int = 0

    async def next_read(self) -> Read:
        """Wait for the gateway to read."""
        return await asyncio.wait_for(self.reads.get(), PATIENCE_S)

    def notify(self, *samples: Sample, receipt: Any = None) -> None:
        """Send a notification."""
        self.sent.put_nowait(Notification(samples, receipt=receipt))

    async def next_taken(self) -> Any:
        """Wait for the gateway to have dealt with a notification, and give its receipt."""
        return await asyncio.wait_for(self.taken.get(), PATIENCE_S)

    async def next_receipt(self) -> Any:
        """Wait for the gateway to acknowledge a notification."""
        return await asyncio.wait_for(self.acknowledged.get(), PATIENCE_S)


class ScriptedSection(DeviceSection):
    """The config of a PLC that is not there."""

    protocol: Literal["scripted"] = "scripted"
    tags: tuple[ScriptedTag, ...] = ()
    _plc: Plc = PrivateAttr(default_factory=Plc)

    @property
    def plc(self) -> Plc:
        """The PLC that `open` connects to."""
        return self._plc

    @property
    def address(self) -> str:
        """An address that nobody has."""
        return "192.0.2.1:4711"

    @asynccontextmanager
    async def open(self, shared: Shared) -> AsyncIterator[Driver]:
        """Connect to the script."""
        self._plc.openings += 1
        if self._plc.refusals:
            raise self._plc.refusals.pop(0)
        try:
            yield ScriptedDriver(self, self._plc)
        finally:
            self._plc.closings += 1


class ScriptedDriver(Driver):
    """An open connection to the script."""

    def __init__(self, section: ScriptedSection, plc: Plc) -> None:
        self.subscribes = plc.subscribes
        self._address = section.address
        self._plc = plc

    @property
    def address(self) -> str:
        """The section's."""
        return self._address

    @property
    def section(self) -> ScriptedSection | None:
        """What the test says that the PLC told."""
        return self._plc.completed

    @property
    def held_back(self) -> dict[int, float]:
        """What the test says that the PLC may keep to itself."""
        return self._plc.held_back

    async def history(self) -> AsyncIterator[Notification]:
        """Give what the test says that the PLC kept."""
        for notification in self._plc.kept:
            yield notification

    @property
    def farewell(self) -> dict[str, Any]:
        """As the test says."""
        return self._plc.farewell

    @property
    def slowness(self) -> str:
        """As the test says."""
        return self._plc.slowness

    def expect(self, at: float) -> None:
        """Show the test when the next read is announced for."""
        self._plc.expected.append(at)

    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Ask the test, or whatever answers in its stead."""
        if self._plc.answers is not None:
            await asyncio.sleep(0)
            return self._plc.answers(columns)
        loop = asyncio.get_running_loop()
        read = Read(columns, loop.time(), loop.create_future())
        self._plc.reads.put_nowait(read)
        return await read.answered

    async def changes(self) -> AsyncIterator[Notification]:
        """Give what the test sends; None ends it."""
        while (sent := await self._plc.sent.get()) is not None:
            if isinstance(sent, Exception):
                raise sent
            yield sent
            self._plc.taken.put_nowait(sent.receipt)

    def acknowledge(self, receipt: Any) -> None:
        """Hand the receipt back to the test."""
        self._plc.acknowledged.put_nowait(receipt)


def scripted_tag(name: str = "level", **keys: Any) -> ScriptedTag:
    """Make a tag from keys as a config has them; durations are given in seconds."""
    return ScriptedTag.model_validate({"name": name, **_as_written(keys)})


def scripted(name: str = "press-1", tags: Iterable[str | ScriptedTag] = ("level",), **keys: Any) -> ScriptedSection:
    """Make the section of a scripted device; durations are given in seconds, a tag by its name if that is all."""
    made = tuple(tag if isinstance(tag, ScriptedTag) else scripted_tag(tag) for tag in tags)
    return ScriptedSection(name=name, tags=made, **_as_written(keys))


def _as_written(keys: dict[str, Any]) -> dict[str, Any]:
    durations = {key: f"{keys[key]:f}s" for key in ("interval", "heartbeat", "timeout") if key in keys}
    numbers = {key: Decimal(str(value)) for key, value in keys.items() if isinstance(value, float)}
    return keys | numbers | durations


def meta_of(section: ScriptedSection) -> Meta:
    """Make the meta under which a scripted device's samples are stored."""
    names = tuple(tag.name for tag in section.tags)
    return Meta(f"meta-{section.name}", section.name, f"plant/{section.name}", names, ("*",) * len(names))
