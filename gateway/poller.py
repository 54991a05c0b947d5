"""One device's way from the PLC to the buffer: due tags read at their rate, or notifications followed."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from gateway.buffer import Buffer
from gateway.drivers.base import DeviceSection, Driver, Shared
from gateway.errors import DeviceError
from gateway.model import ALL_TAGS, Batch, DeviceState, Gap, Meta, Sample
from gateway.schedule import Schedule
from gateway.shaping import Shaper
from gateway.supervisor import Component, now_ms

_WELL: Final = frozenset({DeviceState.OK, DeviceState.DEGRADED})
_CYCLES: Final = 100
_NAMED_TAGS: Final = 3
HEARTBEAT_LOOKS: Final = 4
"""How often within one heartbeat a device that notifies is looked over for tags that were silent."""


class DeviceComponent(Component[DeviceState]):
    """A device as health, metrics and the state topic see it. Times are seconds, unless the name ends in `_ms`."""

    def __init__(self, section: DeviceSection) -> None:
        super().__init__(section.name, DeviceState.CONNECTING, well=_WELL)
        self.protocol: str = getattr(section, "protocol", "")
        self.address = section.address
        self.critical = section.critical
        self.tags = len(section.tags)
        self.bad_tags = 0
        self.bad_names: Sequence[str] = ()
        self.interval_s = section.interval
        self.last_good_ms: int | None = None
        self.skipped_cycles = 0
        self.reconnects = -1  # the first connection is none
        self.moved_at = time.monotonic()
        self._cycles: deque[float] = deque(maxlen=_CYCLES)
        self._slow_at = min([section.interval_of(tag) for tag in section.tags], default=section.interval)

    @property
    def cycle_last_s(self) -> float | None:
        """How long the last poll took; None before the first, and for a device that notifies."""
        return self._cycles[-1] if self._cycles else None

    @property
    def cycle_p95_s(self) -> float | None:
        """How long 95 of 100 recent polls took at most."""
        return sorted(self._cycles)[int(len(self._cycles) * 0.95)] if self._cycles else None

    def connected(self) -> None:
        """Note a new connection."""
        self.reconnects += 1
        self._cycles.clear()

    def cycle(self, seconds: float, skipped: int) -> None:
        """Note how long a poll took, and how many before it were left out."""
        self._cycles.append(seconds)
        self.skipped_cycles += skipped

    def show(self, bad: dict[str, str]) -> None:
        """Take the state that the tags' qualities and the cycles tell of."""
        self.moved_at = time.monotonic()
        self.bad_names = tuple(bad)[:_NAMED_TAGS]
        self.bad_tags = self.tags if ALL_TAGS in bad else len(bad)
        if bad:
            named = ", ".join(f"{name} ({bad[name]})" for name in self.bad_names)
            more = "" if len(bad) <= _NAMED_TAGS else f" and {len(bad) - _NAMED_TAGS} more"
            text = f"{self.bad_tags} of {self.tags} tags are not good: {named}{more}"
            self.become(DeviceState.DEGRADED, text, "Check the tags' addresses and the PLC's program.")
        elif self._cycles and self._cycles[-1] > self._slow_at:
            text = f"a poll takes {self._cycles[-1]:.2f} s, longer than the interval of {self._slow_at:g} s"
            self.become(DeviceState.DEGRADED, text, "Raise the interval, or poll fewer tags.")
        else:
            self.become(DeviceState.OK)


