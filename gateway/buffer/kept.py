"""Acknowledged rows that stay for `buffer resend`: the first to go when room is needed, or when their time is over."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.buffer.tables import ROW_BYTES, Row

if TYPE_CHECKING:
    from gateway.buffer.store import Store
    from gateway.buffer.transaction import Transaction

_ROWS: Final = 128
MOST_EXPIRED: Final = 32
"""How many times some rows leave in one commit: a shorter `keep_acked` or `max_age` must not stop it for seconds."""
_RESENT: Final = 512
_RESENT_BYTES: Final = 128 << 10
"""In one commit: half of the reserve (see `Room`), since blobs that move leave holes in their pages at first."""
_COPY: Final = """
INSERT INTO kept(row, stream, meta, first_seq, samples, readings, from_ms, to_ms, age_ms, size, gap)
SELECT id, stream, meta, first_seq, samples, readings + resent, from_ms, to_ms, ?, size, gap
FROM batches WHERE id BETWEEN ? AND ? ORDER BY id
"""
_CHOSEN: Final = """
SELECT kept.id, row, stream, meta, first_seq, samples, readings, from_ms, to_ms, size, gap
FROM kept JOIN streams ON streams.id = stream
WHERE kept.id > ? AND kept.id <= ? AND device = ? AND to_ms >= ? AND from_ms <= ? ORDER BY kept.id LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Span:
    """What is to be sent again: of one device, what lies between two instants, ms; of what was kept up to `upto`."""

    device: str
    from_ms: int
    to_ms: int
    upto: int


@dataclass(frozen=True, slots=True)
class Resent:
    """How far a resend came, and how much it sent again; `after` is None at its end."""

    after: int | None
    samples: int
    readings: int


def keep(transaction: "Transaction", rows: Sequence[Row], ranges: Sequence[tuple[int, int]]) -> None:
    """Let acknowledged rows stay; their blobs do not move."""
    transaction.execute_many(_COPY, [(transaction.age_ms, *bounds) for bounds in ranges])
    transaction.tables.kept_rows += len(rows)
    transaction.tables.kept_bytes += sum(row.size + ROW_BYTES for row in rows)


def expire(transaction: "Transaction", keep_acked: float) -> None:
    """Forget what was acknowledged longer ago than `keep_acked` seconds, in time that the gateway ran."""
    horizon = transaction.age_ms - int(keep_acked * 1000)
    for _ in range(MOST_EXPIRED):
        due = [entry for entry in _oldest(transaction) if entry[3] <= horizon]
        _forget(transaction, due)
        if len(due) < _ROWS:
            return


def give_way(transaction: "Transaction") -> bool:
    """Forget the oldest for the sake of what was not delivered yet; False if there is nothing left."""
    oldest = _oldest(transaction)
    _forget(transaction, oldest)
    if not oldest:
        transaction.tables.kept_rows = transaction.tables.kept_bytes = 0  # they may have been estimated
    return bool(oldest)


def newest(store: "Store") -> int:
    """Give the place of what was acknowledged last."""
    (last,) = store.connection.execute("SELECT coalesce(max(id), 0) FROM kept").fetchone()
    return int(last)


def resend_some(store: "Store", span: Span, done: Resent, now_ms: int) -> Resent:
    """Let some more of a span wait again under its old names, in one durable transaction."""
    return store.transact(lambda transaction: _resend(transaction, span, done), now_ms)


def _resend(transaction: "Transaction", span: Span, done: Resent) -> Resent:
    # A full buffer has the reserve of pages for a step, which must be whole when the next one begins.
    while transaction.room.free_bytes() < 0 and give_way(transaction):
        pass
    chosen = _choose(transaction, span, done)
    samples, readings = done.samples, done.readings
    for entry in sorted(chosen, key=lambda entry: (entry[2], entry[4])):  # by device and seq
        _, old, stream, meta, seq, count, counted, since, until, size, gap = entry
        place, age = transaction.tables.next_past, transaction.age_ms
        row = Row(place, stream, meta, seq, count, 0, since, until, age, size, counted)
        insert_past(transaction, row, gap)
        transaction.execute("UPDATE blobs SET id = ? WHERE id = ?", (row.id, old))
        _forget(transaction, [(entry[0], old, size, 0)])
        samples, readings = samples + count, readings + counted
    return Resent(chosen[-1][0] if chosen else None, samples, readings)


def _choose(transaction: "Transaction", span: Span, done: Resent) -> list[tuple[Any, ...]]:
    """Give what comes next of a span, of about `_RESENT_BYTES`."""
    query = (done.after, span.upto, span.device, span.from_ms, span.to_ms, _RESENT)
    chosen: list[tuple[Any, ...]] = []
    size = 0
    with closing(transaction.execute(_CHOSEN, query)) as cursor:
        for entry in cursor:
            chosen.append(entry)
            size += entry[9] + ROW_BYTES
            if size >= _RESENT_BYTES:
                break
    return chosen


def insert_past(transaction: "Transaction", row: Row, gap: bytes | None) -> None:
    """Store a row from before (see `past`), whose blob the caller puts beside it, under the next id."""
    transaction.execute(
        "INSERT INTO batches VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        (row.id, row.stream, row.meta, row.first_seq, row.samples, row.readings, row.from_ms, row.to_ms, row.age_ms,
         row.size, gap, row.resent),
    )  # fmt: skip
    transaction.tables.next_past += 1
    transaction.tables.past_rows += 1
    transaction.come(transaction.touch(row.stream), row.samples)


def _oldest(transaction: "Transaction") -> list[tuple[int, int, int, int]]:
    """Give id, row, size and age of those that were acknowledged first."""
    if not transaction.tables.kept_rows:
        return []
    return transaction.execute("SELECT id, row, size, age_ms FROM kept ORDER BY id LIMIT ?", (_ROWS,)).fetchall()


def _forget(transaction: "Transaction", entries: Sequence[tuple[int, int, int, int]]) -> None:
    transaction.execute_many("DELETE FROM kept WHERE id = ?", [(entry[0],) for entry in entries])
    transaction.execute_many("DELETE FROM blobs WHERE id = ?", [(entry[1],) for entry in entries])
    transaction.tables.kept_rows -= len(entries)
    transaction.tables.kept_bytes -= sum(entry[2] + ROW_BYTES for entry in entries)
