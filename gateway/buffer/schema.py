"""The buffer's file: its tables, and how it is opened and recognised."""

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

Result = TypeVar("Result")

APPLICATION_ID: Final = 0x45644757  # "EdGW", at offset 68 of the file (SQLite file format section 1.3)
SCHEMA_VERSION: Final = 2
PAGE_BYTES: Final = 4096
CHECK_SECONDS: Final = 1.5
_DAMAGE: Final = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT")
"""The last because nothing here asks for what a table that is whole would refuse."""
_IN_USE: Final = 0
_CLEAN: Final = 1
_VISITED: Final = 2
"""Values of `identity.clean`. The last: nobody closed it, but its WAL has been brought home by a command."""
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100

# Rows carry what is needed to count, drop and order them; their blobs lie apart, so that a scan of a million rows
# at start reads megabytes, not gigabytes. `age_ms` is running time (see Store), immune to steps of the wall clock.
# A gap record is kept twice, in `gap` and as a blob: nothing else would tell of its seqs if one were damaged.
# `resent` counts the readings of a row that was acknowledged before and waits again; its `readings` are 0 then.
# `kept` holds what was acknowledged, in that order; the blobs stay where they were, under the id `row`.
# `salvages` says how far each file that was set aside has been taken over (see `salvage`).
_TABLES: Final = """
CREATE TABLE identity(epoch TEXT NOT NULL, machine_id TEXT, succeeds INTEGER NOT NULL, previous TEXT,
    clean INTEGER NOT NULL);
CREATE TABLE streams(id INTEGER PRIMARY KEY, epoch TEXT NOT NULL, device TEXT NOT NULL, next_seq INTEGER NOT NULL,
    sampled INTEGER NOT NULL, suppressed INTEGER NOT NULL, acked INTEGER NOT NULL, dropped INTEGER NOT NULL,
    committed_ms INTEGER NOT NULL, age_ms INTEGER NOT NULL, resent INTEGER NOT NULL DEFAULT 0,
    pending_rows INTEGER NOT NULL DEFAULT 0, pending_samples INTEGER NOT NULL DEFAULT 0, UNIQUE(epoch, device));
CREATE TABLE metas(id INTEGER PRIMARY KEY, blob BLOB NOT NULL);
CREATE TABLE topics(topic TEXT PRIMARY KEY, device TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE batches(id INTEGER PRIMARY KEY, stream INTEGER NOT NULL, meta INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, samples INTEGER NOT NULL, readings INTEGER NOT NULL, from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL, age_ms INTEGER NOT NULL, size INTEGER NOT NULL, gap BLOB,
    resent INTEGER NOT NULL DEFAULT 0);
CREATE TABLE blobs(id INTEGER PRIMARY KEY, blob BLOB NOT NULL);
"""
_SINCE_VERSION_2: Final = """
CREATE TABLE kept(id INTEGER PRIMARY KEY, row INTEGER NOT NULL, stream INTEGER NOT NULL, meta INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, samples INTEGER NOT NULL, readings INTEGER NOT NULL, from_ms INTEGER NOT NULL,
    to_ms INTEGER NOT NULL, age_ms INTEGER NOT NULL, size INTEGER NOT NULL, gap BLOB);
CREATE TABLE salvages(file TEXT PRIMARY KEY, upto INTEGER NOT NULL, seen BLOB NOT NULL) WITHOUT ROWID;
"""
_FROM_VERSION_1: Final = """
ALTER TABLE streams ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN pending_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE streams ADD COLUMN pending_samples INTEGER NOT NULL DEFAULT 0;
ALTER TABLE batches ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;
UPDATE streams SET pending_rows = counted.rows, pending_samples = counted.samples
    FROM (SELECT stream, count(*) AS rows, sum(samples) AS samples FROM batches GROUP BY stream) AS counted
    WHERE counted.stream = streams.id;
"""
_MIGRATIONS: Final = {1: _FROM_VERSION_1 + _SINCE_VERSION_2}
"""What makes a file of the next version out of one of each older version."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose numbering a file carries.

    `succeeds` says that this epoch took the place of another one, whose name is `previous` where it is known:
    each device's first sample says so. `why` is the reason, for the log, at the start that began the epoch.
    """

    epoch: str
    machine_id: str | None
    succeeds: bool = False
    previous: str | None = None
    why: str | None = None
    in_use: bool = False
    """Whether the gateway that used the file last did not close it, so that its WAL must be there."""


class ForeignFileError(sqlite3.DatabaseError):
    """The file is damaged, or not a buffer of ours: it is to be set aside, not used."""


class LostFirstPageError(ForeignFileError):
    """The page that says what is where cannot be read."""

    def __init__(self) -> None:
        super().__init__("it is not a database, or its first page is lost")


class AnotherMachineError(ForeignFileError):
    """The file was written on another machine, of which this one is a copy; `last_seqs` is what it numbered last."""

    def __init__(self, epoch: str, last_seqs: Mapping[str, int]) -> None:
        super().__init__("it was written on a machine with another machine-id, which may still send it itself")
        self.epoch = epoch
        self.last_seqs = last_seqs


