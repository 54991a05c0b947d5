"""What gives way when the buffer is full, old or damaged, and how each loss is told (P4)."""

from dataclasses import replace
from pathlib import Path

import pytest
from buffer_cases import (
    MIB,
    NOW,
    ROOMY,
    TINY,
    assert_lawful,
    batch_of,
    bulky,
    commit,
    gaps,
    meta_of,
    open_at,
    ranges,
    seqs,
    take_all,
)  # fmt: skip

from gateway.buffer import schema
from gateway.buffer.store import Store
from gateway.buffer.tables import Limits
from gateway.model import Batch, Gap, Sample


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


def pages(store: Store) -> int:
    """Give the size of the file in pages."""
    return int(store.connection.execute("PRAGMA page_count").fetchone()[0])


def acknowledge(store: Store, ids: list[int]) -> None:
    commit(store, acked=ids)


def test_one_device_that_fills_the_buffer_keeps_its_newest_batches_readable(path: Path) -> None:
    store = open_at(path, TINY)
    for seed in range(100):
        commit(store, bulky("press-1", seed))
    rows = take_all(store)
    assert store.condemned == []
    lost = {seq for first, last in ranges(gaps(rows)) for seq in range(first, last + 1)}
    stored = seqs(rows, "press-1")
    assert sorted([*lost, *stored]) == list(range(1, stored[-1] + 1))
    assert sum(gap.fields["readings"] for gap in gaps(rows)) + sum(row.readings for row in rows) == 100 * 2000
    assert_lawful(store)


def test_a_full_buffer_drops_no_more_than_it_needs_to(path: Path) -> None:
    store = open_at(path, TINY)
    full = 0
    for seed in range(100):
        full = max(full, store.tables.rows)
        commit(store, bulky("press-1", seed))
        assert store.tables.rows >= full - 2, "one or two batches give way to one"


