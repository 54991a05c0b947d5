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

import shutil
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import orjson

from gateway.buffer import codec, schema
from gateway.buffer.stored import Stored
from gateway.buffer.tables import Level, Limits, Row, Stream, Tables
from gateway.buffer.transaction import Transaction
from gateway.errors import StorageError
from gateway.model import Batch, Gap, Ledger, Meta, Sample

EVERYTHING: Final = 1 << 62
TAKE_BYTES: Final = 1 << 20
_SCAN_ROWS: Final = 512


class Store:
    """An open buffer file. Every method raises sqlite3.Error or OSError as it comes; `Buffer` translates."""

    def __init__(self, connection: sqlite3.Connection, path: Path, limits: Limits, identity: schema.Identity) -> None:
        self.connection = connection
        self.path = path
        self.limits = limits
        self.identity = identity
        self.tables = Tables()
        self.in_flight: dict[int, Row] = {}
        self.corrupt: list[Row] = []
        self.metas: dict[tuple[str, str, str, bytes], int] = {}
        self._metas_by_id: dict[int, Meta] = {}
        self.stream_ids: dict[str, int] = {}
        self.topics: dict[str, str] = {}
        self.last_commit_ms: int | None = None
        self._age_base = 0
        self._opened = time.monotonic()
        self._load()

    @classmethod
    def open(cls, path: Path, limits: Limits, machine_id: str | None) -> Self:
        """Open the file, or begin a new one with a new epoch where it is missing, damaged or another's.

        What cannot be used is set aside beside it, never deleted. Raises StorageError, sqlite3.Error or OSError.
        """
        known = schema.read_marker(path)
        why = f"{path} was lost"
        connection = None
        try:
            connection = schema.connect(path)
            if not schema.is_new(connection):
                identity = cls._adopt(schema.recognise(connection), known, machine_id)
                return cls._go_on(connection, path, limits, identity, known)
        except (schema.ForeignFileError, sqlite3.DatabaseError) as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.OperationalError) and not is_damage(error):
                raise
            why = f"{path} was set aside as {schema.set_aside(path).name}: {error}"
            connection = schema.connect(path)
            known = known or ""
        schema.prepare(connection, limits.max_bytes)
        begins_first = known is None
        identity = schema.Identity(
            schema.new_epoch(), machine_id, not begins_first, known or None, None if begins_first else why
        )
        schema.create(connection, identity)
        return cls._go_on(connection, path, limits, identity, known)

    @staticmethod
    def _adopt(identity: schema.Identity, known: str | None, machine_id: str | None) -> schema.Identity:
        """Go on in a file of ours; under a new epoch if its numbering belongs to somebody else."""
        if None not in (machine_id, identity.machine_id) and machine_id != identity.machine_id:
            why = "this machine's id is another than that of the machine which wrote the buffer"
        elif known is not None and known != identity.epoch:
            why = "the buffer file was replaced by another one"
        else:
            return replace(identity, machine_id=machine_id or identity.machine_id)
        return schema.Identity(schema.new_epoch(), machine_id, True, known or identity.epoch, why)

    @classmethod
    def _go_on(
        cls, connection: sqlite3.Connection, path: Path, limits: Limits, identity: schema.Identity, known: str | None
    ) -> Self:
        schema.prepare(connection, limits.max_bytes)
        schema.write_identity(connection, identity)
        if known != identity.epoch:
            schema.write_marker(path, identity.epoch)
        return cls(connection, path, limits, identity)

    def _load(self) -> None:
        """Count the rows: memory holds sums, the file holds the truth."""
        execute = self.connection.execute
        execute("DELETE FROM metas WHERE id NOT IN (SELECT DISTINCT meta FROM batches)")
        for row in execute("SELECT id, epoch, device, next_seq, sampled, suppressed, acked, dropped FROM streams"):
            stream = Stream(*row)
            self.tables.streams[stream.id] = stream
            if stream.epoch == self.epoch:
                self.stream_ids[stream.device] = stream.id
        self.last_commit_ms, base = execute("SELECT max(committed_ms), max(age_ms) FROM streams").fetchone()
        self._age_base = base or 0
        totals = "SELECT stream, count(*), sum(samples), sum(readings), max(id) FROM batches GROUP BY stream"
        for stream, rows, samples, readings, last in execute(totals):
            self.tables.streams[stream].pending = readings
            self.tables.rows += rows
            self.tables.samples += samples
            self.tables.next_row = max(self.tables.next_row, last + 1)
        self.topics = dict(execute("SELECT topic, device FROM topics"))

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
        return self._age_base + int((time.monotonic() - self._opened) * 1000)

    def ledgers(self) -> dict[str, Ledger]:
        """Give the ledger of each device for the present epoch."""
        return {s.device: s.ledger for s in self.tables.streams.values() if s.epoch == self.epoch}

    def commit(self, batches: Sequence[Batch], acked: Collection[int], now_ms: int) -> frozenset[str]:
        """Store, count and delete in one durable transaction; give the devices of which something was dropped."""
        transaction = Transaction(self, now_ms)
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            transaction.acknowledge(acked)
            transaction.drop_corrupt(self.corrupt)
            transaction.expire()
            for batch in batches:
                transaction.append(batch)
            transaction.write()
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            self.metas.clear()
            raise
        self._take_over(transaction, acked)
        return frozenset(transaction.dropped_devices)

    def _take_over(self, transaction: Transaction, acked: Iterable[int]) -> None:
        self.tables = transaction.tables
        self.release([*acked, *(row.id for row in self.corrupt)])
        self.corrupt.clear()
        self.last_commit_ms = transaction.now_ms
        if self.tables.rows == 0 and self._pragma("freelist_count") > 1024:
            # executescript, not execute: the latter frees a single page.
            self.connection.executescript("PRAGMA incremental_vacuum(1024)")

    def take(
        self, after: int, upto: int | None = None, *, readings: int = 5000, skip_topics: Collection[str] = ()
    ) -> list[Stored]:
        """Give rows in the order of storing, and hold them as in flight.

        A row whose blob is damaged is not given: the next commit drops it with a gap record.
        """
        taken: list[Stored] = []
        size = count = 0
        for row, gap, blob in self._scan(after, upto, skip_topics):
            self.in_flight[row.id] = row
            if gap is not None:
                self.tables.open_gaps.pop((row.stream, gap), None)
            stored = self._decode(row, gap, blob)
            if stored is None:
                self.corrupt.append(row)
                continue
            taken.append(stored)
            size, count = size + row.size, count + row.readings
            if count >= readings or size >= TAKE_BYTES or len(taken) >= _SCAN_ROWS:
                break
        return taken

    def _scan(
        self, after: int, upto: int | None, skip_topics: Collection[str]
    ) -> Iterator[tuple[Row, str | None, bytes]]:
        held_back = self._metas_on(skip_topics)
        cursor = self.connection.execute(
            "SELECT id, stream, meta, first_seq, samples, readings, from_ms, to_ms, size, gap FROM batches"
            " WHERE id > ? AND id <= ? ORDER BY id",
            (after, EVERYTHING if upto is None else upto),
        )
        with closing(cursor):
            for *columns, gap in cursor:
                row = Row(*columns)
                if row.id not in self.in_flight and row.meta not in held_back:
                    (blob,) = self.connection.execute("SELECT blob FROM blobs WHERE id = ?", (row.id,)).fetchone()
                    yield row, gap, blob

    def _metas_on(self, topics: Collection[str]) -> set[int]:
        if not topics:
            return set()
        metas = [row for (row,) in self.connection.execute("SELECT id FROM metas")]
        return {row for row in metas if self.meta(row).topic in topics}

    def _decode(self, row: Row, gap: str | None, blob: bytes) -> Stored | None:
        meta, epoch = self.meta(row.meta), self.tables.streams[row.stream].epoch
        samples: tuple[Sample | Gap, ...]
        try:
            if gap is None:
                samples = codec.unpack(blob, meta, epoch=epoch, first_seq=row.first_seq)
            else:
                samples = (codec.unpack_gap(blob, epoch=epoch, device=meta.device, seq=row.first_seq),)
        except codec.CorruptBlobError:
            return None
        return Stored(row.id, epoch, meta, row.first_seq, samples, row.readings)

    def release(self, ids: Iterable[int]) -> None:
        """Let `take` give these rows again, and the buffer drop them if it must."""
        for row in ids:
            self.in_flight.pop(row, None)

    def retire_topic(self, topic: str) -> None:
        """Forget a topic whose device is gone and whose retained messages were cleared."""
        self.connection.execute("DELETE FROM topics WHERE topic = ?", (topic,))
        self.topics.pop(topic, None)
        self.metas.clear()  # so that a device which returns to the topic is noted again

    def meta(self, meta_id: int) -> Meta:
        """Give a meta by its row."""
        if meta_id not in self._metas_by_id:
            row = self.connection.execute(
                "SELECT hash, device, topic, names, codes, labels, document FROM metas WHERE id = ?", (meta_id,)
            ).fetchone()
            if row is None:
                raise StorageError(f"{self.path}: the meta {meta_id} of stored batches is missing")
            hash_, device, topic, names, codes, labels, document = row
            names, codes, labels = (orjson.loads(part) for part in (names, codes, labels))
            self._metas_by_id[meta_id] = Meta(hash_, device, topic, tuple(names), tuple(codes), labels, document)
        return self._metas_by_id[meta_id]

    def level(self) -> Level:
        """Say how full the buffer is."""
        oldest = self.connection.execute("SELECT age_ms FROM batches ORDER BY id LIMIT 1").fetchone()
        streams = self.tables.streams.values()
        return Level(
            rows=self.tables.rows,
            samples=self.tables.samples,
            readings=sum(stream.pending for stream in streams),
            bytes=(self._pragma("page_count") - self._pragma("freelist_count")) * schema.PAGE_BYTES,
            oldest_age_s=max(0, self.age_ms - oldest[0]) / 1000 if oldest else 0.0,
            dropped=sum(stream.dropped for stream in streams if stream.epoch == self.epoch),
            disk_free_bytes=shutil.disk_usage(self.path.parent).free,
        )

    def close(self) -> None:
        """Close, and note that the end was clean: the next start need not look for damage."""
        try:
            self.connection.execute("UPDATE identity SET clean = 1")
        finally:
            self.connection.close()

    def _pragma(self, name: str) -> int:
        return int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])


def is_damage(error: Exception) -> bool:
    """Whether an SQLite error means that the file itself is damaged or not a database."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
