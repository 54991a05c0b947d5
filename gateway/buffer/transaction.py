"""What one commit does to the buffer: append, acknowledge, drop; on copies, taken over once it is on disk."""

import copy
import sqlite3
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import orjson

from gateway.buffer import codec, schema
from gateway.buffer.cutting import cut
from gateway.buffer.tables import OpenGap, Row, Stream
from gateway.model import Batch, Gap, Meta, Sample

if TYPE_CHECKING:
    from gateway.buffer.store import Store

RESERVE_PAGES: Final = 64
"""Kept free for gap records, counters and inner pages, so that a full buffer can still say what it drops."""
_ROW_BYTES: Final = 200
_DROP_ROWS: Final = 128


class Transaction:
    """The work between BEGIN and COMMIT. `tables` is a copy of the store's; the store takes it over on success."""

    def __init__(self, store: "Store", now_ms: int) -> None:
        self.now_ms = now_ms
        self.tables = copy.copy(store.tables)
        self.tables.streams = dict(store.tables.streams)
        self.tables.open_gaps = dict(store.tables.open_gaps)
        self.dropped_devices: set[str] = set()
        self._store = store
        self._execute = store.connection.execute
        self._touched: set[int] = set()
        self._grown: set[tuple[int, str]] = set()
        self._headroom: int | None = None

    # Acknowledged rows leave.

    def acknowledge(self, ids: Collection[int]) -> None:
        """Delete rows that the broker has."""
        rows = [row for row in map(self._store.in_flight.get, ids) if row is not None]
        for row in rows:
            stream = self._touch(row.stream)
            stream.acked += row.readings
            self._leave(stream, row)
        self._delete([row.id for row in rows])

    # New batches come.

    def append(self, batch: Batch) -> None:
        """Number and store the batch's gaps and samples, and count its readings."""
        stream = self._stream_of(batch.meta.device)
        if stream.next_seq == 1 and self._store.identity.succeeds:
            lost = {"previous_epoch": self._store.identity.previous, "last_seq": None}
            self.record_gap(stream, batch.meta, Gap(self.now_ms, "buffer-lost", lost))
        stream.sampled += batch.sampled
        stream.suppressed += batch.suppressed
        stream.dropped += batch.dropped
        for gap in batch.gaps:
            self.record_gap(stream, batch.meta, gap)
        samples = tuple(piece for sample in batch.samples for piece in cut(batch.meta, sample))
        if samples:
            self._append_samples(stream, batch.meta, samples)

    def _append_samples(self, stream: Stream, meta: Meta, samples: tuple[Sample, ...]) -> None:
        readings = sum(sample.readings for sample in samples)
        try:
            blob = codec.pack(meta, samples, epoch=stream.epoch, first_seq=stream.next_seq)
        except (struct.error, TypeError, OverflowError) as error:
            self._refuse(stream, meta, samples, "not-storable", {"error": str(error)})
            return
        if not self._make_room(len(blob) + _ROW_BYTES):
            self._refuse(stream, meta, samples, "buffer-full", {})
            return
        span = (min(sample.ts for sample in samples), max(sample.ts for sample in samples))
        self._insert(stream, meta, len(samples), readings, span, blob, None)
        stream.pending += readings
        stream.next_seq += len(samples)

    def _refuse(
        self, stream: Stream, meta: Meta, samples: tuple[Sample, ...], reason: str, more: Mapping[str, Any]
    ) -> None:
        """Drop what has no seq yet: the gap has no range, only how much it was, and of when."""
        readings = sum(sample.readings for sample in samples)
        stream.dropped += readings
        self.dropped_devices.add(stream.device)
        times = [sample.ts for sample in samples]
        fields = {"readings": readings, "from": min(times), "to": max(times), **more}
        self.record_gap(stream, meta, Gap(self.now_ms, reason, fields))

    def _insert(
        self, stream: Stream, meta: Meta, samples: int, readings: int, span: tuple[int, int], blob: bytes,
        gap: str | None,
    ) -> int:  # fmt: skip
        row = self.tables.next_row
        self._execute(
            "INSERT INTO batches VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (row, stream.id, self._meta_id(meta), stream.next_seq, samples, readings, *span, self._store.age_ms,
             len(blob), gap),
        )  # fmt: skip
        self._execute("INSERT INTO blobs VALUES (?, ?)", (row, blob))
        self.tables.next_row += 1
        self.tables.rows += 1
        self.tables.samples += samples
        return row

    # Gaps grow until they are given out.

    def record_gap(self, stream: Stream, meta: Meta, gap: Gap) -> None:
        """Let the device's open gap of this reason grow by `gap`, or begin a new one that gets the next seq."""
        key = (stream.id, gap.reason)
        known = self.tables.open_gaps.get(key)
        if known is not None and known.row not in self._store.in_flight and _continues(known.gap, gap):
            self.tables.open_gaps[key] = replace(known, gap=merge_gaps(known.gap, gap))
            self._grown.add(key)
            return
        self._write_grown(key)
        blob = codec.pack_gap(gap, epoch=stream.epoch, device=stream.device, seq=stream.next_seq)
        row = self._insert(stream, meta, 1, 0, (gap.ts, gap.ts), blob, gap.reason)
        self.tables.open_gaps[key] = OpenGap(row, stream.id, stream.next_seq, gap)
        stream.next_seq += 1

    def _write_grown(self, key: tuple[int, str]) -> None:
        if key not in self._grown:
            return
        self._grown.discard(key)
        gap = self.tables.open_gaps[key]
        stream = self.tables.streams[gap.stream]
        blob = codec.pack_gap(gap.gap, epoch=stream.epoch, device=stream.device, seq=gap.seq)
        self._execute("UPDATE blobs SET blob = ? WHERE id = ?", (blob, gap.row))

    # What gives way.

    def drop_corrupt(self, rows: Iterable[Row]) -> None:
        """Drop rows whose blobs cannot be read back."""
        self._drop(list(rows), "corrupt")

    def expire(self) -> None:
        """Drop what has waited longer than `max_age`, in time that the gateway ran."""
        if self._store.limits.max_age is None:
            return
        oldest = self._store.age_ms - int(self._store.limits.max_age * 1000)
        while rows := self._oldest("AND age_ms < ?", oldest):
            self._drop(rows, "expired")

    def _make_room(self, needed: int) -> bool:
        """Let the oldest batches give way until `needed` bytes fit; False if that is not allowed or not enough."""
        if self._headroom is None or self._headroom < needed:
            self._headroom = self._free_bytes()
        while self._headroom < needed:
            rows = self._oldest() if self._store.limits.when_full == "drop-oldest" else []
            if not rows:
                return False
            self._drop(rows, "buffer-full")
            self._headroom = self._free_bytes()
        self._headroom -= needed + needed // 4
        return True

    def _free_bytes(self) -> int:
        page_count, free = (
            int(self._execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count")
        )
        usable = self._store.limits.max_bytes // schema.PAGE_BYTES - RESERVE_PAGES
        return (usable - page_count + free) * schema.PAGE_BYTES

    def _oldest(self, condition: str = "", *arguments: int) -> list[Row]:
        # More than are wanted, since those in flight at the head of the queue must stay.
        limit = _DROP_ROWS + len(self._store.in_flight)
        columns = "id, stream, meta, first_seq, samples, readings, from_ms, to_ms, size"
        query = f"SELECT {columns} FROM batches WHERE gap IS NULL {condition} ORDER BY id LIMIT {limit}"  # noqa: S608
        rows = (Row(*row) for row in self._execute(query, arguments))
        return [row for row in rows if row.id not in self._store.in_flight][:_DROP_ROWS]

    def _drop(self, rows: list[Row], reason: str) -> None:
        for row in rows:
            stream = self._touch(row.stream)
            stream.dropped += row.readings
            self.dropped_devices.add(stream.device)
            self._leave(stream, row)
            fields = {
                "first_seq": row.first_seq, "last_seq": row.first_seq + row.samples - 1, "readings": row.readings,
                "from": row.from_ms, "to": row.to_ms,
            }  # fmt: skip
            self.record_gap(stream, self._store.meta(row.meta), Gap(self.now_ms, reason, fields))
        self._delete([row.id for row in rows])

    # The books.

    def write(self) -> None:
        """Write the gaps that grew, and the counters of every device that this transaction touched."""
        for key in list(self._grown):
            self._write_grown(key)
        self._store.connection.executemany(
            "UPDATE streams SET next_seq=?, sampled=?, suppressed=?, acked=?, dropped=?, committed_ms=?, age_ms=?"
            " WHERE id=?",
            [
                (s.next_seq, s.sampled, s.suppressed, s.acked, s.dropped, self.now_ms, self._store.age_ms, s.id)
                for s in map(self.tables.streams.__getitem__, sorted(self._touched))
            ],
        )

    def _touch(self, stream_id: int) -> Stream:
        """Give this transaction's own copy of a stream's counters."""
        if stream_id not in self._touched:
            self._touched.add(stream_id)
            self.tables.streams[stream_id] = copy.copy(self.tables.streams[stream_id])
        return self.tables.streams[stream_id]

    def _stream_of(self, device: str) -> Stream:
        known = self._store.stream_ids.get(device)
        if known in self.tables.streams:  # not if the transaction that made it was rolled back
            return self._touch(known)
        epoch = self._store.epoch
        stream_id = max(self.tables.streams, default=0) + 1
        self._execute(
            "INSERT INTO streams VALUES (?, ?, ?, 1, 0, 0, 0, 0, ?, ?)",
            (stream_id, epoch, device, self.now_ms, self._store.age_ms),
        )
        self.tables.streams[stream_id] = Stream(stream_id, epoch, device)
        self._store.stream_ids[device] = stream_id
        return self._touch(stream_id)

    def _meta_id(self, meta: Meta) -> int:
        labels = orjson.dumps(meta.labels, option=orjson.OPT_SORT_KEYS)
        key = (meta.id, meta.device, meta.topic, labels)
        if key not in self._store.metas:
            self._store.metas[key] = self._find_meta(meta, labels)
        return self._store.metas[key]

    def _find_meta(self, meta: Meta, labels: bytes) -> int:
        self._execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", (meta.topic, meta.device))
        found = self._execute(
            "SELECT id FROM metas WHERE hash = ? AND device = ? AND topic = ? AND labels = ?",
            (meta.id, meta.device, meta.topic, labels),
        ).fetchone()
        if found is not None:
            return int(found[0])
        cursor: sqlite3.Cursor = self._execute(
            "INSERT INTO metas(hash, device, topic, names, codes, labels, document) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (meta.id, meta.device, meta.topic, orjson.dumps(meta.names), orjson.dumps(meta.codes), labels,
             meta.document),
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def _leave(self, stream: Stream, row: "Row") -> None:
        stream.pending -= row.readings
        self.tables.rows -= 1
        self.tables.samples -= row.samples

    def _delete(self, ids: list[int]) -> None:
        ranges = _ranges(sorted(ids))
        for table in ("batches", "blobs"):
            delete = f"DELETE FROM {table} WHERE id BETWEEN ? AND ?"  # noqa: S608 -- our own words only
            self._store.connection.executemany(delete, ranges)


def _ranges(ids: list[int]) -> list[tuple[int, int]]:
    """Join ascending ids into closed ranges without holes."""
    breaks = [index for index, (left, right) in enumerate(pairwise(ids), 1) if right != left + 1]
    bounds = [0, *breaks, len(ids)]
    return [(ids[start], ids[end - 1]) for start, end in pairwise(bounds) if start < end]


def _continues(gap: Gap, more: Gap) -> bool:
    """Whether one record can tell both and still be exact."""
    if "first_seq" not in more.fields:
        return "first_seq" not in gap.fields
    return bool(gap.fields.get("last_seq") == more.fields["first_seq"] - 1)


def merge_gaps(gap: Gap, more: Gap) -> Gap:
    """Let one gap record tell both: counts add up, spans widen."""
    merged = dict(gap.fields)
    for key, value in more.fields.items():
        if key not in merged or merged[key] is None:
            merged[key] = value
        elif key in ("readings", "count"):
            merged[key] += value
        elif key == "from":
            merged[key] = min(merged[key], value)
        elif key == "to":
            merged[key] = max(merged[key], value)
        elif key == "tags":
            merged[key] = sorted({*merged[key], *value})
        elif key == "last_seq":
            merged[key] = value
    return replace(gap, fields=merged)
