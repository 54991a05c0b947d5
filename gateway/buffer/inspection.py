"""What lies in a buffer, for those who ask: counted, verified, read; nothing is changed, and nothing held as in flight.

Each step is short, so that the daemon's commits go on between two of them.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from gateway.buffer import codec, dead_letters, folder, schema
from gateway.buffer.kept import Resent
from gateway.buffer.stored import Stored
from gateway.buffer.tables import ROW, Row
from gateway.errors import StorageError
from gateway.model import Gap, Meta, Sample

STEP_ROWS: Final = 500
MOST_NAMED: Final = 100
"""Damaged rows and gap records that are listed one by one; all of them are counted."""
_COUNTERS: Final = ("sampled", "suppressed", "acked", "pending", "dropped", "resent")
_BY_STREAM: Final = """
SELECT stream, count(*), sum(samples), sum(readings), min(from_ms), sum(gap IS NOT NULL), sum(size),
    sum(CASE WHEN id <= ? THEN samples ELSE 0 END), sum(CASE WHEN id <= ? THEN readings ELSE 0 END)
FROM batches GROUP BY stream
"""


class Inspection:
    """Looks into an open buffer, or into a file that was set aside. Raises sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._execute = connection.execute
        self._connection = connection
        self._path = path
        self._metas: dict[int, Meta | None] = {}
        self._kept = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kept'").fetchone() is not None

    def info(self, boundary: int | None = None) -> dict[str, Any]:
        """Say what is stored, of which device, how old, and where every reading went.

        Rows up to `boundary` are sent as history in the present session; None: all of them will be in the next one.
        """
        upto = 1 << 62 if boundary is None else boundary
        (present,) = self._execute("SELECT epoch FROM identity").fetchone()
        pending = {row[0]: row[1:] for row in self._execute(_BY_STREAM, (upto, upto))}
        streams = self._streams()
        devices = [self._device(stream, pending.get(stream["id"], (0, 0, 0, None, 0, 0, 0, 0))) for stream in streams]
        return {
            "path": str(self._path),
            "epoch": present,
            "bytes": self._used_bytes(),
            "pending": _added_up(devices),
            "devices": [device for device in devices if device["epoch"] == present or device["pending_samples"]],
            "gaps": self._gaps(),
            "kept": self._kept_totals(),
            "dead_letters": dead_letters.info(self._connection),
            "set_aside": [_described(file) for file in folder.set_asides(self._path)],
        }

    def check(self, after: int) -> dict[str, Any]:
        """Verify the checksums of the rows that follow; `next` is where to go on, None at the end."""
        streams = {stream["id"]: stream["epoch"] for stream in self._streams()}
        query = f"SELECT {ROW}, gap FROM batches WHERE id > ? ORDER BY id LIMIT ?"  # noqa: S608 -- our own words only
        rows = self._execute(query, (after, STEP_ROWS)).fetchall()
        damaged = []
        for *columns, gap in rows:
            row = Row(*columns)
            if self._decode(row, gap, streams.get(row.stream, "")) is None:
                meta = self._meta(row.meta)
                last = row.first_seq + row.samples - 1
                named = {"epoch": streams.get(row.stream), "device": None if meta is None else meta.device}
                damaged.append({**named, "first_seq": row.first_seq, "last_seq": last})
        return {"rows": len(rows), "damaged": damaged, "next": rows[-1][0] if len(rows) == STEP_ROWS else None}

    def books(self, seconds: float | None = None) -> dict[str, Any]:
        """Hold the counters against the rows, and let SQLite check its file, for at most so many seconds."""
        pending = dict(self._execute("SELECT stream, sum(readings) FROM batches GROUP BY stream"))
        wrong = []
        for stream in self._streams():
            ledger = {**stream, "pending": pending.get(stream["id"], 0)}
            if unaccounted := _unaccounted(ledger):
                wrong.append({"epoch": stream["epoch"], "device": stream["device"], "unaccounted": unaccounted})
        tables = ("blobs", "batches", "kept") if self._kept else ("blobs", "batches")
        blobs, *rows = (self._execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)  # noqa: S608
        return {"ledger": wrong, "blobs_without_row": max(0, blobs - sum(rows)), "integrity": self._integrity(seconds)}

    def rows(self, after: int, readings: int) -> list[Stored]:
        """Give the intact rows that follow, about so many readings; none at the end."""
        streams = {stream["id"]: stream["epoch"] for stream in self._streams()}
        found: list[Stored] = []
        count = 0
        query = f"SELECT {ROW}, gap FROM batches WHERE id > ? ORDER BY id"  # noqa: S608 -- our own words only
        with closing(self._execute(query, (after,))) as cursor:
            for *columns, gap in cursor:
                row = Row(*columns)
                meta, epoch = self._meta(row.meta), streams.get(row.stream, "")
                samples = self._decode(row, gap, epoch)
                if samples is not None and meta is not None:
                    found.append(Stored(row.id, epoch, meta, row.first_seq, samples, row.readings))
                count += row.readings + 1
                if count >= readings and found:
                    break
        return found

    def _streams(self) -> list[dict[str, Any]]:
        resent = "resent" if self._kept else "0"
        query = f"SELECT id, epoch, device, sampled, suppressed, acked, dropped, {resent} FROM streams ORDER BY epoch, device"  # noqa: S608, E501 -- our own words only
        names = ("id", "epoch", "device", "sampled", "suppressed", "acked", "dropped", "resent")
        return [dict(zip(names, row, strict=True)) for row in self._execute(query)]

    def _device(self, stream: dict[str, Any], totals: tuple[Any, ...]) -> dict[str, Any]:
        rows, samples, readings, oldest, gaps, size, old_samples, old_readings = totals
        ledger = {name: {**stream, "pending": readings}[name] for name in _COUNTERS}
        return {
            "device": stream["device"], "epoch": stream["epoch"], "pending_rows": rows, "pending_samples": samples,
            "pending_readings": readings, "oldest_ms": oldest, "gaps": gaps, "blob_bytes": size,
            "lanes": {
                "live": {"samples": samples - old_samples, "readings": readings - old_readings},
                "history": {"samples": old_samples, "readings": old_readings},
            },
            "ledger": {**ledger, "unaccounted": _unaccounted(ledger)},
        }  # fmt: skip

    def _gaps(self) -> list[dict[str, Any]]:
        """Give the gap records that wait, the newest last."""
        streams = {stream["id"]: stream for stream in self._streams()}
        query = f"SELECT {ROW}, gap FROM batches WHERE gap IS NOT NULL ORDER BY id DESC LIMIT ?"  # noqa: S608 -- ours
        found = []
        for *columns, blob in self._execute(query, (MOST_NAMED,)):
            row = Row(*columns)
            stream = streams[row.stream]
            samples = self._decode(row, blob, stream["epoch"])
            if samples is not None and isinstance(samples[0], Gap):
                gap = samples[0]
                named = {"device": stream["device"], "seq": row.first_seq, "ts": gap.ts, "reason": gap.reason}
                found.append({**named, **gap.fields})
        return found[::-1]

    def _kept_totals(self) -> dict[str, Any]:
        if not self._kept:
            return {"samples": 0, "readings": 0, "from_ms": None, "to_ms": None}
        query = "SELECT coalesce(sum(samples), 0), coalesce(sum(readings), 0), min(from_ms), max(to_ms) FROM kept"
        return dict(zip(("samples", "readings", "from_ms", "to_ms"), self._execute(query).fetchone(), strict=True))

    def _used_bytes(self) -> int:
        pages, free = (self._execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count"))
        return int(pages - free) * schema.PAGE_BYTES

    def _decode(self, row: Row, gap: bytes | None, epoch: str) -> tuple[Sample | Gap, ...] | None:
        meta = self._meta(row.meta)
        found = self._execute("SELECT blob FROM blobs WHERE id = ?", (row.id,)).fetchone()
        for copy in (b"" if found is None else found[0], gap):
            with suppress(codec.CorruptBlobError):
                if meta is not None and copy is not None:
                    frame = codec.unseal(copy, epoch=epoch, device=meta.device, seq=row.first_seq)
                    return codec.unpack(frame, meta) if gap is None else (codec.unpack_gap(frame),)
        return None

    def _meta(self, number: int) -> Meta | None:
        if number not in self._metas:
            row = self._execute("SELECT blob FROM metas WHERE id = ?", (number,)).fetchone()
            self._metas[number] = None
            with suppress(codec.CorruptBlobError):
                self._metas[number] = codec.unpack_meta(b"" if row is None else row[0])
        return self._metas[number]

    def _integrity(self, seconds: float | None) -> str:
        def check() -> str:
            return str(self._execute("PRAGMA integrity_check(1)").fetchone()[0])

        if seconds is None:
            return check()
        return schema.bounded(self._connection, seconds, check) or f"not finished within {seconds:g} s"


class Lone:
    """A file that no gateway uses, asked as a running buffer is."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._look = Inspection(connection, path)
        self._path = path

    async def inspect(self, work: Callable[[Inspection], Any]) -> Any:
        """Look into the file. Raises StorageError."""
        try:
            return work(self._look)
        except sqlite3.Error as error:
            do = "Start the gateway: it sets the file aside, and takes over what can be read."
            raise StorageError(f"{self._path}: {error}", do=do) from error

    async def resend(self, device: str, from_ms: int, to_ms: int) -> Resent:
        """Refuse: a file that is only looked into is not changed."""
        raise StorageError(f"{self._path}: nothing is sent again from a file that is only looked into")


@contextmanager
def open_alone(path: Path) -> Iterator[Lone]:
    """Open a file that no gateway uses, to look into it. Raises StorageError if there is none, or it is no buffer."""
    has_wal = folder.has_wal(path)
    try:
        if schema.is_new(path):
            raise StorageError(f"{path}: there is no buffer", do="Check buffer.path, or start the gateway.")
        connection = schema.connect(path)
    except (sqlite3.Error, OSError) as error:
        raise _not_readable(path, error) from error
    try:
        yield Lone(connection, path)
    except sqlite3.Error as error:
        raise _not_readable(path, error) from error
    finally:
        if has_wal:
            schema.note_visit(connection)
        connection.close()


def _not_readable(path: Path, error: Exception) -> StorageError:
    return StorageError(f"{path}: {error}", do="Check buffer.path and the rights of its folder.")


def _unaccounted(ledger: dict[str, Any]) -> int:
    spent = sum(ledger[name] for name in ("suppressed", "acked", "pending", "dropped"))
    return int(ledger["sampled"] - spent)


def _added_up(devices: Iterable[dict[str, Any]]) -> dict[str, Any]:
    each = list(devices)
    oldest = [device["oldest_ms"] for device in each if device["oldest_ms"] is not None]
    totals = {name: sum(device[f"pending_{name}"] for device in each) for name in ("rows", "samples", "readings")}
    return {**totals, "oldest_ms": min(oldest, default=None)}


def _described(file: Path) -> dict[str, Any]:
    return {"file": file.name, "bytes": file.stat().st_size}
