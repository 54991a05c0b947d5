"""An epoch changes only when the numbering cannot go on; then it says so, and nothing on the disk is destroyed (P3)."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from buffer_cases import ROOMY, assert_lawful, batch_of, commit, gaps, open_at, ranges, seqs, take_all

from gateway.buffer import folder, open_buffer, read_machine_id, schema
from gateway.buffer.store import Store
from gateway.errors import StorageError

VERSION_1 = Path(__file__).with_name("version-1.sqlite")
"""Four batches of press-1, written by the first version, of which the broker has the first."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


def filled(path: Path, batches: int = 3, machine_id: str | None = None) -> str:
    """Make a buffer with some batches of one device, closed cleanly; give its epoch."""
    store = open_at(path, machine_id=machine_id)
    for _ in range(batches):
        commit(store, batch_of("press-1"))
    store.close()
    return store.epoch


def set_asides(path: Path) -> list[Path]:
    """Give the files that were set aside, without their journals."""
    return [found for found in path.parent.glob("*.aside-*") if not found.name.endswith(("-wal", "-journal"))]


def assert_succeeds(store: Store, previous: str | None, last_seq: int | None = None) -> None:
    """Check that a device's first sample in this epoch tells of the one before."""
    commit(store, batch_of("press-1"), batch_of("press-1"))
    rows = [row for row in take_all(store) if row.epoch == store.epoch]
    assert seqs(rows, "press-1") == [1, 2, 3]
    (gap,) = gaps(rows)
    assert rows[0].samples == (gap,)
    assert (gap.reason, dict(gap.fields)) == ("buffer-lost", {"previous_epoch": previous, "last_seq": last_seq})
    assert_lawful(store)


def test_the_first_epoch_begins_without_a_gap(path: Path) -> None:
    store = open_at(path)
    commit(store, batch_of("press-1"))
    (row,) = take_all(store)
    assert (row.first_seq, gaps([row])) == (1, [])


def test_a_restart_goes_on_in_the_epoch_and_its_numbering(path: Path) -> None:
    epoch = filled(path)
    store = open_at(path)
    commit(store, batch_of("press-1"))
    assert (store.epoch, seqs(take_all(store), "press-1")) == (epoch, [1, 2, 3, 4])


def test_numbers_and_ids_go_on_after_the_buffer_was_drained_and_closed(path: Path) -> None:
    store = open_at(path)
    commit(store, batch_of("press-1"), batch_of("press-1"))
    commit(store, acked=[row.id for row in take_all(store)])
    store.close()
    store = open_at(path)
    commit(store, batch_of("press-1"))
    assert seqs(take_all(store), "press-1") == [3]
    assert_lawful(store)


def test_a_lost_file_begins_an_epoch_that_names_the_old_one(path: Path) -> None:
    epoch = filled(path)
    path.unlink()
    assert_succeeds(open_at(path), previous=epoch)


def test_a_lost_file_with_its_wal_left_behind_begins_an_epoch(path: Path) -> None:
    store = open_at(path)
    commit(store, batch_of("press-1"))
    wal = path.with_name("buffer.db-wal").read_bytes()
    store.close()
    path.unlink()
    path.with_name("buffer.db-wal").write_bytes(wal)
    assert_succeeds(open_at(path), previous=store.epoch)


def test_a_file_of_another_gateway_keeps_its_batches_and_begins_an_epoch(tmp_path: Path, path: Path) -> None:
    epoch = filled(path)
    other = tmp_path / "other" / "buffer.db"
    other.parent.mkdir()
    other_epoch = filled(other, batches=2)
    shutil.copy(other, path)
    store = open_at(path)
    assert {row.epoch for row in take_all(store)} == {other_epoch}
    assert_succeeds(store, previous=epoch)


def test_a_copy_of_a_disk_begins_an_epoch_and_leaves_what_waits_to_the_machine_that_wrote_it(path: Path) -> None:
    epoch = filled(path, machine_id="one")
    before = path.read_bytes()
    store = open_at(path, machine_id="two")
    assert take_all(store) == []
    (aside,) = set_asides(path)
    assert aside.read_bytes() == before
    assert_succeeds(store, previous=epoch, last_seq=3)
    store.close()
    assert open_at(path, machine_id="two").epoch == store.epoch


def test_a_copy_without_its_marker_still_names_the_epoch_before(path: Path) -> None:
    epoch = filled(path, machine_id="one")
    path.with_name("buffer.db.epoch").unlink()
    assert_succeeds(open_at(path, machine_id="two"), previous=epoch, last_seq=3)


