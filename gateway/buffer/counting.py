"""What a file holds, counted when it is opened, as far as that can be done before polling has to begin."""

import sqlite3
from typing import Any, Final

from gateway.buffer import schema
from gateway.buffer.tables import ROW_BYTES, Tables

COUNT_SECONDS: Final = 1.0
"""For each of two tables. Of 3 million rows on a slow disk, the counters that were written with them tell."""
_PENDING: Final = "SELECT stream, meta, count(*), sum(samples), sum(readings) FROM batches GROUP BY 1, 2"
_KEPT: Final = "SELECT meta, count(*), sum(size) FROM kept GROUP BY 1"
_KEPT_ABOUT: Final = "SELECT coalesce(max(id) - min(id) + 1, 0) FROM kept"
_SIZE_ABOUT: Final = "SELECT coalesce(avg(size), 0) FROM (SELECT size FROM kept ORDER BY id LIMIT 1000)"


def count_rows(connection: sqlite3.Connection, tables: Tables) -> None:
    """Count the rows; metas that none of them needs are forgotten. Raises sqlite3.Error."""
    pending = _rows(connection, _PENDING)
    if pending is None:
        for stream in tables.streams.values():
            stream.pending = stream.sampled - stream.suppressed - stream.acked - stream.dropped
    else:
        _recount(tables, pending)
    tables.rows = sum(stream.rows for stream in tables.streams.values())
    tables.samples = sum(stream.samples for stream in tables.streams.values())
    (tables.past_rows,) = connection.execute("SELECT count(*) FROM batches WHERE id < 0").fetchone()
    kept = _rows(connection, _KEPT)
    _note_kept(connection, tables, kept)
    if pending is not None and kept is not None:
        used = ",".join(str(meta) for meta in {*(row[1] for row in pending), *(row[0] for row in kept)})
        connection.execute(f"DELETE FROM metas WHERE id NOT IN ({used})")  # noqa: S608 -- numbers only
    # Ids of blobs, since those of kept rows are not in `batches`.
    (last,) = connection.execute("SELECT max(id) FROM blobs").fetchone()
    tables.next_row = max(tables.next_row, (last or 0) + 1)
    (last,) = connection.execute("SELECT max(id) FROM blobs WHERE id < 0").fetchone()
    tables.next_past = tables.next_past if last is None else last + 1


def _rows(connection: sqlite3.Connection, query: str) -> list[Any] | None:
    return schema.bounded(connection, COUNT_SECONDS, lambda: connection.execute(query).fetchall())


def _recount(tables: Tables, pending: list[Any]) -> None:
    """Memory holds sums, the file holds the truth."""
    for stream in tables.streams.values():
        stream.rows = stream.samples = stream.pending = 0
    for number, _, rows, samples, readings in pending:
        if number not in tables.streams:
            raise schema.ForeignFileError("it holds rows of a device that it does not know")
        stream = tables.streams[number]
        stream.rows += rows
        stream.samples += samples
        stream.pending += readings


def _note_kept(connection: sqlite3.Connection, tables: Tables, kept: list[Any] | None) -> None:
    """Count what is kept, or estimate it: it gives way whenever it must."""
    if kept is None:
        (tables.kept_rows,) = connection.execute(_KEPT_ABOUT).fetchone()
        (size,) = connection.execute(_SIZE_ABOUT).fetchone()
        tables.kept_bytes = int(tables.kept_rows * (size + ROW_BYTES))
        return
    tables.kept_rows = sum(rows for _, rows, _ in kept)
    tables.kept_bytes = sum(size + rows * ROW_BYTES for _, rows, size in kept)
