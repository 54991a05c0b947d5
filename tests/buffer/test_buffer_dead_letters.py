"""Samples that the broker takes at no price: counted, told of in a gap, kept to be looked at, and bounded (P4)."""

from pathlib import Path

import pytest
from buffer_cases import NOW, assert_lawful, batch_of, commit, gaps, meta_of, open_at, ranges, take_all

from gateway.buffer import dead_letters
from gateway.buffer.dead_letters import Letter
from gateway.model import Batch, Gap, Sample


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


def five_samples() -> Batch:
    """Give a batch of five samples of two readings each."""
    samples = tuple(Sample.good(NOW + at, (0, 1), (1.0 * at, 2.0)) for at in range(5))
    return Batch(meta_of("press-1", 2, "d"), samples, 10)


def letter(seq: int, readings: int = 2) -> Letter:
    return Letter(seq, NOW + seq, readings, b'{"seq":%d}' % seq, why="payload format invalid (0x99)")


def test_the_row_leaves_and_only_what_was_refused_counts_as_dropped(path: Path) -> None:
    store = open_at(path)
    commit(store, five_samples(), batch_of("press-1"))
    first, second = take_all(store)
    store.set_aside(first.id, [letter(2), letter(3), letter(5)])
    assert commit(store, acked=[second.id]) == {"press-1"}
    ledger = store.ledgers()["press-1"]
    assert (ledger.acked, ledger.dropped, ledger.pending) == (4 + 3, 6, 0)
    assert_lawful(store)
    told = gaps(take_all(store), "rejected")
    assert ranges(told) == [(2, 3), (5, 5)]
    assert [gap.fields["readings"] for gap in told] == [4, 2]
    kept = dead_letters.read(store.connection)
    assert [(one.device, one.epoch, one.seq) for one in kept] == [("press-1", store.epoch, seq) for seq in (2, 3, 5)]
    assert (kept[0].sample, kept[0].why) == (b'{"seq":2}', "payload format invalid (0x99)")


def test_they_are_still_there_after_a_restart_and_so_is_the_law(path: Path) -> None:
    store = open_at(path)
    commit(store, five_samples())
    (row,) = take_all(store)
    store.set_aside(row.id, [letter(1)])
    commit(store)
    store.close()
    store = open_at(path)
    assert dead_letters.count(store.connection) == 1
    assert store.ledgers()["press-1"].dropped == 2
    assert_lawful(store)


def test_a_gap_record_that_is_refused_makes_no_further_gap(path: Path) -> None:
    """The next one would be refused too, for ever."""
    store = open_at(path)
    commit(store, Batch(meta_of("press-1"), (), 0, gaps=(Gap(NOW, "paused"),)))
    (row,) = take_all(store)
    store.set_aside(row.id, [Letter(1, NOW, 0, b"{}", is_gap=True, why="refused")])
    commit(store)
    assert take_all(store) == []
    assert dead_letters.count(store.connection) == 1
    assert_lawful(store)


def test_the_oldest_make_room(path: Path) -> None:
    store = open_at(path)
    for at in range(3):
        commit(store, five_samples())
        (row,) = (row for row in take_all(store) if row.readings)
        store.set_aside(row.id, [letter(5 * at + one) for one in range(1, 6)] * 100)
        commit(store)
    assert dead_letters.count(store.connection) == dead_letters.MOST
    assert dead_letters.read(store.connection)[-1].seq == 15


def test_a_row_that_was_given_back_is_not_set_aside(path: Path) -> None:
    store = open_at(path)
    commit(store, five_samples())
    (row,) = take_all(store)
    store.release([row.id])
    store.set_aside(row.id, [letter(1)])
    commit(store)
    assert [again.id for again in take_all(store)] == [row.id]