def test_a_missing_wal_begins_an_epoch_and_keeps_what_the_file_itself_holds(path: Path) -> None:
    """What was stored last had seqs that the file does not know of: they must not be given again."""
    store = open_at(path)
    commit(store, batch_of("press-1"), batch_of("press-1"))
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    commit(store, batch_of("press-1"))
    lost = path.parent / "lost"
    lost.mkdir()
    shutil.copy(path, lost / "buffer.db")
    shutil.copy(path.with_name("buffer.db.epoch"), lost)
    store.close()
    anew = open_at(lost / "buffer.db")
    assert [(row.epoch, row.first_seq) for row in take_all(anew)] == [(store.epoch, 1), (store.epoch, 2)]
    assert_succeeds(anew, previous=store.epoch)


def test_what_is_dropped_of_an_earlier_epoch_is_told_in_the_present_one(path: Path) -> None:
    """The earlier one gives no seqs any more: others may have been given that this file does not know of."""
    epoch = filled(path, batches=2)
    folder.write_marker(path, "another")
    store = open_at(path)
    store.connection.execute("UPDATE blobs SET blob = zeroblob(length(blob))")
    assert take_all(store) == []
    commit(store)
    rows = take_all(store)
    assert {row.epoch for row in rows} == {store.epoch}
    corrupt = [gap for gap in gaps(rows) if gap.reason == "corrupt"]
    assert [(gap.fields["previous_epoch"], *ranges([gap])) for gap in corrupt] == [(epoch, (1, 2))]
    assert_lawful(store)


def test_a_file_of_version_1_is_brought_up_to_date_with_all_that_is_in_it(path: Path) -> None:
    shutil.copy(VERSION_1, path)
    store = open_at(path)
    assert (store.identity.why, store.epoch) == (None, "0ldf11e5")
    rows = take_all(store)
    assert seqs(rows, "press-1") == [2, 3, 4]
    assert [sample.values for row in rows[:1] for sample in row.samples] == [(0.5, 0.5, 0.5)]
    assert store.ledgers()["press-1"].acked == 3
    commit(store, batch_of("press-1"), acked=[row.id for row in rows])
    store.close()
    assert path.read_bytes()[60:64] == schema.SCHEMA_VERSION.to_bytes(4, "big")
    assert seqs(take_all(open_at(path)), "press-1") == [5]


@pytest.mark.parametrize(("before", "after"), [(None, "one"), ("one", None), (None, None), ("one", "one")])
def test_an_unknown_machine_id_changes_nothing(path: Path, before: str | None, after: str | None) -> None:
    epoch = filled(path, machine_id=before)
    assert open_at(path, machine_id=after).epoch == epoch


