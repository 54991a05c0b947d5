"""Dead letters: samples that the broker takes at no price, kept beside the data for a person to look at.

To the ledger they are dropped, and a `rejected` gap tells the consumer of them, as of every drop.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.buffer.ranges import ranges_of
from gateway.buffer.tables import Row
from gateway.model import Gap, Meta

if TYPE_CHECKING:
    from gateway.buffer.transaction import Transaction

TABLE: Final = """
CREATE TABLE IF NOT EXISTS dead_letters(id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, epoch TEXT NOT NULL,
    device TEXT NOT NULL, seq INTEGER NOT NULL, why TEXT NOT NULL, sample BLOB NOT NULL)
"""
_SHOWN: Final = 5
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


def set_aside(
    transaction: "Transaction", rows: Sequence[tuple[Row, Sequence[Letter]]], meta_of: Callable[[Row], Meta]
) -> None:
    """Take out rows that the broker has, but for some letters: they are kept, and dropped to the ledger."""
    for row, letters in rows:
        stream = transaction.touch(row.stream)
        dropped = min(row.readings, sum(letter.readings for letter in letters))
        stream.dropped += dropped
        stream.acked += row.readings - dropped
        transaction.dropped_devices.add(stream.device)
        transaction.leave(stream, row)
        transaction.execute_many(
            "INSERT INTO dead_letters(at_ms, epoch, device, seq, why, sample) VALUES (?, ?, ?, ?, ?, ?)",
            [(transaction.now_ms, stream.epoch, stream.device, one.seq, one.why, one.sample) for one in letters],
        )
        if not row.resent:  # which was delivered once
            for gap in _gaps(transaction.now_ms, letters):
                transaction.tell(stream, meta_of(row), gap)
    transaction.execute("DELETE FROM dead_letters WHERE id <= (SELECT max(id) FROM dead_letters) - ?", (MOST,))
    transaction.delete(ranges_of(row.id for row, _ in rows))


def read(connection: sqlite3.Connection) -> list[Kept]:
    """Give all that are kept, the oldest first."""
    rows = connection.execute("SELECT at_ms, epoch, device, seq, why, sample FROM dead_letters ORDER BY id")
    return [Kept(*row) for row in rows]


def info(connection: sqlite3.Connection) -> dict[str, Any]:
    """Say how many are kept, and what the last ones are; none in a file that is older than the table."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'dead_letters'").fetchone() is None:
        return {"samples": 0, "last": []}
    names = ("at_ms", "epoch", "device", "seq", "why", "sample")
    query = f"SELECT {', '.join(names)} FROM dead_letters ORDER BY id DESC LIMIT ?"  # noqa: S608 -- our own words only
    last = [dict(zip(names, row, strict=True)) for row in connection.execute(query, (_SHOWN,))]
    shown = [{**letter, "sample": letter["sample"].decode(errors="replace")} for letter in reversed(last)]
    return {"samples": count(connection), "last": shown}


def count(connection: sqlite3.Connection) -> int:
    """Say how many are kept."""
    return int(connection.execute("SELECT count(*) FROM dead_letters").fetchone()[0])


def _gaps(now_ms: int, letters: Iterable[Letter]) -> list[Gap]:
    """Give the gap records that tell of letters, one for those whose seqs follow each other."""
    runs: list[list[Letter]] = []
    for letter in sorted((letter for letter in letters if not letter.is_gap), key=lambda letter: letter.seq):
        if not runs or letter.seq != runs[-1][-1].seq + 1:
            runs.append([])
        runs[-1].append(letter)
    return [Gap(now_ms, "rejected", _told(run)) for run in runs]


def _told(run: Sequence[Letter]) -> dict[str, int]:
    return {
        "first_seq": run[0].seq,
        "last_seq": run[-1].seq,
        "readings": sum(letter.readings for letter in run),
        "from": min(letter.ts for letter in run),
        "to": max(letter.ts for letter in run),
    }
