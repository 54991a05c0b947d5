"""A file that was set aside, read past its damage: each row that is whole, and what can be told of the others.

SQLite reads a table page by page and fails at the first that is damaged. So reading goes on at the next id that can
be reached again, which is found by doubling steps and then by halving them. Nothing is believed that its checksum
does not bear out.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.buffer import codec, schema
from gateway.buffer.past import Chunk, Found, Loss
from gateway.buffer.stored import FIRST
from gateway.buffer.tables import FIRST_PAST, Row
from gateway.model import Gap, Meta, Sample

_OLDEST_MS: Final = 100 * 365 * 86_400_000
END: Final = 1 << 62
"""Beyond every id: all of the file was read."""
CHUNK_ROWS: Final = 256
_UNREADABLE: Final = ("SQLITE_IOERR_READ", "SQLITE_IOERR_SHORT_READ", "SQLITE_ERROR")
_DAMAGED: Final = object()
_COLUMNS: Final = "id, stream, meta, first_seq, samples, readings, from_ms, to_ms, age_ms, size"


class Wreck:
    """An open file that was set aside. Raises sqlite3.Error or OSError where not damage but the disk is to blame."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._connection = _connect(path)
        version = self._value("PRAGMA user_version", 0)
        self.epoch = _text(self._value("SELECT epoch FROM identity", None))
        self.machine_id = _text(self._value("SELECT machine_id FROM identity", None))
        self._age = _number(self._value("SELECT max(age_ms) FROM streams", 0))
        streams = self._everything("SELECT id, epoch, device, next_seq FROM streams WHERE id > ? ORDER BY id LIMIT ?")
        self._streams = {row[0]: (row[1], row[2], row[3]) for row in streams if _is_stream(row)}
        self._metas = dict(self._readable_metas())
        resent = "resent" if version > 1 else "0"
        wanted = f"SELECT {_COLUMNS}, {resent}, gap FROM batches"  # noqa: S608 -- our own words only
        self._rows = f"{wanted} WHERE id > ? ORDER BY id LIMIT ?"

    def close(self) -> None:
        """Close it."""
        self._connection.close()

    @property
    def metas(self) -> dict[str, Meta]:
        """The latest meta of each device that can be read."""
        return {meta.device: meta for meta in self._metas.values()}

    def read(self, after: int, seen: bytes, most: int) -> Chunk:
        """Give what comes next, of about `most` bytes; `seen` is what the chunk before noted, empty at first."""
        places = _Places(self._streams.values(), seen)
        found: list[Found] = []
        losses: list[Loss] = []
        rows, damaged = self._page(self._rows, after, CHUNK_ROWS)
        upto, size, is_whole = after, 0, len(rows) < CHUNK_ROWS
        for *columns, resent, gap in rows:
            if size > most:
                damaged = is_whole = False  # what lies there is met by the next chunk
                break
            upto = columns[0]
            if not resent:  # else the broker had it
                self._examine(Row(*columns), gap, places, found, losses)
            size = sum(each.row.size for each in found)
        if damaged:
            places.tear()
            upto = self._beyond("batches", upto)
        elif is_whole:
            upto = END
        if upto == END:
            losses += places.at_the_end()
        return Chunk(self.name, upto, places.note(), found, losses, self.metas, places.unread)

    def _examine(self, row: Row, gap: bytes | None, places: "_Places", found: list[Found], losses: list[Loss]) -> None:
        """Take a row if it is whole; if it is not, tell what is lost, as far as it can be known."""
        epoch, device, _ = self._streams.get(row.stream, (None, None, 0))
        whole = self._verify(row, gap, epoch)
        places.unread |= whole is None and self._is_unread(row, epoch, device)
        if whole is not None:
            losses += places.meet(whole.epoch, whole.meta.device, whole.row.first_seq, whole.row.samples)
            found.append(whole)
        elif epoch is None or not places.is_credible(epoch, device, row):
            places.tear()
        else:
            losses += places.meet(epoch, device, row.first_seq, row.samples)
            more = {"readings": row.readings, "from": row.from_ms, "to": row.to_ms}
            losses.append(Loss(epoch, device, row.first_seq, row.first_seq + row.samples - 1, more))

    def _verify(self, row: Row, gap: bytes | None, epoch: str | None) -> Found | None:
        meta = self._metas.get(row.meta)
        epoch = epoch or self.epoch
        if meta is None or epoch is None:
            return None
        blob = self._value("SELECT blob FROM blobs WHERE id = ?", None, row.id)
        copies = [copy for copy in (blob, gap) if isinstance(copy, bytes)]
        for copy in copies:
            try:
                frame = codec.unseal(copy, epoch=epoch, device=meta.device, seq=row.first_seq)
                samples = codec.unpack(frame, meta) if gap is None else (codec.unpack_gap(frame),)
            except codec.CorruptBlobError:
                continue
            return Found(epoch, meta, self._measured(row, samples, len(copy)), copy, None if gap is None else copy)
        return None

    def _is_unread(self, row: Row, epoch: str | None, device: str | None) -> bool:
        """Whether a row is whole, but for its meta."""
        blob = self._value("SELECT blob FROM blobs WHERE id = ?", None, row.id)
        if row.meta in self._metas or epoch is None or device is None or not isinstance(blob, bytes):
            return False
        try:
            codec.unseal(blob, epoch=epoch, device=device, seq=row.first_seq)
        except codec.CorruptBlobError:
            return False
        return True

    def _measured(self, row: Row, samples: tuple[Sample | Gap, ...], size: int) -> Row:
        """Describe a row by what is in it: its columns have no checksum."""
        times = [sample.ts for sample in samples]
        readings = sum(sample.readings for sample in samples if isinstance(sample, Sample))
        age = min(max(0, self._age - _number(row.age_ms)), _OLDEST_MS)
        return Row(row.id, 0, 0, row.first_seq, len(samples), readings, min(times), max(times), age, size)

    # Reading past damage.

    def _value(self, query: str, otherwise: Any, *arguments: object) -> Any:
        try:
            row = self._connection.execute(query, arguments).fetchone()
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            return otherwise
        return otherwise if row is None else row[0]

    def _page(self, query: str, after: int, limit: int) -> tuple[list[Any], bool]:
        """Give rows up to the first that cannot be read, and whether there was one. Their ids ascend."""
        rows: list[Any] = []
        try:
            for row in self._connection.execute(query, (after, limit)):
                if not isinstance(row[0], int) or row[0] <= (rows[-1][0] if rows else after):
                    return rows, True
                rows.append(row)
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise
            return rows, True
        return rows, False

    def _everything(self, query: str) -> list[Any]:
        """Give all readable rows of a small table."""
        table = query.partition("FROM ")[2].partition(" ")[0]
        found: list[Any] = []
        after = FIRST
        while after < END:
            rows, damaged = self._page(query, after, CHUNK_ROWS)
            found += rows
            after = rows[-1][0] if rows else after
            if damaged:
                after = self._beyond(table, after)
            elif len(rows) < CHUNK_ROWS:
                break
        return found

    def _readable_metas(self) -> Iterator[tuple[int, Meta]]:
        for number, blob in self._everything("SELECT id, blob FROM metas WHERE id > ? ORDER BY id LIMIT ?"):
            try:
                yield number, codec.unpack_meta(blob)
            except (codec.CorruptBlobError, TypeError):
                continue

    def _beyond(self, table: str, after: int) -> int:
        """Give the id after which reading goes on, past what cannot be read right after `after`; END if nowhere."""
        if (first := self._next(table, after)) is not None:
            return first  # its place is known, the row itself cannot be read
        starts = [after, *(start for start in (FIRST_PAST - 1, 0) if start > after)]
        for start, end in pairwise([*starts, END]):
            if (found := self._search(table, start, end)) is not None:
                return found
        return END

    def _search(self, table: str, start: int, end: int) -> int | None:
        """Give the first id from `start` on, and before `end`, after which rows can be read; None if there is none."""
        failing, step = start - 1, 0
        while start + step < end and self._next(table, start + step) is None:
            failing, step = start + step, 2 * step or 1
        if start + step >= end:
            return None
        working = start + step
        while working - failing > 1:
            middle = (failing + working) // 2
            if self._next(table, middle) is None:
                failing = middle
            else:
                working = middle
        return working

    def _next(self, table: str, after: int) -> int | None:
        """Give the id of the row that follows, END if there is none; None if that cannot be read."""
        query = f"SELECT min(id) FROM {table} WHERE id > ?"  # noqa: S608 -- our own words only
        found = self._value(query, _DAMAGED, after)
        if found is None:
            return END
        return found if isinstance(found, int) and found > after else None


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file. Raises LostFirstPageError if what says where its tables are cannot be read."""
    connection = None
    try:
        connection = schema.connect(path)
        for table in ("identity", "streams", "metas", "batches", "blobs"):
            connection.execute(f"EXPLAIN SELECT * FROM {table}").fetchone()  # noqa: S608 -- our own words only
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        if not _is_damage(error):
            raise
        raise schema.LostFirstPageError from error
    return connection


def _is_stream(row: tuple[Any, ...]) -> bool:
    """Whether the columns of a stream are of their types: no checksum is over them."""
    _, epoch, device, next_seq = row
    return isinstance(epoch, str) and isinstance(device, str) and isinstance(next_seq, int)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


class _Places:
    """How far each device's seqs were met, and where rows may be missing since."""

    def __init__(self, streams: Iterable[tuple[str, str, int]], seen: bytes) -> None:
        self._ends = {(epoch, device): next_seq for epoch, device, next_seq in streams}
        self._last: dict[tuple[str, str], int | None] = {}
        self._torn: set[tuple[str, str]] = set()
        self.unread = False
        """Whether a row was met that is whole, but for its meta."""
        for epoch, device, last, torn in orjson.loads(seen) if seen else ():
            self._last[epoch, device] = last
            if torn:
                self._torn.add((epoch, device))

    def note(self) -> bytes:
        """Write it down for the next chunk."""
        keys = {*self._last, *self._torn}
        return orjson.dumps([[*key, self._last.get(key), key in self._torn] for key in sorted(keys)])

    def tear(self) -> None:
        """Some rows could not be read, of which device nobody knows."""
        self._torn |= {*self._ends, *self._last}

    def is_credible(self, epoch: str, device: str, row: Row) -> bool:
        """Whether a row that is damaged says of itself what may be true."""
        last, end = self._last.get((epoch, device)) or 0, self._ends[epoch, device]
        numbers = (row.first_seq, row.samples, row.readings, row.from_ms, row.to_ms)
        if not all(isinstance(number, int) for number in numbers):
            return False
        return last < row.first_seq < row.first_seq + row.samples <= end

    def meet(self, epoch: str, device: str, first_seq: int, samples: int) -> Iterator[Loss]:
        """Come to a row; give what may be missing before it."""
        key = (epoch, device)
        last = self._last.get(key)
        if key in self._torn:
            self._torn.discard(key)
            if last is None or last + 1 < first_seq:
                yield Loss(epoch, device, None if last is None else last + 1, first_seq - 1)
        self._last[key] = max(last or 0, first_seq + samples - 1)

    def at_the_end(self) -> Iterator[Loss]:
        """Give what may be missing after the last row of each device."""
        for epoch, device in sorted(self._torn):
            last, end = self._last.get((epoch, device)), self._ends.get((epoch, device))
            if last is None or end is None or last + 1 < end:
                yield Loss(epoch, device, None if last is None else last + 1, None if end is None else end - 1)
        self._torn.clear()


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether a place in the file cannot be read, rather than the file."""
    name = getattr(error, "sqlite_errorname", None)  # none: text that is no UTF-8
    return schema.is_damage(error) or name is None or name.startswith(_UNREADABLE)