def is_damage(error: Exception) -> bool:
    """Whether an SQLite error means that the file itself is damaged or not a buffer."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return isinstance(error, ForeignFileError) or name.startswith(_DAMAGE)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file as the one connection it ever has at a time; nothing is written yet."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        # Exclusive: no -shm file, since nobody else may open it anyway. It must precede the first read.
        for pragma in ("locking_mode=EXCLUSIVE", "cache_size=-4096", "temp_store=MEMORY"):
            connection.execute("PRAGMA " + pragma)
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, max_bytes: int) -> None:
    """Make every commit durable (WAL, synchronous=FULL) and keep the file and its WAL bounded."""
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "journal_size_limit=4194304",
        "wal_autocheckpoint=1000",
        f"max_page_count={max_bytes // PAGE_BYTES}",
    ):
        connection.execute("PRAGMA " + pragma)


def is_new(path: Path) -> bool:
    """Whether the file is missing or empty. Raises ForeignFileError if it is not a buffer of ours, OSError.

    The header tells (SQLite file format section 1.3), not SQLite: opening another program's database may change it.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return True
    if not header:
        return True
    if not header.startswith(_MAGIC) or len(header) < _HEADER_BYTES:
        raise LostFirstPageError
    version, application = (int.from_bytes(header[offset : offset + 4], "big") for offset in (60, 68))
    if application == 0 and path.stat().st_size <= PAGE_BYTES and not path.with_name(path.name + "-wal").exists():
        return True  # one page holds no table: the power was cut when the file was made
    if application != APPLICATION_ID:
        raise ForeignFileError("it is not a buffer of edge-gateway")
    _refuse_newer(version)
    return False


def _refuse_newer(version: int) -> None:
    if version > SCHEMA_VERSION:
        raise ForeignFileError(f"its format is version {version}, this program writes version {SCHEMA_VERSION}")


def recognise(connection: sqlite3.Connection) -> Identity | None:
    """Read whose numbering a buffer carries; None if its making was cut short. Raises sqlite3.Error if damaged."""
    # A hot journal was rolled back by now: what the header said before may be undone.
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'identity'").fetchone() is None:
        return None
    _refuse_newer(_pragma(connection, "user_version"))  # which the header does not say while it is in the WAL
    row = connection.execute("SELECT epoch, machine_id, succeeds, previous, clean FROM identity").fetchone()
    if row is None:
        raise ForeignFileError("it has no identity")
    epoch, machine_id, succeeds, previous, clean = row
    if clean != _CLEAN:
        _quick_check(connection)
    return Identity(epoch, machine_id, bool(succeeds), previous, in_use=clean == _IN_USE)


def last_seqs(connection: sqlite3.Connection, epoch: str) -> dict[str, int]:
    """Give the last seq of each device in an epoch."""
    return dict(connection.execute("SELECT device, next_seq - 1 FROM streams WHERE epoch = ?", (epoch,)))


def note_clean_end(connection: sqlite3.Connection) -> None:
    """Note that all is in the file, and whole."""
    connection.execute("UPDATE identity SET clean = ?", (_CLEAN,))


def note_visit(connection: sqlite3.Connection) -> None:
    """Note, where nobody closed the file, that its WAL goes with this connection: it is not lost."""
    with contextlib.suppress(sqlite3.Error):
        connection.execute("UPDATE identity SET clean = ? WHERE clean = ?", (_VISITED, _IN_USE))


def migrate(connection: sqlite3.Connection) -> None:
    """Bring a file of an older version to the present one, in one transaction for each step."""
    while (version := _pragma(connection, "user_version")) < SCHEMA_VERSION:
        connection.executescript(f"BEGIN; {_MIGRATIONS[version]} PRAGMA user_version={version + 1}; COMMIT")
        # At once into the file, whose header an older program reads to see that it is not its own. The WAL keeps its
        # length: where nobody closed the file, an empty one would look like one that was lost.
        connection.execute("PRAGMA wal_checkpoint(FULL)")


def create(connection: sqlite3.Connection, identity: Identity) -> None:
    """Make the tables of a new file.

    Before its journal becomes a WAL, so that the file's own header says from the first commit on what it is.
    """
    for pragma in (f"page_size={PAGE_BYTES}", "auto_vacuum=INCREMENTAL", "synchronous=FULL"):
        connection.execute("PRAGMA " + pragma)
    connection.executescript(
        f"BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION};"
        f"{_TABLES} {_SINCE_VERSION_2}"
    )
    connection.execute("INSERT INTO identity VALUES ('', NULL, 0, NULL, 0)")
    write_identity(connection, identity)
    connection.execute("COMMIT")


def write_identity(connection: sqlite3.Connection, identity: Identity) -> None:
    """Note in the file whose numbering it carries from now on, and that it is in use."""
    connection.execute(
        "UPDATE identity SET epoch = ?, machine_id = ?, succeeds = ?, previous = ?, clean = 0",
        (identity.epoch, identity.machine_id, identity.succeeds, identity.previous),
    )


def new_epoch() -> str:
    """Name an epoch."""
    return secrets.token_hex(4)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def bounded(connection: sqlite3.Connection, seconds: float, work: Callable[[], Result]) -> Result | None:
    """Do some reading for a bounded time; None if it did not come to its end.

    By an interrupt: a progress handler is not called while SQLite walks through a tree to check it.
    """
    timer = threading.Timer(seconds, connection.interrupt)
    timer.start()
    try:
        return work()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_INTERRUPT":
            raise
        return None
    finally:
        timer.cancel()
        timer.join()


def _quick_check(connection: sqlite3.Connection) -> None:
    """Look for damage after an unclean end, for a bounded time: a large file must not delay the start."""
    found = bounded(connection, CHECK_SECONDS, lambda: connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if found not in (None, "ok"):
        raise ForeignFileError(f"it is damaged: {found}")
