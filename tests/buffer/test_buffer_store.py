"""What the store gives out, under which names, and what it counts (P3, P4)."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from buffer_cases import NOW, assert_lawful, batch_of, commit, gaps, meta_of, open_at, seqs, take_all

from gateway.model import Batch, Gap, Sample


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


def test_one_open_gap_per_device_and_reason_grows_until_it_is_given_out(path: Path) -> None:
    store = open_at(path)
    skipped = Batch(meta_of("press-1"), (), 0, gaps=(Gap(NOW, "cycles-skipped", {"count": 2}),))
    commit(store, skipped, skipped)
    commit(store, skipped)
    rows = take_all(store)
    assert [gap.fields["count"] for gap in gaps(rows)] == [6]
    commit(store, skipped)
    assert [gap.fields["count"] for gap in gaps(take_all(store))] == [2]


def test_a_gap_that_was_given_out_does_not_grow_though_it_was_not_delivered(path: Path) -> None:
    store = open_at(path)
    skipped = Batch(meta_of("press-1"), (), 0, gaps=(Gap(NOW, "cycles-skipped", {"count": 2}),))
    commit(store, skipped)
    rows = take_all(store)
    store.release(row.id for row in rows)
    commit(store, skipped)
    first, second = take_all(store)
    assert (first, gaps([second])[0].fields["count"]) == (rows[0], 2)


def test_giving_an_older_gap_out_again_leaves_the_open_one_open(path: Path) -> None:
    store = open_at(path)
    skipped = Batch(meta_of("press-1"), (), 0, gaps=(Gap(NOW, "cycles-skipped", {"count": 1}),))
    commit(store, skipped)
    (old,) = take_all(store)
    commit(store, skipped)
    store.release([old.id])
    assert store.take(0, upto=old.id) == [old]
    commit(store, skipped)
    assert [gap.fields["count"] for gap in gaps(take_all(store))] == [2]


def test_a_gap_does_not_grow_after_a_restart(path: Path) -> None:
    store = open_at(path)
    skipped = Batch(meta_of("press-1"), (), 0, gaps=(Gap(NOW, "cycles-skipped", {"count": 1}),))
    commit(store, skipped)
    take_all(store)
    store.close()
    store = open_at(path)
    commit(store, skipped)
    assert [gap.fields["count"] for gap in gaps(take_all(store))] == [1, 1]


def test_a_row_acknowledged_twice_in_one_commit_counts_once(path: Path) -> None:
    store = open_at(path)
    commit(store, batch_of("press-1"), batch_of("press-1"))
    first, _ = take_all(store)
    commit(store, acked=[first.id, first.id])
    commit(store, acked=[first.id, 999])
    assert (store.ledgers()["press-1"].acked, store.ledgers()["press-1"].pending) == (3, 3)
    assert_lawful(store)


def deny_counters(action: int, table: str | None, *_: object) -> int:
    """Let a commit fail at its last step."""
    return sqlite3.SQLITE_DENY if (action, table) == (sqlite3.SQLITE_UPDATE, "streams") else sqlite3.SQLITE_OK


def test_a_device_that_was_new_in_a_failed_commit_does_not_get_anothers_numbers(path: Path) -> None:
    store = open_at(path)
    store.connection.set_authorizer(deny_counters)
    with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
        commit(store, batch_of("press-1"), batch_of("press-2"))
    store.connection.set_authorizer(None)
    commit(store, batch_of("press-2"), batch_of("press-1"))
    assert {device: ledger.sampled for device, ledger in store.ledgers().items()} == {"press-1": 3, "press-2": 3}
    assert [row.meta.device for row in take_all(store)] == ["press-2", "press-1"]


def test_tags_that_changed_places_under_one_hash_keep_their_values(path: Path) -> None:
    store = open_at(path)
    meta = replace(meta_of("press-1", 2, "H"), names=("a", "b"))
    swapped = replace(meta, names=("b", "a"))
    for one in (meta, swapped):
        commit(store, Batch(one, (Sample.good(NOW, (0, 1), (1, 2)),), 2))
    assert [row.meta.names for row in take_all(store)] == [("a", "b"), ("b", "a")]


def test_a_topic_is_known_from_its_first_batch_until_it_is_retired(path: Path) -> None:
    store = open_at(path)
    commit(store, batch_of("press-1"))
    assert store.tables.topics == {"factory/hall/press-1": "press-1"}
    store.retire_topic("factory/hall/press-1")
    assert store.tables.topics == {}
    commit(store, batch_of("press-1"))
    store.close()
    assert open_at(path).tables.topics == {"factory/hall/press-1": "press-1"}


def test_rows_on_a_topic_that_is_held_back_stay_and_others_are_given(path: Path) -> None:
    store = open_at(path)
    commit(store, batch_of("press-1"), batch_of("press-2"))
    assert seqs(store.take(0, skip_topics={"factory/hall/press-1"}), "press-2") == [1]
    assert seqs(store.take(0), "press-1") == [1]


def test_take_gives_at_least_one_row_and_about_as_many_readings_as_asked_for(path: Path) -> None:
    store = open_at(path)
    commit(store, *(batch_of("press-1", 100) for _ in range(10)))
    assert len(store.take(0, readings=1)) == 1
    assert len(store.take(0, readings=250)) == 3
    assert [row.id for row in store.take(0, upto=6)] == [5, 6]


def test_what_was_read_before_the_disk_failed_is_given_when_it_reads_again(path: Path) -> None:
    store = open_at(path)
    commit(store, *(batch_of("press-1") for _ in range(3)))
    asked = 0

    def fail_at_the_third_blob(statement: str) -> None:
        nonlocal asked
        asked += statement.startswith("SELECT blob FROM blobs")
        if asked == 3:
            store.connection.interrupt()

    store.connection.set_trace_callback(fail_at_the_third_blob)
    with pytest.raises(sqlite3.OperationalError):
        store.take(0)
    store.connection.set_trace_callback(None)
    assert seqs(store.take(0), "press-1") == [1, 2, 3]


def test_the_age_of_the_oldest_row_survives_a_restart(path: Path) -> None:
    store = open_at(path)
    commit(store, batch_of("press-1"))
    started = time.monotonic()
    store.connection.execute("UPDATE streams SET age_ms = age_ms + 5000")
    store.close()
    store = open_at(path)
    assert 5.0 <= store.level().oldest_age_s <= 5.1 + time.monotonic() - started
