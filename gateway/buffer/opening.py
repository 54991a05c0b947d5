"""How the buffer's file is opened: gone on with, taken over under a new epoch, or set aside and begun anew."""

import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from gateway.buffer import bookmarks, dead_letters, folder, schema
from gateway.buffer.store import Store
from gateway.buffer.tables import Limits

Clock = Callable[[], float]


def open_store(path: Path, limits: Limits, machine_id: str | None, clock: Clock = time.monotonic) -> Store:
    """Open the file, or begin a new one with a new epoch where it is missing, damaged or another's.

    `clock` gives the seconds by which rows grow old. What cannot be used is set aside beside it, never deleted.
    Raises sqlite3.Error or OSError.
    """
    known = folder.read_marker(path)
    why, last_seqs = f"{path} was lost", None
    try:
        if (store := _resume(path, limits, machine_id, known, clock)) is not None:
            return store
    except sqlite3.DatabaseError as error:
        # A table or column that is not there is damage too, of the first page: this program made them all.
        if not schema.is_damage(error) and getattr(error, "sqlite_errorname", None) != "SQLITE_ERROR":
            raise
        if isinstance(error, schema.AnotherMachineError):
            known, last_seqs = known or error.epoch, error.last_seqs
        if known is None:
            # Should the next step be the last, the next start must know that there was something.
            known = ""
            folder.write_marker(path, known)
        why = f"{path} was set aside as {folder.set_aside(path).name}: {error}"
    store = _begin(path, limits, machine_id, known, why, clock)
    store.last_seqs |= last_seqs or {}
    return store


def _resume(path: Path, limits: Limits, machine_id: str | None, known: str | None, clock: Clock) -> Store | None:
    """Go on in the file; None if there is nothing in it."""
    if schema.is_new(path):
        return None
    has_wal = folder.has_wal(path)
    connection = schema.connect(path)
    try:
        identity = schema.recognise(connection)
        if identity is not None:
            last_seqs = schema.last_seqs(connection, identity.epoch)
            _refuse_another_machine(identity, machine_id, last_seqs)
            # As long as the file is in use its WAL is there, from before the first device was numbered.
            wal_is_lost = identity.in_use and not has_wal and bool(last_seqs)
            adopted = _adopt(identity, known, machine_id, wal_is_lost=wal_is_lost)
            return _go_on(connection, path, limits, adopted, known, clock)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _refuse_another_machine(identity: schema.Identity, machine_id: str | None, last_seqs: Mapping[str, int]) -> None:
    """Leave to a machine what it wrote: where a disk was copied, both would send it."""
    if None not in (machine_id, identity.machine_id) and machine_id != identity.machine_id:
        raise schema.AnotherMachineError(identity.epoch, last_seqs)


def _adopt(
    identity: schema.Identity, known: str | None, machine_id: str | None, *, wal_is_lost: bool
) -> schema.Identity:
    """Keep the file's numbering, unless seqs may have been given that it does not know of."""
    if known and known != identity.epoch:
        why = "the buffer file was replaced by another one"
    elif wal_is_lost:
        why = "the buffer's write-ahead log is missing, and with it what was stored last"
    else:
        return replace(identity, machine_id=machine_id or identity.machine_id)
    return schema.Identity(schema.new_epoch(), machine_id, True, known or identity.epoch, why)


def _begin(path: Path, limits: Limits, machine_id: str | None, known: str | None, why: str, clock: Clock) -> Store:
    """Make a new file with a new epoch, which succeeds another one if there ever was any."""
    identity = schema.Identity(schema.new_epoch(), machine_id)
    if known is not None:
        identity = replace(identity, succeeds=True, previous=known or None, why=why)
    folder.clear_away(path)
    connection = schema.connect(path)
    try:
        schema.create(connection, identity)
        return _go_on(connection, path, limits, identity, known, clock)
    except BaseException:
        connection.close()
        raise


def _go_on(
    connection: sqlite3.Connection,
    path: Path,
    limits: Limits,
    identity: schema.Identity,
    known: str | None,
    clock: Clock,
) -> Store:
    schema.prepare(connection, limits.max_bytes)
    schema.migrate(connection)
    connection.execute(bookmarks.TABLE)
    connection.execute(dead_letters.TABLE)
    store = Store(connection, path, limits, identity, clock)
    # Last of all: a file that could not be opened is not in use, and may lie there without its WAL.
    schema.write_identity(connection, identity)
    if known != identity.epoch:
        folder.write_marker(path, identity.epoch)
    return store
