"""Dead letters: samples that the broker takes at no price, kept beside the data for a person to look at.

To the ledger they are dropped, and a `rejected` gap tells the consumer of them, as of every drop.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

TABLE: Final = """
CREATE TABLE IF NOT EXISTS dead_letters(id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, epoch TEXT NOT NULL,
    device TEXT NOT NULL, seq INTEGER NOT NULL, why TEXT NOT NULL, sample BLOB NOT NULL)
"""
MOST: Final = 1000
"""The oldest make room for the newest: there are samples of 16 KiB, and readings need the disk."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One sample that was refused for itself, as its JSON stood in the message, and what the broker said of it.

    `ts` is the sample's, in milliseconds; `readings` is what the ledger counts. A gap record has none, and no further
    gap tells of it: that one would be refused too.
    """

    seq: int
    ts: int
    readings: int
    sample: bytes
    is_gap: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter as it lies on disk: since when (wall-clock ms), and whose it is."""

    at_ms: int
    epoch: str
    device: str
    seq: int
    why: str
    sample: bytes


def keep(connection: sqlite3.Connection, now_ms: int, epoch: str, device: str, letters: Iterable[Letter]) -> None:
    """Keep letters, within the transaction that takes their row out of the buffer."""
    connection.executemany(
        "INSERT INTO dead_letters(at_ms, epoch, device, seq, why, sample) VALUES (?, ?, ?, ?, ?, ?)",
        [(now_ms, epoch, device, letter.seq, letter.why, letter.sample) for letter in letters],
    )
    connection.execute("DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?", (MOST,))


def read(connection: sqlite3.Connection) -> list[Kept]:
    """Give all that are kept, the oldest first."""
    rows = connection.execute("SELECT at_ms, epoch, device, seq, why, sample FROM dead_letters ORDER BY id")
    return [Kept(*row) for row in rows]


def count(connection: sqlite3.Connection) -> int:
    """Say how many are kept."""
    return int(connection.execute("SELECT count(*) FROM dead_letters").fetchone()[0])


def runs(letters: Iterable[Letter]) -> Iterator[list[Letter]]:
    """Give the letters that a gap is to tell of, those with seqs in a row together."""
    run: list[Letter] = []
    for letter in sorted((letter for letter in letters if not letter.is_gap), key=lambda letter: letter.seq):
        if run and letter.seq != run[-1].seq + 1:
            yield run
            run = []
        run.append(letter)
    if run:
        yield run
