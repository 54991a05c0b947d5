"""The buffer on disk: what is committed survives a power cut, and nothing leaves without being counted.

Promises, for a disk that honours flushes:

- A batch is committed in one transaction with its seqs and with the ledger's counters: the law (sampled =
  suppressed + acked + pending + dropped) holds in every state that a crash can leave behind.
- (epoch, device, seq) is given once. A row is deleted when it was acknowledged, or dropped with a gap record that
  names exactly its seqs. Rows in flight are not dropped. Gap records are never dropped.
- A gap record grows only until it is first given out; from then on its seq means what was sent.
- The file stays under `max_bytes`.

One thread uses a Store, and it is the only one with a connection to the file.
"""

import logging
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, TypeVar

from gateway.buffer import bookmarks, codec, dead_letters, schema
from gateway.buffer.counting import count_rows
from gateway.buffer.dead_letters import Letter
from gateway.buffer.stored import FIRST, Stored
from gateway.buffer.tables import ROW, Level, Limits, Row, Stream, Tables
from gateway.buffer.transaction import Transaction
from gateway.model import Batch, Gap, Ledger, Meta, Sample

log = logging.getLogger(__name__)
Result = TypeVar("Result")

EVERYTHING: Final = 1 << 62
TAKE_BYTES: Final = 1 << 20
TAKE_SAMPLES: Final = 1000
"""Samples of one reading each take 4 us to encode, in the event loop."""
_SCAN_ROWS: Final = 512
_VACUUM_PAGES: Final = 1024


class Store:
    """An open buffer file. Every method raises sqlite3.Error or OSError as it comes; `Writer` translates."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, limits: Limits, identity: schema.Identity,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.path = path
        self.limits = limits
        self.identity = identity
        self.tables = Tables()
        self.in_flight: dict[int, Row] = {}
        self.condemned: list[tuple[Row, str]] = []
        self.unlawful: dict[str, int] = {}
        """By device, the readings that its ledger does not explain: a bug."""
        self.refused: list[tuple[Row, Sequence[Letter]]] = []
        self.metas: dict[Meta, int] = {}
        self._metas_by_id: dict[int, Meta] = {}
        self.stopped_ms: int | None = None
        """When the last commit before this start was, wall-clock time; None in a new file."""
        self.last_seqs: dict[str, int] = {}
        """The last seq of each device in the epoch before this one; whoever knows it for sure sets it."""
        self.bookmarks = bookmarks.load(connection, identity.epoch)
        """As they were when the file was opened."""
        self._age_base = 0
        self._clock = clock
        self._opened = clock()
        self._load()

    def _load(self) -> None:
        """Count the rows: memory holds sums, the file holds the truth."""
        execute = self.connection.execute
        streams = """
