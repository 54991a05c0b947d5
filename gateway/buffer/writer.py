"""The buffer as the gateway's tasks use it: one thread owns the one SQLite connection and commits in groups."""

import asyncio
import contextlib
import errno
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.buffer import schema
from gateway.buffer.store import Store, is_damage
from gateway.buffer.stored import Stored
from gateway.buffer.tables import Level, Limits
from gateway.buffer.waiting import Waiting
from gateway.errors import StorageError
from gateway.model import Batch, Gap, Ledger
from gateway.supervisor import now_ms

log = logging.getLogger(__name__)
Result = TypeVar("Result")

RETRY_S: Final = 1.0
STUCK_S: Final = 60.0
"""A disk that does not answer for so long does not come back by waiting."""


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """What health shows of the buffer."""

    pending_samples: int
    pending_readings: int
    bytes: int
    max_bytes: int
    disk_free_bytes: int
    oldest_age_s: float
    full_in_s: float | None
    dropped_readings: int
    writable: bool
    error: str | None


class Buffer:
    """The open buffer. `run` must run for as long as anything is appended or acknowledged."""

    def __init__(self, path: Path, limits: Limits, commit_interval: float, machine_id: str | None) -> None:
        self.error: StorageError | None = None
        self._path = path
        self._limits = limits
        self._interval = commit_interval
        self._machine_id = machine_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="buffer")
        self._store: Store
        self._level = Level()
        self._waiting = Waiting()
        self._acked: list[tuple[Collection[int], asyncio.Future[None]]] = []
        self._running: dict[asyncio.Future[Any], float] = {}
        self._work = asyncio.Event()
        self._soon = asyncio.Event()
        self._committed = asyncio.Condition()
        self._drops: dict[str, int] = {}
        self._growth: deque[tuple[float, int]] = deque(maxlen=120)

    async def _open(self) -> None:
        self._store = await self._in_thread(lambda: Store.open(self._path, self._limits, self._machine_id))
        if self._store.identity.why is not None:
            log.warning("buffer: %s; epoch %s begins", self._store.identity.why, self._store.epoch)
        self._level = await self._in_thread(self._store.level)

    async def _close(self) -> None:
        try:
            await self._commit()
        except StorageError as error:
            log.error("buffer: what came last could not be written: %s", error)
        with contextlib.suppress(StorageError):
            await self._in_thread(self._store.close)

    @property
    def epoch(self) -> str:
        """The epoch in which new samples are numbered."""
        return self._store.epoch

    @property
    def last_id(self) -> int:
        """Id of the newest row on disk."""
        return self._store.last_id

    @property
    def topics(self) -> Mapping[str, str]:
        """Every topic that data was ever stored for, and its device; to be retired once the device is gone."""
        return dict(self._store.topics)

    @property
    def ledgers(self) -> Mapping[str, Ledger]:
        """The ledger of each device, since the epoch began, as of the last commit."""
        return self._store.ledgers()

    @property
    def answers(self) -> bool:
        """Whether the thread that owns the file did what it was last asked to, or was asked a short while ago."""
        horizon = time.monotonic() - STUCK_S
        return all(since > horizon for since in self._running.values())

    def drops(self, device: str) -> int:
        """Count the commits in which something of this device was dropped."""
        return self._drops.get(device, 0)

    def time_off(self, device: str, now: int) -> Gap | None:
        """Tell, of a device that this buffer knows, how long nobody was there to read it."""
        if device not in self._store.stream_ids or self._store.last_commit_ms is None:
            return None
        return Gap(now, "gateway-stopped", {"from": self._store.last_commit_ms, "to": now})

    def append(self, batch: Batch) -> asyncio.Future[bool]:
        """Give a batch to the next commit; the future tells, once that is done, whether it is on disk.

        Never waits and never fails: while the disk does not take anything, batches wait in memory, bounded, and
        what exceeds the bound is dropped with a gap record.
        """
        on_disk = self._waiting.add(batch)
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
        rows = await self._in_thread(
            lambda: self._store.take(after, upto, readings=readings, skip_topics=held_back),
            undo=lambda rows: self.release(row.id for row in rows),
        )
        if self._store.corrupt:
            self._work.set()
        return rows

    def release(self, ids: Iterable[int]) -> None:
        """Let `take` give these rows again: they were not delivered."""
        rows = list(ids)
        self._thread.submit(lambda: self._store.release(rows))

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
        """Forget a topic whose device is gone and whose retained messages were cleared."""
        await self._in_thread(lambda: self._store.retire_topic(topic))

    async def run(self) -> None:
        """Commit in groups until cancelled. A disk that fails is tried again each second; nothing is forgotten."""
        while True:
            await self._work.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._soon.wait(), self._interval)
            try:
                await self._commit()
            except StorageError as error:
                self._fail(error)
                await asyncio.sleep(RETRY_S)

    async def _commit(self) -> None:
        self._work.clear()
        self._soon.clear()
        waiting, self._waiting = self._waiting, Waiting()
        acked, self._acked = self._acked, []
        batches, rows = waiting.batches, [row for ids, _ in acked for row in ids]
        writing = self._submit(lambda: (self._store.commit(batches, rows, now_ms()), self._store.level()))
        cancelled = await _outlast(writing)
        try:
            dropped, self._level = writing.result()
        except StorageError:
            self._waiting.put_back(waiting)
            self._acked[:0] = acked
            self._work.set()
            raise
        waiting.settle()
        for _, done in acked:
            if not done.done():
                done.set_result(None)
        await self._after_commit(dropped)
        if cancelled:
            raise asyncio.CancelledError

    async def _after_commit(self, dropped: frozenset[str]) -> None:
        for device in dropped:
            self._drops[device] = self._drops.get(device, 0) + 1
        self._growth.append((time.monotonic(), self._level.bytes))
        if self.error is not None:
            log.info("buffer: the disk takes data again")
            self.error = None
        async with self._committed:
            self._committed.notify_all()

    def _fail(self, error: StorageError) -> None:
        if self.error is None or str(self.error) != str(error):
            log.error("buffer: %s %s", error, error.do)
        self.error = error
        self._waiting.shed(failing=True)

    async def _in_thread(self, work: Callable[[], Result], undo: Callable[[Result], None] | None = None) -> Result:
        """Run in the buffer's thread. What the thread has begun it ends; `undo` takes it back if nobody waits."""
        running = self._submit(work)
        if await _outlast(running):
            if undo is not None and running.exception() is None:
                undo(running.result())
            raise asyncio.CancelledError
        return running.result()

    def _submit(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._guarded, work)
        self._running[running] = time.monotonic()
        running.add_done_callback(self._running.pop)
        return running

    def _guarded(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            if is_damage(error):
                self._begin_anew(error)
            raise _storage_error(self._path, error) from error

    def _begin_anew(self, error: Exception) -> None:
        """A file that proves damaged while it is used is set aside, and a new one takes its place at once."""
        damaged = self._store
        with contextlib.suppress(sqlite3.Error):
            damaged.connection.close()
        aside = schema.set_aside(self._path)
        self._store = Store.open(self._path, self._limits, self._machine_id)
        # Ids go on from where they were: the publisher's place in the queue is one of them.
        self._store.tables.next_row = damaged.tables.next_row
        log.error(
            "buffer: %s is damaged (%s), it was set aside as %s; epoch %s begins",
            self._path,
            error,
            aside.name,
            self._store.epoch,
        )

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
            full_in_s=self._full_in_s(),
            dropped_readings=level.dropped,
            writable=self.error is None,
            error=None if self.error is None else str(self.error),
        )

    def _full_in_s(self) -> float | None:
        """Extrapolate the growth of the last commits; None while the buffer does not grow."""
        if len(self._growth) < 2:
            return None
        (start, low), (end, high) = self._growth[0], self._growth[-1]
        if high <= low or end <= start:
            return None
        return (self._limits.max_bytes - high) * (end - start) / (high - low)


