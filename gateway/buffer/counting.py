"""What a file holds, counted when it is opened: memory holds sums, the file holds the truth."""

import sqlite3

from gateway.buffer import schema
from gateway.buffer.tables import ROW_BYTES, Tables


def count_rows(connection: sqlite3.Connection, tables: Tables) -> None:
    """Count the rows in one pass; metas that none of them needs are forgotten. Raises sqlite3.Error."""
    execute, metas = connection.execute, set[int]()
    totals = "SELECT stream, meta, count(*), sum(samples), sum(readings), sum(id < 0) FROM batches GROUP BY 1, 2"
    for stream, meta, rows, samples, readings, past in execute(totals):
        if stream not in tables.streams:
            raise schema.ForeignFileError("it holds rows of a device that it does not know")
        tables.streams[stream].pending += readings
        tables.rows += rows
        tables.samples += samples
        tables.past_rows += past
        metas.add(meta)
    for meta, rows, size in execute("SELECT meta, count(*), sum(size) FROM kept GROUP BY 1"):
        tables.kept_rows += rows
        tables.kept_bytes += size + rows * ROW_BYTES
        metas.add(meta)
    # Ids of blobs, since those of kept rows are not in `batches`; nothing lies between the two kinds of ids.
    (last,) = execute("SELECT max(id) FROM blobs").fetchone()
    tables.next_row = max(tables.next_row, (last or 0) + 1)
    (last,) = execute("SELECT max(id) FROM blobs WHERE id < 0").fetchone()
    tables.next_past = tables.next_past if last is None else last + 1
    execute(f"DELETE FROM metas WHERE id NOT IN ({','.join(map(str, metas))})")  # noqa: S608 -- numbers only