SELECT id, epoch, device, next_seq, sampled, suppressed, acked, dropped, resent, pending_rows, pending_samples
FROM streams
"""
        for row in execute(streams):
            stream = Stream(*row)
            self.tables.streams[stream.id] = stream
            if stream.epoch == self.epoch:
                self.tables.stream_ids[stream.device] = stream.id
        self.stopped_ms, base = execute("SELECT max(committed_ms), max(age_ms) FROM streams").fetchone()
        self._age_base = base or 0
        count_rows(self.connection, self.tables)
        self.tables.topics = dict(execute("SELECT topic, device FROM topics"))

    @property
    def epoch(self) -> str:
        """The epoch in which new samples are numbered."""
        return self.identity.epoch

    @property
    def last_id(self) -> int:
        """Id of the newest row."""
        return self.tables.next_row - 1

    @property
    def age_ms(self) -> int:
        """How long the gateway has run since the buffer was made, ms: rows grow old by it, whatever clocks say."""
        return self._age_base + int((self._clock() - self._opened) * 1000)

    def present_seqs(self) -> dict[str, int]:
        """Give the last seq of each device in the present epoch."""
        return {s.device: s.next_seq - 1 for s in self.tables.streams.values() if s.epoch == self.epoch}

    def ledgers(self) -> dict[str, Ledger]:
        """Give the ledger of each device for the present epoch."""
        return {s.device: s.ledger for s in self.tables.streams.values() if s.epoch == self.epoch}

    def commit(self, batches: Sequence[Batch], acked: Collection[int], now_ms: int) -> frozenset[str]:
        """Store, count and delete in one durable transaction; give the devices of which something was dropped."""

        def work(transaction: Transaction) -> frozenset[str]:
            transaction.acknowledge(acked)
            transaction.drop_condemned(self.condemned)
            if self.refused:
                dead_letters.set_aside(transaction, self.refused, lambda row: self.meta(row.meta))
            transaction.expire()
            for batch in batches:
                transaction.append(batch)
            return frozenset(transaction.dropped_devices)

        dropped = self.transact(work, now_ms, committed_ms=now_ms if batches or acked else None)
        self.release([*acked, *(row.id for row, _ in self.condemned), *(row.id for row, _ in self.refused)])
        self.condemned.clear()
        self.refused.clear()
        # The rows are on disk: whatever fails from here on must not make anyone store them again.
        with suppress(sqlite3.Error):
            self._shrink()
        return dropped

    def transact(self, work: Callable[[Transaction], Result], now_ms: int, committed_ms: int | None = None) -> Result:
        """Do some work in one durable transaction, and give its result; `committed_ms` as in `Transaction.write`."""
        transaction = Transaction(self, now_ms)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            result = work(transaction)
            transaction.write(committed_ms)
            self.connection.execute("COMMIT")
        except BaseException:
            self.metas.clear()
            self._metas_by_id.clear()
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self.tables = transaction.tables
        self._audit(transaction)
        return result

    def _audit(self, transaction: Transaction) -> None:
        """Hold the counters that changed against the law (P4)."""
        for stream in transaction.touched:
            if stream.unaccounted or stream.device in self.unlawful:
                self._note_unlawful(stream)

    def _note_unlawful(self, stream: Stream) -> None:
        if not stream.unaccounted:
            del self.unlawful[stream.device]
        elif self.unlawful.get(stream.device) != stream.unaccounted:
            self.unlawful[stream.device] = stream.unaccounted
            log.error("buffer: the ledger of %s does not explain %d readings", stream.device, stream.unaccounted)

    def _shrink(self) -> None:
        """Give pages back to the disk once the buffer has drained, or while it is larger than it may be."""
        free, too_many = self._pragma("freelist_count"), self._pragma("page_count") - self._max_pages
        if free and (too_many > 0 or (self.tables.rows == 0 and free > _VACUUM_PAGES)):
            # executescript, not execute: the latter frees a single page.
            self.connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
            self.connection.execute(f"PRAGMA max_page_count={self._max_pages}")

    def take(
        self, after: int, upto: int | None = None, *, readings: int = 5000, skip_topics: Collection[str] = ()
    ) -> list[Stored]:
        """Give rows in the order of storing, and hold them as in flight.

        A row whose blob is damaged is not given: the next commit drops it with a gap record.
        """
        taken: list[Stored] = []
        size = count = samples = 0
        try:
            for row, gap, blob in self._scan(after, upto, skip_topics):
                stored = self._decode(row, gap, blob)
                self.in_flight[row.id] = row
                if gap is not None:
                    self._close_gap(row)
                if stored is None:
                    self.condemned.append((row, "corrupt"))
                    continue
                taken.append(stored)
                size, count, samples = size + row.size, count + row.readings, samples + row.samples
                if count >= readings or size >= TAKE_BYTES or len(taken) >= _SCAN_ROWS or samples >= TAKE_SAMPLES:
                    break
        except BaseException:  # nobody got them; what is condemned stays in flight until it is dropped
            self.release(stored.id for stored in taken)
            raise
        return taken

    def _close_gap(self, row: Row) -> None:
        """What is given out once does not grow any more: the next loss of its kind gets a record of its own."""
        for key, gap in self.tables.open_gaps.items():
            if gap.row == row.id:
                del self.tables.open_gaps[key]
                return

    def _scan(
        self, after: int, upto: int | None, skip_topics: Collection[str]
    ) -> Iterator[tuple[Row, bytes | None, bytes]]:
        held_back = ",".join(map(str, self._metas_on(skip_topics)))
        cursor = self.connection.execute(
            f"SELECT {ROW}, gap FROM batches"  # noqa: S608 -- our own words and numbers only
            f" WHERE id > ? AND id <= ? AND meta NOT IN ({held_back}) ORDER BY id",
            (after, EVERYTHING if upto is None else upto),
        )
        with closing(cursor):
            for *columns, gap in cursor:
                row = Row(*columns)
                if row.id not in self.in_flight:
                    blob = self.connection.execute("SELECT blob FROM blobs WHERE id = ?", (row.id,)).fetchone()
                    yield row, gap, b"" if blob is None else blob[0]

    def _metas_on(self, topics: Collection[str]) -> set[int]:
        if not topics:
            return set()
        metas = [row for (row,) in self.connection.execute("SELECT id FROM metas")]
        return {row for row in metas if self.meta(row).topic in topics}

    def _decode(self, row: Row, gap: bytes | None, blob: bytes) -> Stored | None:
        meta = self.meta(row.meta)
        if row.stream not in self.tables.streams:
            raise schema.ForeignFileError("it holds rows of a device that it does not know")
        epoch = self.tables.streams[row.stream].epoch
        samples: tuple[Sample | Gap, ...]
        for copy in (blob,) if gap is None else (blob, gap):
            try:
                frame = codec.unseal(copy, epoch=epoch, device=meta.device, seq=row.first_seq)
                samples = codec.unpack(frame, meta) if gap is None else (codec.unpack_gap(frame),)
            except codec.CorruptBlobError:
                continue
            return Stored(row.id, epoch, meta, row.first_seq, samples, row.readings)
        return None

    def release(self, ids: Iterable[int]) -> None:
        """Let `take` give these rows again, and the buffer drop them if it must."""
        for row in ids:
            self.in_flight.pop(row, None)

    def set_aside(self, row: int, letters: Sequence[Letter]) -> None:
        """Let the next commit take out a row in flight that the broker has, but for these letters."""
        if row in self.in_flight:
            self.refused.append((self.in_flight[row], letters))

    def retire_topic(self, topic: str) -> None:
        """Forget a topic whose device is gone and whose retained messages were cleared."""
        self.connection.execute("DELETE FROM topics WHERE topic = ?", (topic,))
        self.tables.topics.pop(topic, None)
        self.metas.clear()  # so that a device which returns to the topic is noted again

    def meta(self, meta_id: int) -> Meta:
        """Give a meta by its row. Raises ForeignFileError if it is missing or damaged."""
        if meta_id not in self._metas_by_id:
            row = self.connection.execute("SELECT blob FROM metas WHERE id = ?", (meta_id,)).fetchone()
            try:
                self._metas_by_id[meta_id] = codec.unpack_meta(b"" if row is None else row[0])
            except codec.CorruptBlobError as error:
                raise schema.ForeignFileError(f"the meta {meta_id} of its batches is damaged") from error
        return self._metas_by_id[meta_id]

    def level(self) -> Level:
        """Say how full the buffer is."""
        first = "SELECT age_ms FROM batches WHERE id > ? ORDER BY id LIMIT 1"
        oldest = [age for after in (FIRST, 0) for (age,) in self.connection.execute(first, (after,))]
        streams = self.tables.streams.values()
        return Level(
            rows=self.tables.rows,
            samples=self.tables.samples,
            readings=sum(stream.pending for stream in streams),
            bytes=(self._pragma("page_count") - self._pragma("freelist_count")) * schema.PAGE_BYTES,
            oldest_age_s=max(0, self.age_ms - min(oldest)) / 1000 if oldest else 0.0,
            dropped=sum(stream.dropped for stream in streams if stream.epoch == self.epoch),
            disk_free_bytes=shutil.disk_usage(self.path.parent).free,
            kept_bytes=self.tables.kept_bytes,
        )

    def close(self) -> None:
        """Close, and note that the end was clean: the next start need not look for damage."""
        try:
            schema.note_clean_end(self.connection)
        finally:
            self.connection.close()

    @property
    def _max_pages(self) -> int:
        return self.limits.max_bytes // schema.PAGE_BYTES

    def _pragma(self, name: str) -> int:
        return int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])
