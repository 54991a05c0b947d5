"""One device's way from the PLC to the buffer: due tags read at their rate, or notifications followed."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from gateway import garbage
from gateway.buffer import Buffer
from gateway.drivers.base import NOTIFICATIONS_LOST, DeviceSection, Driver, Shared
from gateway.errors import DeviceError
from gateway.model import ALL_TAGS, Batch, Bookmark, Gap, Meta, Sample
from gateway.poller.component import DeviceComponent
from gateway.schedule import Schedule, first_slot
from gateway.shaping import Shaper
from gateway.supervisor import now_ms

HEARTBEAT_LOOKS: Final = 4
"""How often within one heartbeat a device that notifies is looked over for tags that were silent."""
_NONE: Final[Mapping[str, Bookmark | None]] = MappingProxyType({})
INTERNAL_ERROR: Final = "internal-error"
"""The quality of a device's tags when a bug of ours ended the connection."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What to do when tags are others than the config said: `describe` gives their meta, `announce` tells of it."""

    describe: Callable[[DeviceSection], Meta]
    announce: Callable[[Meta], None]


class Poller:
    """Reads one device for as long as its connection lasts. `attempt` is what the supervisor repeats.

    `phase`, from 0 to below 1, tells its polls from those of other devices (`schedule.spread`). `changed` is
    what to do about tags that are others at the PLC (`Driver.section`).
    """

    def __init__(
        self,
        section: DeviceSection,
        meta: Meta,
        shared: Shared,
        buffer: Buffer,
        *,
        clock: Callable[[], bool | None] = lambda: None,
        phase: float = 0.0,
        changed: Changed | None = None,
    ) -> None:
        self.component = DeviceComponent(section)
        self._section = section
        self._meta = meta
        self._shared = shared
        self._buffer = buffer
        self._clock = clock
        self._phase = phase
        self._changed = changed
        self._origin: float | None = None
        self._shaper = Shaper(section)
        self._told: DeviceSection | None = None
        self._held_back: Mapping[int, float] = {}
        self._drops = buffer.drops(section.name)
        self._look = asyncio.Event()
        self.driver: Driver | None = None
        """The open driver; None while there is no connection."""

    async def attempt(self) -> None:
        """Connect and read until the connection ends. Raises DeviceError when it does, or cannot be made."""
        self.component.moved_at = time.monotonic()
        if self._origin is None:
            # All devices are tried first in one instant: from here on their phases count.
            self._origin = asyncio.get_running_loop().time()
        with ExitStack() as ending:
            ending.push(self._tell_end)
            async with self._section.open(self._shared) as driver:
                self.driver = driver
                ending.callback(self._forget)
                ending.push(partial(self._say_farewell, driver))
                self._adopt(driver)
                self.component.connected(driver)
                if not self.component.reconnects:
                    garbage.settle()
                await self._work(driver, self._origin)

    def _forget(self) -> None:
        self.driver = None

    def _say_farewell(self, driver: Driver, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Store what the driver wants known of a connection that did not break: it was closed."""
        if _was_stopped(error) and (farewell := driver.farewell):
            self._append((), 0, (), farewell)

    def _adopt(self, driver: Driver) -> None:
        """Go on with the tags as they are at the PLC; what is stored from here on names the meta that says so."""
        self._told, held_back = driver.section, driver.held_back
        is_new = held_back != self._held_back
        if self._told is not None and self._changed is not None:
            meta = self._changed.describe(self._told)
            if (meta.id, meta.names) != (self._meta.id, self._meta.names):
                is_new = True
                self._changed.announce(meta)
                self._section, self._meta = self._told, meta
                self.component.tags = len(self._told.tags)
        if is_new:
            self._held_back = held_back
            self._shaper = Shaper(self._section, held_back)
        self._shaper.follows = driver.subscribes

    def _keep_up(self) -> None:
        """Adopt what the PLC told of its tags since the connection was made; all is sent again under that meta."""
        if self.driver is not None and self.driver.section is not self._told:
            bad = {name: text for name, text in self._shaper.bad.items() if name != ALL_TAGS}
            self._adopt(self.driver)
            self._shaper.bad.update(bad)
            self._look.set()

    async def _work(self, driver: Driver, origin: float) -> None:
        """Read or follow what the device shows now; beside it, read back what it kept of the time before."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_back(driver), name=f"{self._section.name} history")
                await (self._follow(driver) if driver.subscribes else self._poll(driver, origin))
        except ExceptionGroup as errors:
            first = _telling(errors)
            raise first from first.__cause__

    async def _read_back(self, driver: Driver) -> None:
        """Store what the device kept of the time in which nobody was connected, one piece after the other."""
        async for notification in driver.history():
            self._keep_up()
            past = [self._shaper.past(raw) for raw in notification.samples]
            sampled = sum(raw.readings for raw in notification.samples)
            await self._append(past, sampled, notification.gaps, notification.bookmarks)

    def _tell_end(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        """Tell that the device is silent from now on, whatever ended the connection; unless we were asked to stop."""
        if error is None or _was_stopped(error):
            self._shaper.clear()
        else:
            self._store_bad(error.reason if isinstance(error, DeviceError) else INTERNAL_ERROR)

    async def _poll(self, driver: Driver, origin: float) -> None:
        """Read what is due, at a fixed rate; slots that pass while a read runs are skipped, counted and told."""
        loop = asyncio.get_running_loop()
        section = self._section
        while not section.tags:
            self.component.show(self._shaper.bad)
            await self._pause(loop.time() + section.interval)
        began = loop.time()
        intervals = [section.interval_of(tag) for tag in section.tags]
        schedule = Schedule(intervals, first_slot(began, origin, min(intervals), self._phase))
        while True:
            await self._pause(schedule.next)
            before, began = began, loop.time()
            due = schedule.take(began)
            if due.skipped:
                self._tell_skipped(due.skipped, began - before)
            driver.expect(schedule.next)
            polled = await driver.poll(due.columns)
            self.component.cycle(loop.time() - began, driver)
            self._store(polled.samples, polled.gaps, polled.bookmarks)
            self.component.show(self._shaper.bad)

    async def _pause(self, until: float) -> None:
        self.component.moved_at = until
        await asyncio.sleep(until - asyncio.get_running_loop().time())

    def _tell_skipped(self, count: int, seconds: float) -> None:
        """Tell of cycles that were left out since the poll before, which began so many seconds ago."""
        self.component.skipped_cycles += count
        now = now_ms()
        fields = {"count": count, "from": now - round(seconds * 1000), "to": now}
        self._append((), 0, (Gap(now, "cycles-skipped", fields),))

    async def _follow(self, driver: Driver) -> None:
        """Store what the server notifies, and tell the driver once it is on disk."""
        self.component.show(self._shaper.bad)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._store_changes(driver), name=f"{self._section.name} changes")
            group.create_task(self._read_silent(driver), name=f"{self._section.name} heartbeat")

    async def _store_changes(self, driver: Driver) -> None:
        async for notification in driver.changes():
            if any(gap.reason == NOTIFICATIONS_LOST for gap in notification.gaps):
                # What was lost may have been the last word on a tag: all are read again.
                self._shaper.clear()
                self._look.set()
            on_disk = self._store(notification.samples, notification.gaps, notification.bookmarks)
            on_disk.add_done_callback(partial(_acknowledge, driver, notification.receipt))
            self.component.show(self._shaper.bad)
        raise DeviceError(f"{driver.address} has stopped notifying.", reason="connection-lost")

    async def _read_silent(self, driver: Driver) -> None:
        """Read, at heartbeats and after a loss, the tags that were not sent: their silence is told from a lost one."""
        loop = asyncio.get_running_loop()
        while True:
            self.component.moved_at = loop.time() + self._shaper.heartbeat / HEARTBEAT_LOOKS
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self.component.moved_at):
                    await self._look.wait()
            self._look.clear()
            self._notice_drops()
            if silent := self._shaper.stale(loop.time()):
                polled = await driver.poll(silent)
                self._store(polled.samples, polled.gaps, polled.bookmarks)
                self.component.show(self._shaper.bad)

    def _store(
        self, samples: Sequence[Sample], gaps: tuple[Gap, ...] = (), bookmarks: Mapping[str, Bookmark | None] = _NONE
    ) -> asyncio.Future[bool]:
        self._keep_up()
        self._notice_drops()
        now = asyncio.get_running_loop().time()
        shaped = [sample for raw in samples if (sample := self._shaper.shape(raw, now)) is not None]
        if good := [sample for sample in samples if sample.columns]:
            self.component.last_good_ms = good[-1].rx or good[-1].ts
        return self._append(shaped, sum(raw.readings for raw in samples), gaps, bookmarks)

    def _store_bad(self, reason: str) -> None:
        self._notice_drops()
        self.component.lost()
        sample = self._shaper.all_bad(now_ms(), reason, asyncio.get_running_loop().time())
        if sample is not None:
            self._append((sample,), sample.readings)

    def _notice_drops(self) -> None:
        """What was dropped is not known to the consumer: everything is sent again."""
        drops = self._buffer.drops(self._section.name)
        if drops != self._drops:
            self._drops = drops
            self._shaper.clear()
            self._look.set()

    def _append(
        self,
        samples: Iterable[Sample],
        sampled: int,
        gaps: tuple[Gap, ...] = (),
        bookmarks: Mapping[str, Bookmark | None] = _NONE,
    ) -> asyncio.Future[bool]:
        marked = tuple(map(self._mark, samples))
        sent = sum(sample.readings for sample in marked)
        return self._buffer.append(Batch(self._meta, marked, sampled, sampled - sent, gaps, bookmarks=bookmarks))

    def _mark(self, sample: Sample) -> Sample:
        """Mark a stamp that our own clock gave before it was right."""
        if sample.rx is not None or self._clock() is not False:
            return sample
        return sample._replace(clock="unsynced")


def _was_stopped(error: BaseException | None) -> bool:
    """Whether a connection ended because we were asked to stop."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def _acknowledge(driver: Driver, receipt: Any, on_disk: asyncio.Future[bool]) -> None:
    if not on_disk.cancelled() and on_disk.result():
        driver.acknowledge(receipt)


def _telling(group: ExceptionGroup[Exception]) -> Exception:
    """Give the exception that ended the connection: a bug before what came of it."""
    errors: list[Exception] = []
    for each in group.exceptions:
        errors += each.exceptions if isinstance(each, ExceptionGroup) else [each]
    return next((error for error in errors if not isinstance(error, DeviceError)), errors[0])
