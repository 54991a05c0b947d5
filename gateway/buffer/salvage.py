"""What files that were set aside still hold, taken over into the buffer beside its work, in a thread of its own."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from gateway.buffer import folder, past, schema
from gateway.buffer.mending import mend_first_page
from gateway.buffer.store import Store
from gateway.buffer.stored import FIRST
from gateway.buffer.wreck import END, Wreck
from gateway.buffer.writer import Writer
from gateway.errors import StorageError
from gateway.supervisor import now_ms

log = logging.getLogger(__name__)
Result = TypeVar("Result")

LOOK_S: Final = 5.0
"""How often it is looked for files that were set aside."""
PACE_S: Final = 0.1
"""The pause between two chunks: what is read now goes first."""
NO_ROOM_S: Final = 1.0
"""The pause while half of the buffer is full: what is yet to be read needs the other half."""
PATIENCE_S: Final = 60.0
"""How long a file waits for the first batches of the devices of which it has to tell a loss: they bring a meta."""
CHUNK_BYTES: Final = 512 << 10
MOST_WAITING: Final = 2000
"""Rows that were taken over and wait for the broker; the file that was set aside keeps the rest meanwhile."""
UNTOLD: Final = "what else was in it came over; of some rows the tags' names are lost, or no gap could tell of them"


class _BegunAnewError(Exception):
    """The file into which another one was taken over proved damaged meanwhile."""


@dataclass(slots=True)
class Tally:
    """What came of a file."""

    readings: int = 0
    losses: int = 0


class Salvage:
    """Takes files that were set aside over, one after the other.

    `committed` is notified after each commit; `stored` is called when rows were taken over. A file is deleted once
    all that was in it is acknowledged or told as lost; one that is not ours to take over, or of which something could
    not be read or told that may still be in it, is left, and `left` says why.
    """

    def __init__(self, writer: Writer, committed: asyncio.Condition, stored: Callable[[], Awaitable[None]]) -> None:
        self.busy = False
        self.left: dict[str, str] = {}
        self._unreadable = ("", "")
        self._path = writer.path
        self._writer = writer
        self._committed = committed
        self._stored = stored
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="salvage")

    async def run(self) -> None:
        """Look for such files, and take them over, until cancelled."""
        try:
            while True:
                for file in await self._in_thread(lambda: folder.set_asides(self._path)):
                    if file.name not in self.left:
                        with contextlib.suppress(StorageError):  # the disk: the next look tries again
                            self.busy = True
                            await self._take_over(file)
                self.busy = False
                await self._in_thread(self._forget_removed)
                await asyncio.sleep(LOOK_S)
        finally:
            self._thread.shutdown(wait=False)

    async def _take_over(self, file: Path) -> None:
        try:
            wreck = await self._in_thread(lambda: self._open(file))
        except (sqlite3.Error, OSError) as error:
            if schema.is_damage(error):
                self.left[file.name] = str(error)
                log.warning("buffer: %s is left where it is: %s", file.name, error)
            return
        store = self._writer.store
        try:
            tally = await self._empty(wreck, store)
        except _BegunAnewError:
            return  # into a file that was set aside itself meanwhile: the next look begins with both
        except (sqlite3.Error, OSError) as error:
            if self._unreadable != (file.name, str(error)):  # it is tried again and again, and said once
                self._unreadable = (file.name, str(error))
                log.warning("buffer: %s cannot be read now: %s", file.name, error)
            return
        finally:
            await asyncio.shield(self._in_thread(wreck.close))
        if await self._writer.run(lambda present: _is_untold(present, file.name)):
            self.left[file.name] = UNTOLD
            log.warning("buffer: %s is left where it is: %s", file.name, UNTOLD)
            return
        await self._wait_for(store, 0)
        if self._writer.store is not store:
            return
        await self._in_thread(lambda: folder.clear_away(file))
        await self._writer.run(lambda present: _forget(present, file.name))
        log.info(
            "buffer: %s was deleted: of what it held, %d readings came over since the start and are delivered; "
            "of %d ranges of seqs a gap tells that they are lost", file.name, tally.readings, tally.losses,
        )  # fmt: skip

    def _open(self, file: Path) -> Wreck:
        """Open a file that is ours to take over. Raises ForeignFileError if it is not."""
        try:
            wreck = _recognise(file)
        except schema.LostFirstPageError:
            mend_first_page(file)
            wreck = _recognise(file)
        if None not in (self._writer.machine_id, wreck.machine_id) and self._writer.machine_id != wreck.machine_id:
            wreck.close()
            raise schema.AnotherMachineError(wreck.epoch or "", {})
        return wreck

    async def _empty(self, wreck: Wreck, store: Store) -> Tally:
        """Take over all that is left in a file, into one store. Raises _BegunAnewError if another takes its place."""
        after, seen = await self._writer.run(lambda present: _begun(_same(present, store), wreck.name))
        tally, size = Tally(), min(CHUNK_BYTES, store.limits.max_bytes // 16)
        patient_until = time.monotonic() + PATIENCE_S
        if after == FIRST:
            log.info("buffer: what %s still holds is taken over", wreck.name)
        while after < END:
            await self._wait_for(store, MOST_WAITING)
            chunk = await self._in_thread(lambda: wreck.read(after, seen, size))  # noqa: B023 -- awaited at once
            patient = time.monotonic() < patient_until
            taken = await self._writer.run(
                lambda present: _take_over(_same(present, store), chunk, patient=patient)  # noqa: B023
            )
            if taken:
                after, seen = chunk.upto, chunk.seen
                tally.readings += sum(found.row.readings for found in chunk.rows)
                tally.losses += len(chunk.losses)
                await self._stored()
            await asyncio.sleep(PACE_S if taken else NO_ROOM_S)
        return tally

    async def _wait_for(self, store: Store, waiting: int) -> None:
        """Wait until no more than so many rows from before wait for the broker, or another store takes its place."""
        async with self._committed:
            await self._committed.wait_for(lambda: self._writer.store is not store or store.tables.past_rows <= waiting)

    def _forget_removed(self) -> None:
        """Somebody has taken care of a file that was left."""
        present = {file.name for file in folder.set_asides(self._path)}
        self.left = {name: why for name, why in self.left.items() if name in present}

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _recognise(file: Path) -> Wreck:
    if schema.is_new(file):
        raise schema.ForeignFileError("there is nothing in it")
    return Wreck(file)


def _same(present: Store, store: Store) -> Store:
    """Give the store that is in use. Raises _BegunAnewError if it is not this one any more."""
    if present is not store:
        raise _BegunAnewError
    return present


def _begun(store: Store, file: str) -> tuple[int, bytes]:
    """Tell how far a file was taken over before."""
    row = store.connection.execute("SELECT upto, seen FROM salvages WHERE file = ?", (file,)).fetchone()
    return (FIRST, b"") if row is None else row


def _take_over(store: Store, chunk: past.Chunk, *, patient: bool) -> bool:
    return store.transact(lambda work: past.take_over(work, chunk, patient=patient), now_ms())


def _is_untold(store: Store, file: str) -> bool:
    """Whether a file holds something that neither came over nor is told as lost."""
    query = "SELECT 1 FROM salvages WHERE file = ?"
    return store.connection.execute(query, (file + past.UNTOLD,)).fetchone() is not None


def _forget(store: Store, file: str) -> None:
    """Forget a file that is gone."""
    store.connection.execute("DELETE FROM salvages WHERE file = ?", (file,))
