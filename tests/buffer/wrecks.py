"""Buffers that were in use when the power went, what happened to them then, and what must come of it."""

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from buffer_cases import PER_SAMPLE, bulky, commit, open_at, take_all
from buffer_running import running

from gateway.buffer import Buffer, folder, schema
from gateway.buffer.stored import FIRST
from gateway.errors import StorageError
from gateway.model import Gap, Sample

PAGE = schema.PAGE_BYTES
COUNT = 240
IN_WAL = 6
NEW = [bulky(f"press-{number}", 9990 + number, PER_SAMPLE) for number in (1, 2)]
FRESH = [batch.samples[0] for batch in NEW]
Name = tuple[str, int]


@dataclass
class Left:
    """What a gateway left behind: its epoch, and every sample that no broker has, by device and seq."""

    path: Path
    epoch: str
    samples: dict[Name, Sample | Gap]
    blobs: dict[Name, bytes]


@dataclass
class Came:
    """What a consumer got from the gateway that came after."""

    samples: dict[Name, Sample | Gap] = field(default_factory=dict)
    """Under the epoch that was left behind."""
    gaps: list[Gap] = field(default_factory=list)
    """Under the new one."""
    doubled: int = 0
    live: int = 0
    left_aside: dict[str, str] = field(default_factory=dict)

    def tells_of(self, name: Name, epoch: str) -> bool:
        """Whether a gap says that a sample is lost."""
        return any(
            gap.fields.get("previous_epoch") in (epoch, None)
            and (gap.fields.get("first_seq") or 0) <= name[1]
            and name[1] <= (gap.fields.get("last_seq") or 1 << 60)
            for gap in self.gaps
        )


def leave(folder_: Path, count: int = COUNT, machine_id: str | None = None) -> Left:
    """Fill a buffer, and leave it as a power cut does: most of it in the file, the last commits in the WAL."""
    workshop = folder_ / "workshop"
    workshop.mkdir(parents=True)
    store = open_at(workshop / "buffer.db", machine_id=machine_id)
    for number in range(count - IN_WAL):
        commit(store, bulky(f"press-{number % 2 + 1}", number, PER_SAMPLE))
    commit(store, acked=[row.id for row in store.take(0, 10)])
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(count - IN_WAL, count):
        commit(store, bulky(f"press-{number % 2 + 1}", number, PER_SAMPLE))
    path = folder_ / "buffer.db"
    for suffix in ("", "-wal", ".epoch"):
        shutil.copy(workshop / f"buffer.db{suffix}", f"{path}{suffix}")
    rows = take_all(store)
    blobs = dict(store.connection.execute("SELECT id, blob FROM blobs"))
    store.close()
    shutil.rmtree(workshop)
    names = {row.id: (row.meta.device, row.first_seq) for row in rows}
    samples = {names[row.id]: row.samples[0] for row in rows}
    return Left(path, store.epoch, samples, {names[row]: blob for row, blob in blobs.items() if row in names})


async def come_back(
    left: Left, *, until: Callable[[Buffer], bool] | None = None, came: Came | None = None,
    finally_: Callable[[Buffer], Awaitable[None]] | None = None, machine_id: str | None = None,
) -> Came:  # fmt: skip
    """Start on what was left, store something new, and let a broker have all that comes, until all has come."""
    came = came or Came()
    async with running(left.path, machine_id=machine_id) as buffer:
        new = [buffer.append(batch) for batch in NEW]
        async with asyncio.timeout(5):
            assert all([await stored for stored in new]), "polling goes on at once"
        while True:
            await deliver(buffer, left, came)
            if until is not None and until(buffer):
                break
            asides = folder.set_asides(left.path)
            if all(file.name in buffer.status.left_aside for file in asides) and not buffer.status.pending_samples:
                break
            await asyncio.sleep(0.01)
        came.left_aside = dict(buffer.status.left_aside)
        if finally_ is not None:
            await finally_(buffer)
        assert {ledger.unaccounted for ledger in buffer.ledgers.values()} == {0}
    return came


async def deliver(buffer: Buffer, left: Left, came: Came) -> None:
    """Take all that is there, and acknowledge it."""
    try:
        rows = await buffer.take(FIRST)
    except StorageError:  # the damage was met: the file is set aside
        return
    for row in rows:
        for seq, sample in enumerate(row.samples, row.first_seq):
            name = (row.meta.device, seq)
            told = isinstance(sample, Gap) and name not in left.samples
            if row.epoch != left.epoch or told or sample in FRESH:
                came.gaps += [sample] if isinstance(sample, Gap) else []
                came.live += isinstance(sample, Sample)
                continue
            came.doubled += name in came.samples
            came.samples[name] = sample
    await buffer.acknowledge([row.id for row in rows], soon=True)


def assert_true(left: Left, came: Came, *, lost: int | None = None) -> None:
    """What came is what was stored, and what did not come is told as lost; at most so much is."""
    assert came.samples.items() <= left.samples.items(), "nothing is falsified"
    missing = left.samples.keys() - came.samples.keys()
    silent = {name for name in missing if not came.tells_of(name, left.epoch)}
    assert silent == set()
    assert (came.doubled, came.live >= len(NEW)) == (0, True)
    if lost is not None:
        assert len(missing) <= lost, f"{len(missing)} samples are missing"


# What happens to a file.


def pages_of(path: Path, table: str) -> list[int]:
    """Give the numbers of a table's pages, its root first (SQLite file format section 1.6)."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    octets = path.read_bytes()
    found, todo = [], [root]
    while todo:
        number = todo.pop()
        found.append(number)
        page = octets[(number - 1) * PAGE : number * PAGE]
        if page[0] == 5:  # an interior page: the page number of each child stands at the start of its cell
            cells = [
                int.from_bytes(page[at : at + 2], "big")
                for at in range(12, 12 + 2 * int.from_bytes(page[3:5], "big"), 2)
            ]
            children = [int.from_bytes(page[at : at + 4], "big") for at in (*cells, 8)]
            todo += reversed(children)
    return found


def close_cleanly(left: Left) -> None:
    """Let the gateway come and go: all is in the file itself, and nobody will look for damage."""
    open_at(left.path).close()


def overwrite(path: Path, at: int, octets: bytes) -> None:
    """Write some bytes into the file, past SQLite."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(octets)


def flip(path: Path, places: Iterable[int]) -> None:
    """Flip a bit at each place."""
    octets = path.read_bytes()
    for at in places:
        overwrite(path, at, bytes([octets[at] ^ 0x10]))


def zero_pages(path: Path, numbers: Iterable[int]) -> None:
    """Let pages read as zeros, as an erased block of flash does."""
    for number in numbers:
        overwrite(path, (number - 1) * PAGE, bytes(PAGE))


def scribble(path: Path, number: int, seed: int = 1) -> None:
    """Flip 40 bits of a page, from its header on."""
    chance = random.Random(seed)
    flip(path, {(number - 1) * PAGE + chance.randrange(8, PAGE) for _ in range(40)} | {(number - 1) * PAGE + 3})


def cut_tail(path: Path) -> None:
    """Cut the last third off, in the middle of a page."""
    os.truncate(path, path.stat().st_size * 2 // 3 + 100)
