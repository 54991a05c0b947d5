"""How the buffer's file is opened: gone on with, taken over under a new epoch, or set aside and begun anew."""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gateway.buffer import bookmarks, dead_letters, schema
from gateway.buffer.store import Store
from gateway.buffer.tables import Limits

Clock = Callable[[], float]


def open_store(path: Path, limits: Limits, machine_id: str | None, clock: Clock = time.monotonic) -> Store:
    """Open the file, or begin a new one with a new epoch where it is missing, damaged or another's.

    `clock` gives the seconds by which rows grow old. What cannot be used is set aside beside it, never deleted.
    Raises sqlite3.Error or OSError.
    """
    known = schema.read_marker(path)
    why = f"{path} was lost"
    try:
        if (store := _resume(path, limits, machine_id, known, clock)) is not None:
            return store
    except sqlite3.DatabaseError as error:
        if not schema.is_damage(error):
            raise
        if known is None:
            # Should the next step be the last, the next start must know that there was something.
            known = ""
            schema.write_marker(path, known)
        why = f"{path} was set aside as {schema.set_aside(path).name}: {error}"
    return _begin(path, limits, machine_id, known, why, clock)


def _resume(path: Path, limits: Limits, machine_id: str | None, known: str | None, clock: Clock) -> Store | None:
    """Go on in the file; None if there is nothing in it."""
    if schema.is_new(path):
        return None
    connection = schema.connect(path)
    try:
        identity = schema.recognise(connection)
        if identity is not None:
            return _go_on(connection, path, limits, _adopt(identity, known, machine_id), known, clock)
    except BaseException:
        connection.close()
        raise
    connection.close()
    return None


def _adopt(identity: schema.Identity, known: str | None, machine_id: str | None) -> schema.Identity:
    """Keep the file's numbering, unless it belongs to somebody else."""
    if None not in (machine_id, identity.machine_id) and machine_id != identity.machine_id:
        why = "this machine's id is another than that of the machine which wrote the buffer"
    elif known and known != identity.epoch:
        why = "the buffer file was replaced by another one"
    else:
        return replace(identity, machine_id=machine_id or identity.machine_id)
    return schema.Identity(schema.new_epoch(), machine_id, True, known or identity.epoch, why)


def _begin(path: Path, limits: Limits, machine_id: str | None, known: str | None, why: str, clock: Clock) -> Store:
    """Make a new file with a new epoch, which succeeds another one if there ever was any."""
    identity = schema.Identity(schema.new_epoch(), machine_id)
    if known is not None:
        identity = replace(identity, succeeds=True, previous=known or None, why=why)
    schema.clear_away(path)
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
    connection.execute(bookmarks.TABLE)
    connection.execute(dead_letters.TABLE)
    schema.write_identity(connection, identity)
    if known != identity.epoch:
        schema.write_marker(path, identity.epoch)
    return Store(connection, path, limits, identity, clock)
