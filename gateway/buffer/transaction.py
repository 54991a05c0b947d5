"""What one commit does to the buffer: append, acknowledge, drop; on copies, taken over once it is on disk."""

import copy
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gateway.buffer import bookmarks, codec, kept
from gateway.buffer.cutting import cut
from gateway.buffer.gaps import continues, merge_gaps, span_of
from gateway.buffer.ranges import ranges_of
from gateway.buffer.room import Room
from gateway.buffer.stored import FIRST
from gateway.buffer.tables import OpenGap, Row, Stream
from gateway.model import Batch, Gap, Meta, Sample

if TYPE_CHECKING:
    from gateway.buffer.store import Store


class Transaction:
    """The work between BEGIN and COMMIT. `tables` is a copy of the store's; the store takes it over on success."""

    def __init__(self, store: "Store", now_ms: int) -> None:
        self.now_ms = now_ms
        self.tables = store.tables.copy()
        self.dropped_devices: set[str] = set()
        self._store = store
        self.age_ms = store.age_ms
        self.execute = store.connection.execute
        self.execute_many = store.connection.executemany
        self.room = Room(self, store)
        self._touched: set[int] = set()
        self._grown: set[tuple[int, str]] = set()
        self._bookmarks: bookmarks.Changes = {}

    # Acknowledged rows leave.

    def acknowledge(self, ids: Collection[int]) -> None:
        """Delete rows that the broker has."""
        # Once each: samples of one row may have been in several messages, each of them acknowledged.
        rows = [row for row in map(self._store.in_flight.get, set(ids)) if row is not None]
        for row in rows:
            stream = self.touch(row.stream)
            stream.acked += row.readings
            stream.resent += row.resent
            self.leave(stream, row)
        ranges = ranges_of(row.id for row in rows)
        if self._store.limits.keep_acked:
            kept.keep(self, rows, ranges)
            self.delete(ranges, tables=("batches",))
        else:
            self.delete(ranges)

    # New batches come.

    def append(self, batch: Batch) -> None:
        """Number and store the batch's gaps and samples, and count its readings."""
        self.meta_id(batch.meta)  # before any seq is given: it may have to make room
        stream = self._stream_of(batch.meta.device)
        if stream.next_seq == 1 and self._store.identity.succeeds:
            lost = {
                "previous_epoch": self._store.identity.previous, "last_seq": self._store.last_seqs.get(stream.device)
            }  # fmt: skip
            self.record_gap(stream, batch.meta, Gap(self.now_ms, "buffer-lost", lost))
        stream.sampled += batch.sampled
        stream.suppressed += batch.suppressed
        stream.dropped += batch.dropped
        if batch.dropped:
            self.dropped_devices.add(stream.device)
        for gap in batch.gaps:
            self.record_gap(stream, batch.meta, gap)
        if batch.samples:
            self._append_samples(stream, batch.meta, batch.samples)
        self._bookmarks |= {(stream.device, name): value for name, value in batch.bookmarks.items()}

    def _append_samples(self, stream: Stream, meta: Meta, samples: tuple[Sample, ...]) -> None:
        try:
            pieces = cut(meta, samples)
            frame = codec.pack(meta, pieces)
        except codec.UNSTORABLE as error:
            self._refuse(stream, meta, samples, "not-storable", {"error": str(error)})
            return
        if not self.room.make(len(frame)):
            self._refuse(stream, meta, samples, "buffer-full", {})
            return
        readings = sum(piece.readings for piece in pieces)
        times = [sample.ts for sample in samples]
        self._insert(stream, meta, len(pieces), readings, (min(times), max(times)), frame)
        stream.pending += readings

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
        self, stream: Stream, meta: Meta, samples: int, readings: int, span: tuple[int, int], frame: bytes, *,
        is_gap: bool = False,
    ) -> int:  # fmt: skip
        """Give the stream's next seqs to what is in the frame, and store it; give the row's id."""
        row, seq = self.tables.next_row, stream.next_seq
        blob = codec.seal(frame, epoch=stream.epoch, device=stream.device, seq=seq)
        self.execute(
            "INSERT INTO batches VALUES (?,?,?,?,?,?,?,?,?,?,?,0)",
            (row, stream.id, self.meta_id(meta), seq, samples, readings, *span, self.age_ms, len(blob),
             blob if is_gap else None),
        )  # fmt: skip
        self.execute("INSERT INTO blobs VALUES (?, ?)", (row, blob))
        self.tables.next_row += 1
        self.come(stream, samples)
        stream.next_seq += samples
        return row

    def come(self, stream: Stream, samples: int) -> None:
        """Count a row that begins to wait."""
        self.tables.rows += 1
        self.tables.samples += samples
        stream.rows += 1
        stream.samples += samples

    # Gaps grow until they are given out.

    def record_gap(self, stream: Stream, meta: Meta, gap: Gap) -> None:
        """Let the device's open gap of this reason grow by `gap`, or begin a new one that gets the next seq."""
        key = (stream.id, gap.reason)
        known = self.tables.open_gaps.get(key)
        if known is not None and continues(known.gap, gap):
            self.tables.open_gaps[key] = replace(known, gap=merge_gaps(known.gap, gap))
            self._grown.add(key)
            return
        self._write_grown(key)
        seq = stream.next_seq
        row = self._insert(stream, meta, 1, 0, (gap.ts, gap.ts), codec.pack_gap(gap), is_gap=True)
        self.tables.open_gaps[key] = OpenGap(row, stream.id, seq, gap)

    def _write_grown(self, key: tuple[int, str]) -> None:
        if key not in self._grown:
            return
        self._grown.discard(key)
        gap = self.tables.open_gaps[key]
        stream = self.tables.streams[gap.stream]
        frame = codec.pack_gap(gap.gap)
        blob = codec.seal(frame, epoch=stream.epoch, device=stream.device, seq=gap.seq)
        self.execute("UPDATE batches SET gap = ? WHERE id = ?", (blob, gap.row))
        self.execute("UPDATE blobs SET blob = ? WHERE id = ?", (blob, gap.row))

    # What gives way.

    def drop_condemned(self, rows: Iterable[tuple[Row, str]]) -> None:
        """Drop rows that cannot be read back."""
        for reason in {why for _, why in rows}:
            self.drop([row for row, why in rows if why == reason], reason)

    def expire(self) -> None:
        """Drop what has waited longer than `max_age`, in time that the gateway ran."""
        kept.expire(self, self._store.limits.keep_acked)
        if self._store.limits.max_age is None:
            return
        horizon = self.age_ms - int(self._store.limits.max_age * 1000)
        left = kept.MOST_EXPIRED
        # Ages ascend with ids, so the oldest rows tell: nothing scans a million rows to find that none is due.
        for after in (FIRST, 0):  # rows from before first, then all others: each by themselves
            while left and (rows := [row for row in self.room.oldest(after) if row.age_ms < horizon]):
                self.drop(rows, "expired")
                left -= 1

    def drop(self, rows: list[Row], reason: str) -> None:
        """Let rows go, and tell why."""
        for row in rows:
            stream = self.touch(row.stream)
            stream.dropped += row.readings
            self.dropped_devices.add(stream.device)
            self.leave(stream, row)
            if not row.resent:  # which was delivered once: that it does not go again is no loss
                self.tell(stream, self._store.meta(row.meta), Gap(self.now_ms, reason, span_of(row)))
        self.delete(ranges_of(row.id for row in rows))

    def tell(self, stream: Stream, meta: Meta, gap: Gap) -> None:
        """Let a gap record tell of what a stream lost, in the present epoch."""
        if stream.epoch == self._store.epoch:
            self.record_gap(stream, meta, gap)
        else:  # which gives no seqs any more: what this file knows of its last one may be out of date
            told = replace(gap, fields={"previous_epoch": stream.epoch, **gap.fields})
            self.append(Batch(meta, (), 0, gaps=(told,)))

    # The books.

    def write(self, committed_ms: int | None) -> None:
        """Write the gaps that grew, and the counters of every device that this transaction touched.

        `committed_ms` is the time until which somebody read the devices; None if that is not why there is a commit.
        """
        for key in list(self._grown):
            self._write_grown(key)
        bookmarks.write(self._store.connection, self._store.epoch, self._bookmarks)
        self.execute_many(
            "UPDATE streams SET next_seq=?, sampled=?, suppressed=?, acked=?, dropped=?, resent=?, pending_rows=?,"
            " pending_samples=?, committed_ms=coalesce(?, committed_ms), age_ms=? WHERE id=?",
            [
                (
                    s.next_seq,
                    s.sampled,
                    s.suppressed,
                    s.acked,
                    s.dropped,
                    s.resent,
                    s.rows,
                    s.samples,
                    committed_ms,
                    self.age_ms,
                    s.id,
                )
                for s in self.touched
            ],
        )

    @property
    def touched(self) -> Iterable[Stream]:
        """The streams whose counters changed."""
        return map(self.tables.streams.__getitem__, sorted(self._touched))

    def touch(self, stream_id: int) -> Stream:
        """Give this transaction's own copy of a stream's counters."""
        if stream_id not in self._touched:
            self._touched.add(stream_id)
            self.tables.streams[stream_id] = copy.copy(self.tables.streams[stream_id])
        return self.tables.streams[stream_id]

    def _stream_of(self, device: str) -> Stream:
        known = self.tables.stream_ids.get(device)
        if known is not None:
            return self.touch(known)
        stream = self.new_stream(self._store.epoch, device)
        self.tables.stream_ids[device] = stream.id
        return stream

    def new_stream(self, epoch: str, device: str) -> Stream:
        """Begin to number a device's samples in an epoch."""
        stream_id = max(self.tables.streams, default=0) + 1
        self.execute(
            "INSERT INTO streams VALUES (?, ?, ?, 1, 0, 0, 0, 0, ?, ?, 0, 0, 0)",
            (stream_id, epoch, device, self.now_ms, self.age_ms),
        )
        self.tables.streams[stream_id] = Stream(stream_id, epoch, device)
        return self.touch(stream_id)

    def meta_id(self, meta: Meta) -> int:
        """Give the row of a meta, which is made if there is none."""
        # By all that there is to it: should tags change places under one hash, values must not change names.
        if meta not in self._store.metas:
            self._store.metas[meta] = self._find_meta(meta)
        return self._store.metas[meta]

    def latest_meta(self, device: str) -> Meta | None:
        """Give the meta with which something of a device was stored last; None if there is none any more."""
        found = self.execute("SELECT id FROM metas ORDER BY id DESC").fetchall()
        return next((meta for (row,) in found if (meta := self._store.meta(row)).device == device), None)

    def _find_meta(self, meta: Meta) -> int:
        self.execute("INSERT OR REPLACE INTO topics VALUES (?, ?)", (meta.topic, meta.device))
        self.tables.topics[meta.topic] = meta.device
        blob = codec.pack_meta(meta)
        found = self.execute("SELECT id FROM metas WHERE blob = ?", (blob,)).fetchone()
        if found is not None:
            return int(found[0])
        self.room.make(len(blob))
        cursor: sqlite3.Cursor = self.execute("INSERT INTO metas(blob) VALUES (?)", (blob,))
        return int(cursor.lastrowid or 0)

    def leave(self, stream: Stream, row: Row) -> None:
        """Count a row as gone."""
        stream.pending -= row.readings
        self.tables.rows -= 1
        self.tables.past_rows -= row.id < 0
        self.tables.samples -= row.samples
        stream.rows -= 1
        stream.samples -= row.samples

    def delete(self, ranges: list[tuple[int, int]], tables: tuple[str, ...] = ("batches", "blobs")) -> None:
        """Delete rows by ranges of ids."""
        for table in tables:
            self.execute_many(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", ranges)  # noqa: S608 -- our own words
