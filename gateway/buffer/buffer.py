"""The buffer as the gateway's tasks use it: batches in, rows out, acknowledgements back, commits in groups."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from gateway.buffer import bookmarks, kept
from gateway.buffer.dead_letters import Letter
from gateway.buffer.inspection import Inspection
from gateway.buffer.kept import Resent
from gateway.buffer.salvage import Salvage
from gateway.buffer.status import BufferStatus, Growth
from gateway.buffer.store import Store
from gateway.buffer.stored import Stored
from gateway.buffer.tables import Level, Limits
from gateway.buffer.waiting import Waiting
from gateway.buffer.writer import Writer, outlast
from gateway.errors import StorageError, told
from gateway.model import Batch, Bookmark, Gap, Ledger
from gateway.supervisor import now_ms

log = logging.getLogger(__name__)
Result = TypeVar("Result")

RETRY_S: Final = 1.0


class Buffer:
    """The open buffer. `run` must run for as long as anything is appended or acknowledged."""

    def __init__(self, writer: Writer, limits: Limits, commit_interval: float) -> None:
        self.error: StorageError | None = None
        self.listeners: list[Callable[[], None]] = []
        self._writer = writer
        self._limits = limits
        self._interval = commit_interval
        self._level = Level()
        self._waiting = Waiting()
        self._acked: list[tuple[Collection[int], asyncio.Future[None]]] = []
        self._work = asyncio.Event()
        self._soon = asyncio.Event()
        self._committed = asyncio.Condition()
        self._growth = Growth()
        self._salvage = Salvage(writer, self._committed, self._note_past)
        self.past = 0
        """How often rows from before came in: `take` gives them first."""
        self._bookmarks: dict[str, dict[str, Bookmark]] = {}

    @property
    def epoch(self) -> str:
        """The epoch in which new samples are numbered."""
        return self._writer.store.epoch

    @property
    def last_id(self) -> int:
        """Id of the newest row on disk."""
        return self._writer.store.last_id

    @property
    def topics(self) -> Mapping[str, str]:
        """Every topic that data was ever stored for, and its device; to be retired once the device is gone."""
        return dict(self._writer.store.tables.topics)

    @property
    def ledgers(self) -> Mapping[str, Ledger]:
        """The ledger of each device, since the epoch began, as of the last commit."""
        return self._writer.store.ledgers()

    @property
    def answers(self) -> bool:
        """Whether the thread that owns the file did what it was last asked to, or was asked a short while ago."""
        return self._writer.answers

    def drops(self, device: str) -> int:
        """Count how often something of this device was dropped or set aside."""
        return self._writer.drops[device]

    def bookmarks(self, device: str) -> Mapping[str, Bookmark]:
        """Give a device's bookmarks: the last that were appended, or those that were on disk at the start."""
        return self._bookmarks.get(device, {})

    def time_off(self, device: str, now: int) -> Gap | None:
        """Tell, of a device that this buffer knew when it was opened, how long nobody was there to read it."""
        store = self._writer.store
        if device not in store.tables.stream_ids or store.stopped_ms is None:
            return None
        # A clock that is behind the last commit cannot say until when.
        until = now if now >= store.stopped_ms else None
        return Gap(now, "gateway-stopped", {"from": store.stopped_ms, "to": until})

    def append(self, batch: Batch) -> asyncio.Future[bool]:
        """Give a batch to the next commit; the future tells, once that is done, whether it is on disk.

        Never waits and never fails: while the disk does not take anything, batches wait in memory, bounded, and
        what exceeds the bound is dropped with a gap record.
        """
        on_disk = self._waiting.add(batch)
        if batch.bookmarks:
            bookmarks.note(self._bookmarks.setdefault(batch.meta.device, {}), batch.bookmarks)
        self._waiting.shed(failing=self.error is not None)
        self._work.set()
        return on_disk

    async def take(
        self, after: int, upto: int | None = None, *, readings: int = 5000, skip_topics: Collection[str] = ()
    ) -> list[Stored]:
        """Give rows with id > `after` (and <= `upto`) that are not in flight, ascending, and hold them as in flight.

        At least one if there is any, and about `readings` readings at most. Raises StorageError.
        """
        held_back = frozenset(skip_topics)
        rows = await self._writer.run(
            lambda store: store.take(after, upto, readings=readings, skip_topics=held_back),
            undo=lambda rows: self.release(row.id for row in rows),
        )
        if self._writer.store.condemned:
            self._work.set()
        return rows

    def release(self, ids: Iterable[int]) -> None:
        """Let `take` give these rows again: they were not delivered."""
        rows = list(ids)
        self._writer.start(lambda store: store.release(rows))

    def set_aside(self, row: int, letters: Sequence[Letter]) -> None:
        """Let the next commit take a row out that the broker has, but for these letters, which it never takes."""
        self._writer.start(lambda store: store.set_aside(row, letters))
        self._work.set()

    async def acknowledge(self, ids: Collection[int], *, soon: bool = False) -> None:
        """Delete rows that the broker has; returns when that is on disk.

        The deletion rides on the next group commit; `soon` asks for one at once.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._acked.append((ids, done))
        self._work.set()
        if soon:
            self._soon.set()
        await done

    async def flush(self) -> None:
        """Commit what waits, now; returns when it is on disk."""
        await self.acknowledge((), soon=True)

    async def wait(self, after: int) -> None:
        """Return when a row with id > `after` is on disk."""
        async with self._committed:
            await self._committed.wait_for(lambda: self.last_id > after)

    async def retire_topic(self, topic: str) -> None:
        """Forget a topic whose device is gone and whose retained messages were cleared. Raises StorageError."""
        await self._writer.run(lambda store: store.retire_topic(topic))

    async def inspect(self, work: Callable[[Inspection], Result]) -> Result:
        """Look into the file, between two commits. Raises StorageError."""
        return await self._writer.run(lambda store: work(Inspection(store.connection, store.path)))

    async def resend(self, device: str, from_ms: int, to_ms: int) -> Resent:
        """Let what is kept of a device, and lies between two instants, wait again under its old names.

        Raises StorageError.
        """
        upto = await self._writer.run(kept.newest)
        span, done = kept.Span(device, from_ms, to_ms, upto), Resent(0, 0, 0)
        while done.after is not None:
            step = await self._writer.run(lambda store: kept.resend_some(store, span, done, now_ms()))  # noqa: B023
            done = step
            await self._note_past()
        return done

    async def wait_for_past(self, seen: int) -> None:
        """Return when rows from before came in more often than `seen` times."""
        async with self._committed:
            await self._committed.wait_for(lambda: self.past > seen)

    async def _note_past(self) -> None:
        self.past += 1
        async with self._committed:
            self._committed.notify_all()

    async def run(self) -> None:
        """Commit, and take over what was set aside, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_commits(), name="buffer: commits")
            group.create_task(self._salvage.run(), name="buffer: salvage")

    async def _run_commits(self) -> None:
        """Commit in groups. A disk that fails is tried again each second; nothing is forgotten."""
        while True:
            await self._work.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._soon.wait()
            try:
                await self._commit()
            except StorageError as error:
                self._fail(error)
                await asyncio.sleep(RETRY_S)

    async def _commit(self) -> None:
        """Store, count and delete what waits; whoever waits for it learns of it. Raises StorageError.

        A cancellation takes effect when the thread is done, and all that it did is noted: what is on disk is never
        stored again, and what is not is kept.
        """
        self._work.clear()
        self._soon.clear()
        waiting, self._waiting = self._waiting, Waiting()
        acked, self._acked = self._acked, []
        batches, rows = waiting.batches, [row for ids, _ in acked for row in ids]
        writing = self._writer.start(lambda store: store.commit(batches, rows, now_ms()))
        try:
            await outlast(writing)
        finally:
            if writing.exception() is None:
                self._writer.drops.update(writing.result())
                self._settle(waiting, acked)
            else:
                self._waiting.put_back(waiting)
                self._acked[:0] = acked
                self._work.set()
        await self._after_commit()

    def _settle(self, waiting: Waiting, acked: Iterable[tuple[Collection[int], asyncio.Future[None]]]) -> None:
        waiting.settle(on_disk=True)
        for _, done in acked:
            if not done.done():
                done.set_result(None)
        if self.error is not None:
            log.info("buffer: the disk takes data again")
            self.error = None
            self._tell()

    async def _after_commit(self) -> None:
        async with self._committed:
            self._committed.notify_all()
        # What cannot be measured is not a commit that failed: the batches are on disk.
        with contextlib.suppress(StorageError):
            self._level = await self._writer.run(Store.level)
            self._growth.note(self._level.bytes - self._level.kept_bytes)

    def _fail(self, error: StorageError) -> None:
        if self.error is None or str(self.error) != str(error):
            log.error("buffer: %s", told(str(error), error.do))
        self.error = error
        self._waiting.shed(failing=True)
        self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()

    async def open(self) -> None:
        """Open the file. Raises StorageError."""
        await self._writer.open()
        self._level = await self._writer.run(Store.level)
        self._bookmarks = self._writer.store.bookmarks

    async def close(self) -> None:
        """Write what waits, and close the file."""
        try:
            await self._commit()
        except StorageError as error:
            log.error("buffer: what came last could not be written: %s", error)
            self._waiting.settle(on_disk=False)
        with contextlib.suppress(StorageError):
            await self._writer.run(Store.close)

    @property
    def status(self) -> BufferStatus:
        """What health shows."""
        level = self._level
        return BufferStatus(
            pending_samples=level.samples,
            pending_readings=level.readings,
            bytes=level.bytes,
            max_bytes=self._limits.max_bytes,
            disk_free_bytes=level.disk_free_bytes,
            oldest_age_s=level.oldest_age_s,
            full_in_s=self._growth.full_in_s(self._limits.max_bytes),
            dropped_readings=level.dropped,
            writable=self.error is None,
            error=None if self.error is None else str(self.error),
            kept_bytes=level.kept_bytes,
            salvaging=self._salvage.busy,
            left_aside=self._salvage.left,
            unlawful=self._writer.store.unlawful,
        )
