"""Whatever became of the file: polling goes on, what is unharmed arrives, the rest is told (P2, P3, P4, P11)."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import wrecks
from buffer_cases import ROOMY, open_at
from wrecks import COUNT, IN_WAL, Left

from gateway.buffer import schema

EVERYTHING = COUNT


def wal_of(left: Left) -> Path:
    return left.path.with_name("buffer.db-wal")


def blob_bit(left: Left) -> None:
    octets = left.path.read_bytes()
    at = next(octets.find(blob[200:400]) for name, blob in left.blobs.items() if name == ("press-2", 60))
    wrecks.flip(left.path, [at + 20])


def many_blob_bits(left: Left) -> None:
    leaves = wrecks.pages_of(left.path, "blobs")[20:25]
    wrecks.flip(left.path, [(number - 1) * wrecks.PAGE + 3000 for number in leaves])


def blob_leaf(left: Left) -> None:
    wrecks.scribble(left.path, wrecks.pages_of(left.path, "blobs")[30])


def rows_leaf(left: Left) -> None:
    wrecks.scribble(left.path, wrecks.pages_of(left.path, "batches")[2])


def zeroed_leaves(left: Left) -> None:
    wrecks.zero_pages(
        left.path, [*wrecks.pages_of(left.path, "blobs")[40:43], wrecks.pages_of(left.path, "batches")[1]]
    )


def zeroed_root(left: Left) -> None:
    wrecks.zero_pages(left.path, wrecks.pages_of(left.path, "blobs")[:1])


def streams_page(left: Left) -> None:
    wrecks.zero_pages(left.path, wrecks.pages_of(left.path, "streams"))


def metas_page(left: Left) -> None:
    wrecks.zero_pages(left.path, wrecks.pages_of(left.path, "metas"))


def page_1(left: Left) -> None:
    wrecks.flip(left.path, range(101, 200, 3))


def names_of_tables(left: Left) -> None:
    at = left.path.read_bytes().find(b"CREATE TABLE streams")
    wrecks.flip(left.path, [at + 14])


def torn_wal(left: Left) -> None:
    wal = wal_of(left)
    wal.write_bytes(wal.read_bytes()[:-5000])


def wal_bits(left: Left) -> None:
    wrecks.flip(wal_of(left), [wal_of(left).stat().st_size - 3000])


def foreign_text(left: Left) -> None:
    left.path.write_text("This is no database.\n" * 1000)
    wal_of(left).unlink()


def foreign_database(left: Left) -> None:
    left.path.unlink()
    wal_of(left).unlink()
    with closing(sqlite3.connect(left.path)) as theirs:
        theirs.execute("CREATE TABLE prices(x)")


def emptied(left: Left) -> None:
    left.path.write_bytes(b"")
    wal_of(left).unlink()


def removed(left: Left) -> None:
    left.path.unlink()


def newer(left: Left) -> None:
    wrecks.overwrite(left.path, 60, (schema.SCHEMA_VERSION + 1).to_bytes(4, "big"))


def stale_wal(left: Left) -> None:
    other = wrecks.leave(left.path.parent / "other", 40)
    wal_of(left).write_bytes(wal_of(other).read_bytes())


DAMAGE: dict[str, tuple[Callable[[Left], None], int]] = {
    "nothing at all": (lambda _: None, 0),
    "a flipped bit in a blob": (blob_bit, 1),
    "a bit in each of five pages of blobs": (many_blob_bits, 10),
    "a scribbled page of blobs": (blob_leaf, 4),
    "a scribbled page of rows": (rows_leaf, 120),
    "zeroed pages of rows and blobs": (zeroed_leaves, 130),
    "the root of the blobs zeroed": (zeroed_root, EVERYTHING),
    "the streams zeroed": (streams_page, 0),
    "the metas zeroed": (metas_page, EVERYTHING),
    "flipped bits in page 1": (page_1, 0),
    "page 1 zeroed": (lambda left: wrecks.zero_pages(left.path, [1]), 0),
    "flipped bits in the names of tables": (names_of_tables, 0),
    "a torn tail": (lambda left: wrecks.cut_tail(left.path), EVERYTHING),
    "a newer format": (newer, EVERYTHING),
}
"""What happens to the file, and how many samples that may cost at most."""
AFTER_A_CUT: dict[str, tuple[Callable[[Left], None], int]] = {
    "no WAL": (lambda left: wal_of(left).unlink(), IN_WAL),
    "the WAL of another file": (stale_wal, EVERYTHING),
    "a text file": (foreign_text, EVERYTHING),
    "another program's database": (foreign_database, EVERYTHING),
    "an empty file": (emptied, EVERYTHING),
    "no file": (removed, EVERYTHING),
}


@pytest.mark.parametrize("damage", [*DAMAGE, *AFTER_A_CUT])
async def test_after_a_power_cut_polling_goes_on_what_is_unharmed_arrives_and_the_rest_is_told(
    tmp_path: Path, damage: str
) -> None:
    left = wrecks.leave(tmp_path)
    happen, lost = {**DAMAGE, **AFTER_A_CUT}[damage]
    happen(left)
    wrecks.assert_true(left, await wrecks.come_back(left), lost=lost)


@pytest.mark.parametrize("damage", DAMAGE)
async def test_damage_that_is_met_in_use_stops_nothing_and_what_is_unharmed_arrives(
    tmp_path: Path, damage: str
) -> None:
    """The end before was clean, so that nobody looks for damage at the start."""
    left = wrecks.leave(tmp_path)
    wrecks.close_cleanly(left)
    happen, lost = DAMAGE[damage]
    happen(left)
    wrecks.assert_true(left, await wrecks.come_back(left), lost=lost)


@pytest.mark.parametrize("damage", [torn_wal, wal_bits])
async def test_a_damaged_end_of_the_wal_costs_what_was_in_it_and_nothing_else(
    tmp_path: Path, damage: Callable[[Left], None]
) -> None:
    """It cannot be told from a commit that never came to its end: only a disk that lies about flushes leaves it."""
    left = wrecks.leave(tmp_path)
    damage(left)
    came = await wrecks.come_back(left)
    assert came.samples.items() <= left.samples.items()
    assert len(left.samples) - len(came.samples) <= IN_WAL


def test_a_power_cut_right_after_a_file_of_version_1_was_brought_up_to_date_is_no_lost_wal(tmp_path: Path) -> None:
    workshop, path = tmp_path / "workshop.db", tmp_path / "buffer.db"
    shutil.copy(Path(__file__).with_name("version-1.sqlite"), workshop)
    with closing(schema.connect(workshop)) as connection:
        schema.prepare(connection, ROOMY.max_bytes)
        connection.execute("UPDATE identity SET clean = 0")  # a power cut before, too
        schema.migrate(connection)
        for suffix in ("", "-wal"):
            shutil.copy(f"{workshop}{suffix}", f"{path}{suffix}")
    assert path.read_bytes()[60:64] == schema.SCHEMA_VERSION.to_bytes(4, "big")
    assert open_at(path).identity.why is None
