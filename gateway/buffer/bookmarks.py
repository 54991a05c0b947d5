"""Where each device's driver is to go on after a crash: a few words, stored in the transaction of its samples."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from gateway.model import Bookmark

TABLE: Final = """
CREATE TABLE IF NOT EXISTS bookmarks(epoch TEXT NOT NULL, device TEXT NOT NULL, name TEXT NOT NULL,
    value NOT NULL, PRIMARY KEY(epoch, device, name)) WITHOUT ROWID
"""

Changes = dict[tuple[str, str], Bookmark | None]
"""New values by device and name; None forgets one."""


def load(connection: sqlite3.Connection, epoch: str) -> dict[str, dict[str, Bookmark]]:
    """Give the bookmarks of each device in this epoch; those of others are of no use to anybody."""
    connection.execute("DELETE FROM bookmarks WHERE epoch != ?", (epoch,))
    found: dict[str, dict[str, Bookmark]] = {}
    for device, name, value in connection.execute("SELECT device, name, value FROM bookmarks"):
        found.setdefault(device, {})[name] = value
    return found


def write(connection: sqlite3.Connection, epoch: str, changes: Changes) -> None:
    """Write what a transaction changes."""
    gone = [(epoch, *key) for key, value in changes.items() if value is None]
    kept = [(epoch, *key, value) for key, value in changes.items() if value is not None]
    connection.executemany("DELETE FROM bookmarks WHERE epoch = ? AND device = ? AND name = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO bookmarks VALUES (?, ?, ?, ?)", kept)


def note(known: dict[str, Bookmark], changes: Mapping[str, Bookmark | None]) -> None:
    """Take changes over into what is known of one device."""
    for name, value in changes.items():
        if value is None:
            known.pop(name, None)
        else:
            known[name] = value