class Poller:
    """Reads one device for as long as its connection lasts. `attempt` is what the supervisor repeats."""

    def __init__(
        self,
        section: DeviceSection,
        meta: Meta,
        shared: Shared,
        buffer: Buffer,
        *,
        clock: Callable[[], bool | None] = lambda: None,
    ) -> None:
        self.component = DeviceComponent(section)
        self._section = section
        self._meta = meta
        self._shared = shared
        self._buffer = buffer
        self._clock = clock
        self._shaper = Shaper(section)
        self._drops = buffer.drops(section.name)

    async def attempt(self) -> None:
        """Connect and read until the connection ends. Raises DeviceError when it does, or cannot be made."""
        self.component.moved_at = time.monotonic()
        try:
            async with self._section.open(self._shared) as driver:
                self.component.connected()
                self._shaper.clear()
                self._shaper.follows = driver.subscribes
                await (self._follow(driver) if driver.subscribes else self._poll(driver))
        except DeviceError as error:
            self._store_bad(error.reason)
            raise

    async def _poll(self, driver: Driver) -> None:
        """Read what is due, at a fixed rate; slots that pass while a read runs are skipped, counted and told."""
        loop = asyncio.get_running_loop()
        section = self._section
        schedule = Schedule([section.interval_of(tag) for tag in section.tags], loop.time())
        while True:
            await asyncio.sleep(schedule.next - loop.time())
            began = loop.time()
            due = schedule.take(began)
            samples = await driver.read(due.columns)
            self.component.cycle(loop.time() - began, due.skipped)
            self._store(samples, self._skipped(due.skipped))
            self.component.show(self._shaper.bad)

    def _skipped(self, count: int) -> tuple[Gap, ...]:
        if not count:
            return ()
        now = now_ms()
        span = int(count * self._section.interval * 1000)
        return (Gap(now, "cycles-skipped", {"count": count, "from": now - span, "to": now}),)

    async def _follow(self, driver: Driver) -> None:
        """Store what the server notifies, and tell the driver once it is on disk."""
        self.component.show(self._shaper.bad)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._store_changes(driver), name=f"{self._section.name} changes")
                group.create_task(self._read_silent(driver), name=f"{self._section.name} heartbeat")
        except* DeviceError as errors:
            raise _first(errors) from errors

    async def _store_changes(self, driver: Driver) -> None:
        async for notification in driver.changes():
            on_disk = self._store(notification.samples, notification.gaps)
            receipt = notification.receipt
            on_disk.add_done_callback(lambda _, receipt=receipt: driver.acknowledge(receipt))  # type: ignore[misc]
            self.component.show(self._shaper.bad)

    async def _read_silent(self, driver: Driver) -> None:
        """Read, at heartbeats, the tags that did not change: their silence is told from a lost one."""
        loop = asyncio.get_running_loop()
        section = self._section
        heartbeat = min((section.heartbeat_of(tag) for tag in section.tags), default=section.heartbeat)
        while True:
            await asyncio.sleep(heartbeat / HEARTBEAT_LOOKS)
            if silent := self._shaper.stale(loop.time()):
                self._store(await driver.read(silent))
            self.component.moved_at = time.monotonic()

    def _store(self, samples: Sequence[Sample], gaps: tuple[Gap, ...] = ()) -> asyncio.Future[bool]:
        if (drops := self._buffer.drops(self._section.name)) != self._drops:
            self._drops = drops
            self._shaper.clear()
        now = asyncio.get_running_loop().time()
        shaped = [sample for raw in samples if (sample := self._shaper.shape(raw, now)) is not None]
        if any(sample.columns for sample in samples):
            self.component.last_good_ms = samples[-1].rx or samples[-1].ts
        return self._append(shaped, sum(raw.readings for raw in samples), gaps)

    def _store_bad(self, reason: str) -> None:
        sample = self._shaper.all_bad(now_ms(), reason, asyncio.get_running_loop().time())
        self.component.bad_tags = self.component.tags
        self.component.moved_at = time.monotonic()
        if sample is not None:
            self._append([sample], sample.readings)

    def _append(self, samples: Iterable[Sample], sampled: int, gaps: tuple[Gap, ...] = ()) -> asyncio.Future[bool]:
        marked = tuple(map(self._mark, samples))
        sent = sum(sample.readings for sample in marked)
        return self._buffer.append(Batch(self._meta, marked, sampled, sampled - sent, gaps))

    def _mark(self, sample: Sample) -> Sample:
        """Mark a stamp that our own clock gave before it was right."""
        if sample.rx is not None or self._clock() is not False:
            return sample
        return replace(sample, clock="unsynced")


def _first(errors: BaseExceptionGroup[DeviceError]) -> DeviceError:
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