@asynccontextmanager
async def open_buffer(
    path: Path, limits: Limits, commit_interval: float, machine_id: str | None = None
) -> AsyncIterator[Buffer]:
    """Open the buffer for this process alone; flush and close it on the way out.

    Raises StorageError if another process has it, or the disk cannot be used.
    """
    descriptor = schema.lock(path)
    buffer = Buffer(path, limits, commit_interval, machine_id)
    try:
        await buffer._open()
        try:
            yield buffer
        finally:
            await buffer._close()
    finally:
        buffer._thread.shutdown(wait=True)
        os.close(descriptor)


def read_machine_id(root: Path = Path("/")) -> str | None:
    """Give this machine's id (machine-id(5)), or None where there is none."""
    try:
        return (root / "etc/machine-id").read_text().strip() or None
    except OSError:
        return None


async def _outlast(future: asyncio.Future[Result]) -> bool:
    """Wait until the future is done, even through a cancellation; True if there was one."""
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


def _storage_error(path: Path, error: Exception) -> StorageError:
    full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(error, "errno", None) == errno.ENOSPC
    if full:
        return StorageError(f"{path}: the disk is full", do="Free some space; the buffer goes on by itself.")
    return StorageError(f"{path}: {error}", do="Check the disk and the rights of its folder.")
