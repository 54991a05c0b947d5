"""The buffer's thread: it owns the one SQLite connection, and replaces a file that proves damaged."""

import asyncio
import contextlib
import errno
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.buffer import folder, schema
from gateway.buffer.opening import open_store
from gateway.buffer.store import Store
from gateway.buffer.tables import Limits
from gateway.errors import StorageError

log = logging.getLogger(__name__)
Result = TypeVar("Result")

STUCK_S: Final = 60.0
"""What a disk may take for one piece of work before nobody believes any more that it will answer."""


class Writer:
    """A thread with a Store: work is done in the order in which it is given, one piece at a time.

    What SQLite and the disk raise comes out as StorageError. `drops` counts, by device, how often something of it
    was dropped or set aside.
    """

    store: Store

    def __init__(self, path: Path, limits: Limits, machine_id: str | None) -> None:
        self.drops: Counter[str] = Counter()
        self.path = path
        self._limits = limits
        self.machine_id = machine_id
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="buffer")
        self._running: dict[asyncio.Future[Any], float] = {}
        self._damage: Exception | None = None
        self._target: Path | None = None
        self._aside: Path | None = None

    async def open(self) -> None:
        """Open the file. Raises StorageError."""
        await outlast(self._submit(self._open))

    def close(self) -> None:
        """End the thread; blocks until it has done what it was given."""
        self._thread.shutdown(wait=True)

    @property
    def answers(self) -> bool:
        """Whether the thread did what it was last asked to, or was asked a short while ago."""
        horizon = time.monotonic() - STUCK_S
        return all(since > horizon for since in self._running.values())

    def start(self, work: Callable[[Store], Result]) -> asyncio.Future[Result]:
        """Give the thread some work. Whatever is begun is done to its end: await it with `outlast`."""
        return self._submit(lambda: self._do(work))

    async def run(self, work: Callable[[Store], Result], undo: Callable[[Result], None] | None = None) -> Result:
        """Have work done; if whoever waits is cancelled, `undo` takes the result back. Raises StorageError."""
        running = self.start(work)
        try:
            return await outlast(running)
        except asyncio.CancelledError:
            if undo is not None and running.exception() is None:
                undo(running.result())
            raise

    def _submit(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._translated, work)
        self._running[running] = time.monotonic()
        running.add_done_callback(self._running.pop)
        return running

    def _translated(self, work: Callable[[], Result]) -> Result:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            raise _storage_error(self.path, error) from error

    def _open(self) -> None:
        self.store = open_store(self.path, self._limits, self.machine_id)
        if self.store.identity.why is not None:
            log.warning("buffer: %s; epoch %s begins", self.store.identity.why, self.store.epoch)

    def _do(self, work: Callable[[Store], Result]) -> Result:
        if self._damage is not None:
            self._begin_anew(self._damage)
        try:
            return work(self.store)
        except sqlite3.Error as error:
            if schema.is_damage(error):
                self._damage = error
                # At once; should the disk not take a new file now, the next piece of work tries again.
                with contextlib.suppress(sqlite3.Error, OSError):
                    self._begin_anew(error)
            raise

    def _begin_anew(self, damage: Exception) -> None:
        """A file that proves damaged while it is used is set aside, and a new one takes its place."""
        damaged = self.store
        if self._aside is None:
            with contextlib.suppress(sqlite3.Error):
                damaged.connection.close()
            self._target = self._target or folder.name_aside(self.path)  # one name, however often it is tried
            self._aside = folder.set_aside(self.path, self._target)
        self.store = open_store(self.path, self._limits, self.machine_id)
        # Ids go on from where they were: the publisher's place in the queue is one of them, and what the broker
        # acknowledges late must not name a new row.
        self.store.tables.next_row = damaged.tables.next_row
        self.store.tables.next_past = damaged.tables.next_past
        self.store.last_seqs = {**damaged.last_seqs, **damaged.present_seqs()}
        self.drops.update(damaged.ledgers().keys())
        log.error(
            "buffer: %s is damaged (%s), it was set aside as %s; epoch %s begins",
            self.path, damage, self._aside.name, self.store.epoch,
        )  # fmt: skip
        self._damage = self._target = self._aside = None


async def outlast(future: asyncio.Future[Result]) -> Result:
    """Wait until the future is done even if cancelled meanwhile; the cancellation comes after it, its error lost."""
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        future.exception()  # seen: nobody else will ask for it
        raise asyncio.CancelledError
    return future.result()


def _storage_error(path: Path, error: Exception) -> StorageError:
    full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL" or getattr(error, "errno", None) == errno.ENOSPC
    if full:
        return StorageError(f"{path}: the disk is full", do="Free some space; the buffer goes on by itself.")
    return StorageError(f"{path}: {error}", do="Check the disk and the rights of its folder.")