@pytest.mark.parametrize("readings", [5, 120, 250, 500, 510, 520, 1000, 4000])
def test_a_burst_of_any_size_of_batch_fits_under_the_bound(path: Path, readings: int) -> None:
    store = open_at(path, TINY)
    count = min(3 * MIB // (8 * readings), 4000)
    for seed in range(2):
        commit(store, *(bulky(f"press-{n % 5}", seed * count + n, readings) for n in range(count)))
        assert pages(store) * schema.PAGE_BYTES <= MIB
    assert_lawful(store)


def test_what_is_larger_than_the_whole_buffer_costs_nobody_else(path: Path) -> None:
    store = open_at(path, TINY)
    commit(store, *(batch_of("press-1") for _ in range(10)))
    commit(store, bulky("press-2", 1, 200_000))
    rows = take_all(store)
    assert seqs(rows, "press-1") == list(range(1, 11))
    (lost,) = gaps(rows, "buffer-full")
    assert (ranges([lost]), lost.fields["readings"]) == ([], 200_000)
    assert_lawful(store)


def test_rows_in_flight_are_not_dropped_and_what_comes_then_is_refused_without_a_seq(path: Path) -> None:
    store = open_at(path, TINY)
    while store.tables.rows < 10 or not gaps(take_all(store), "buffer-full"):
        commit(store, bulky("press-1", store.tables.rows))
        assert store.tables.rows < 200
    held = dict(store.in_flight)
    commit(store, bulky("press-1", 1), bulky("press-1", 2))
    assert held.keys() <= {row for (row,) in store.connection.execute("SELECT id FROM batches")}
    (lost,) = gaps(take_all(store), "buffer-full")
    assert (ranges([lost]), lost.fields["readings"]) == ([], 4000)
    assert_lawful(store)


def test_drop_newest_keeps_what_came_first_and_goes_on_when_there_is_room(path: Path) -> None:
    store = open_at(path, Limits(MIB, when_full="drop-newest"))
    for seed in range(100):
        commit(store, bulky("press-1", seed))
    rows = take_all(store)
    assert (rows[0].first_seq, len(gaps(rows)), ranges(gaps(rows))) == (1, 1, [])
    acknowledge(store, [row.id for row in rows])
    commit(store, bulky("press-1", 1))
    (row,) = take_all(store)
    assert row.first_seq == seqs(rows, "press-1")[-1] + 1
    assert_lawful(store)


def test_a_smaller_max_bytes_makes_the_file_smaller(path: Path) -> None:
    store = open_at(path, ROOMY)
    commit(store, *(bulky("press-1", seed) for seed in range(400)))
    store.close()
    store = open_at(path, TINY)
    commit(store, bulky("press-1", 1))
    commit(store, bulky("press-1", 2))
    assert pages(store) * schema.PAGE_BYTES <= MIB
    assert_lawful(store)
    assert store.tables.rows > 30


def test_a_meta_that_needs_room_in_a_full_buffer_gets_it(path: Path) -> None:
    store = open_at(path, TINY)
    for seed in range(60):
        commit(store, bulky("press-1", seed))
    store.release([row.id for row in take_all(store)])  # the gap record is closed: what is dropped next needs another
    names = tuple(str(value) for sample in bulky("press-2", 1, 40_000).samples for value in sample.values)
    meta = replace(meta_of("press-2", len(names), "d"), names=names)
    wide = Batch(meta, (Sample.good(NOW, (0,), (1.5,)),), 1)
    commit(store, wide)
    assert pages(store) * schema.PAGE_BYTES <= MIB
    assert seqs(take_all(store), "press-2") == [1]
    assert_lawful(store)


def test_old_batches_expire_by_running_time_and_gap_records_never_do(path: Path) -> None:
    store = open_at(path, Limits(64 * MIB, max_age=3600.0))
    skipped = Batch(meta_of("press-1"), (), 0, gaps=(Gap(NOW, "cycles-skipped", {"count": 1}),))
    commit(store, skipped, batch_of("press-1"), batch_of("press-1"))
    store.connection.execute("UPDATE streams SET age_ms = 3700000")  # the gateway ran for an hour
    store.close()
    store = open_at(path, Limits(64 * MIB, max_age=3600.0))
    commit(store, batch_of("press-1"))
    rows = take_all(store)
    assert [gap.reason for gap in gaps(rows)] == ["cycles-skipped", "expired"]
    assert ranges(gaps(rows)) == [(2, 3)]
    assert seqs(rows, "press-1") == [1, 4, 5]
    assert_lawful(store)


def test_one_commit_lets_no_more_expire_than_takes_a_moment(path: Path) -> None:
    now = 0.0
    store = open_at(path, Limits(64 * MIB, max_age=3600.0), clock=lambda: now)
    commit(store, *(batch_of("press-1") for _ in range(5000)))
    now = 3700.0
    commit(store)
    assert 0 < sum(ledger.pending for ledger in store.ledgers().values()) < 5000 * 3
    commit(store)
    assert (store.ledgers()["press-1"].pending, store.ledgers()["press-1"].dropped) == (0, 15000)
    assert_lawful(store)


def test_that_nothing_is_due_to_expire_is_known_without_reading_every_row(path: Path) -> None:
    store = open_at(path, Limits(64 * MIB, max_age=3600.0))
    commit(store, *(batch_of("press-1") for _ in range(2000)))
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    store.connection.set_progress_handler(count, 100)
    commit(store, batch_of("press-1"))
    store.connection.set_progress_handler(None, 0)
    assert steps < 100


def test_a_damaged_batch_is_not_given_and_told_of(path: Path) -> None:
    store = open_at(path)
    commit(store, *(batch_of("press-1") for _ in range(3)))
    store.connection.execute("UPDATE blobs SET blob = zeroblob(length(blob)) WHERE id = 2")
    store.connection.execute("DELETE FROM blobs WHERE id = 3")
    assert seqs(take_all(store), "press-1") == [1]
    assert commit(store) == {"press-1"}
    (lost,) = gaps(take_all(store))
    assert (lost.reason, ranges([lost]), lost.fields["readings"]) == ("corrupt", [(2, 3)], 6)
    assert_lawful(store)


def test_losses_that_do_not_adjoin_are_told_by_a_record_each(path: Path) -> None:
    store = open_at(path)
    commit(store, *(batch_of("press-1") for _ in range(5)))
    store.connection.execute("DELETE FROM blobs WHERE id IN (1, 2, 4)")
    take_all(store)
    commit(store)
    assert ranges(gaps(take_all(store))) == [(1, 2), (4, 4)]
    assert_lawful(store)


def test_a_gap_record_outlives_the_damage_of_one_of_its_copies(path: Path) -> None:
    store = open_at(path)
    commit(store, Batch(meta_of("press-1"), (), 0, gaps=(Gap(NOW, "cycles-skipped", {"count": 1}),)))
    store.connection.execute("UPDATE blobs SET blob = zeroblob(8)")
    assert [gap.reason for gap in gaps(take_all(store))] == ["cycles-skipped"]


@pytest.mark.parametrize("value", ["text", 70_000, None])
def test_a_batch_that_cannot_be_stored_costs_no_other_device(path: Path, value: object) -> None:
    store = open_at(path)
    bad = Batch(meta_of("press-1", 2, "H"), (Sample.good(NOW, (0, 1), (1, value)),), 2)
    commit(store, batch_of("press-2"), bad, batch_of("press-2"))
    rows = take_all(store)
    assert seqs(rows, "press-2") == [1, 2]
    (lost,) = gaps(rows)
    assert (lost.reason, lost.fields["readings"], ranges([lost])) == ("not-storable", 2, [])
    assert_lawful(store)


def test_a_vacuum_that_fails_after_the_commit_does_not_undo_it(path: Path) -> None:
    store = open_at(path)
    commit(store, *(bulky("press-1", seed) for seed in range(400)))
    ids = [row.id for row in take_all(store)]

    def no_vacuum(action: int, first: str | None, *_: object) -> int:
        return 1 if first == "incremental_vacuum" else 0

    store.connection.set_authorizer(no_vacuum)
    acknowledge(store, ids)
    store.connection.set_authorizer(None)
    assert (store.tables.rows, store.ledgers()["press-1"].pending) == (0, 0)