FOREIGN = {
    "text": b"this is not a database\n" * 50,
    "zeros": bytes(8192),
    "short": b"SQLite",
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_no_database_is_set_aside_untouched(path: Path, kind: str) -> None:
    path.write_bytes(FOREIGN[kind])
    store = open_at(path)
    (aside,) = set_asides(path)
    assert aside.read_bytes() == FOREIGN[kind]
    assert_succeeds(store, previous=None)


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_another_programs_database_is_set_aside_byte_for_byte(tmp_path: Path, path: Path, journal: str) -> None:
    source = tmp_path / "their.db"
    with closing(sqlite3.connect(source, isolation_level=None)) as theirs:
        theirs.execute(f"PRAGMA journal_mode={journal}")
        theirs.execute("CREATE TABLE prices(x)")
        theirs.execute("BEGIN")
        theirs.execute("INSERT INTO prices VALUES (1)")
        if journal == "WAL":
            theirs.execute("COMMIT")
        for suffix in ("", "-wal", "-journal"):
            if (found := tmp_path / f"their.db{suffix}").exists():
                shutil.copy(found, path.with_name(path.name + suffix))
    before = {found.name[len("buffer.db") :]: found.read_bytes() for found in tmp_path.glob("buffer.db*")}
    assert len(before) == 2, "a database and its journal"
    store = open_at(path)
    (aside,) = set_asides(path)
    assert {found.name[len(aside.name) :]: found.read_bytes() for found in tmp_path.glob(f"{aside.name}*")} == before
    assert_succeeds(store, previous=None)


def test_a_file_of_a_newer_version_is_set_aside_untouched(path: Path) -> None:
    epoch = filled(path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    store = open_at(path)
    (aside,) = set_asides(path)
    assert aside.read_bytes() == before
    assert store.identity.why is not None
    assert f"version {schema.SCHEMA_VERSION + 1}" in store.identity.why
    assert_succeeds(store, previous=epoch)


def test_a_zeroed_page_found_after_an_unclean_end_begins_an_epoch(path: Path) -> None:
    store = open_at(path)
    for _ in range(50):
        commit(store, batch_of("press-1", 400, seed=1))
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.connection.close()
    pages = path.stat().st_size // schema.PAGE_BYTES
    with path.open("r+b") as file:
        for page in range(2, pages):
            file.seek(page * schema.PAGE_BYTES)
            file.write(bytes(schema.PAGE_BYTES))
    anew = open_at(path)
    assert len(set_asides(path)) == 1
    assert_succeeds(anew, previous=store.epoch)


def test_a_crash_between_setting_aside_and_the_first_commit_is_still_told(path: Path) -> None:
    path.write_bytes(b"garbage")
    folder.write_marker(path, "")
    folder.set_aside(path)
    assert_succeeds(open_at(path), previous=None)


def test_the_marker_is_on_disk_before_an_unknown_file_is_set_aside(path: Path) -> None:
    path.write_bytes(b"garbage")
    blocker = path.with_name("buffer.db.new")
    blocker.mkdir()  # the marker cannot be written, so that the file must stay where it is
    with pytest.raises(OSError, match="director"):
        open_at(path)
    assert path.read_bytes() == b"garbage"


def test_a_crash_before_the_marker_of_a_new_epoch_is_still_told(path: Path) -> None:
    epoch = filled(path)
    path.unlink()
    open_at(path).close()
    folder.write_marker(path, epoch)
    assert_succeeds(open_at(path), previous=epoch)


def test_a_damaged_marker_beside_a_good_file_changes_nothing(path: Path) -> None:
    epoch = filled(path)
    path.with_name("buffer.db.epoch").write_bytes(bytes(30))
    assert open_at(path).epoch == epoch


def test_a_damaged_marker_without_a_file_still_tells_of_a_loss(path: Path) -> None:
    filled(path)
    path.with_name("buffer.db.epoch").write_bytes(bytes(30))
    path.unlink()
    assert_succeeds(open_at(path), previous=None)


def test_the_making_of_a_file_that_was_cut_short_is_done_again(path: Path) -> None:
    path.touch()
    store = open_at(path)
    commit(store, batch_of("press-1"))
    assert gaps(take_all(store)) == []


@pytest.mark.parametrize("tables", [False, True])
def test_a_power_cut_while_the_file_is_made_does_not_keep_the_gateway_from_starting(path: Path, tables: bool) -> None:
    """What a rolled back journal leaves: a first page, with our mark or without, and no tables."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size=4096")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("CREATE TABLE t(x)")
        connection.execute("DROP TABLE t")
        connection.execute("VACUUM")
        if tables:
            connection.execute(f"PRAGMA application_id={schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={schema.SCHEMA_VERSION}")
    store = open_at(path)
    assert (store.identity.why, store.identity.succeeds) == (None, False)
    commit(store, batch_of("press-1"))
    assert list(path.parent.glob("*.aside-*")) == []


def test_a_missing_meta_is_damage_that_is_found_and_set_aside(path: Path) -> None:
    filled(path)
    store = open_at(path)
    store.connection.execute("DELETE FROM metas")
    with pytest.raises(schema.ForeignFileError, match="meta 1"):
        store.take(0)


async def test_a_second_process_on_the_same_file_is_refused_in_one_sentence(path: Path) -> None:
    code = (
        "import asyncio, pathlib, sys\nfrom gateway.buffer import Limits, open_buffer\n"
        "from gateway.errors import StorageError\n"
        "async def main():\n"
        "    try:\n"
        "        async with open_buffer(pathlib.Path(sys.argv[1]), Limits(1 << 20), 0.1): print('opened')\n"
        "    except StorageError as error: print(error, error.do)\n"
        "asyncio.run(main())\n"
    )
    async with open_buffer(path, ROOMY, 0.1):
        ran = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60
        )
    told = f"{path}: another edge-gateway is using this buffer Stop the other one, or give each its own buffer.path.\n"
    assert (ran.stdout, ran.stderr) == (told, "")


@pytest.mark.parametrize("place", ["file/buffer.db", "file/deeper/buffer.db", "/proc/buffer.db"])
async def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"buffer.db: the buffer's folder cannot be written: ") as refused:
        async with open_buffer(tmp_path / place, ROOMY, 0.1):
            pass
    assert refused.value.do == "Check buffer.path and the rights of its folder."


async def test_a_path_that_is_a_folder_is_one_sentence(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageError, match=f"^{path}: .*directory"):
        async with open_buffer(path, ROOMY, 0.1):
            pass


def test_the_machine_id_is_read_where_there_is_one(tmp_path: Path) -> None:
    assert read_machine_id(tmp_path) is None
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("b08dfa6083e7567a1921a715000001fb\n")
    assert read_machine_id(tmp_path) == "b08dfa6083e7567a1921a715000001fb"
