"""What was acknowledged stays for as long as `keep_acked` says, and is sent again under its old names (P3, P4)."""

from dataclasses import replace
from pathlib import Path

import pytest
from buffer_cases import MIB, NOW, ROOMY, assert_lawful, batch_of, bulky, commit, gaps, open_at, seqs, take_all
from buffer_running import everything, running, total

from gateway.buffer import Buffer, kept, schema
from gateway.buffer.stored import FIRST
from gateway.model import Sample

HOUR = replace(ROOMY, keep_acked=3600.0)
DAY_MS = 86_400_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


def at(ts: int, device: str = "press-1"):  # type: ignore[no-untyped-def]
    return batch_of(device, ts=ts, seed=ts)


def resend(store, device: str, since: int = 0, until: int = NOW * 2) -> kept.Resent:  # type: ignore[no-untyped-def]
    """Send again what is kept."""
    span, done = kept.Span(device, since, until, kept.newest(store)), kept.Resent(0, 0, 0)
    while done.after is not None:
        done = kept.resend_some(store, span, done, NOW)
    return done


def acknowledge_all(store) -> None:  # type: ignore[no-untyped-def]
    while rows := store.take(FIRST):
        commit(store, acked=[row.id for row in rows])


def test_what_is_kept_is_not_given_again_by_itself_and_not_pending(path: Path) -> None:
    store = open_at(path, HOUR)
    commit(store, at(1), at(2))
    acknowledge_all(store)
    assert (take_all(store), store.level().rows, store.ledgers()["press-1"].acked) == ([], 0, 6)
    assert store.level().kept_bytes > 0
    store.close()
    store = open_at(path, HOUR)
    assert (take_all(store), store.tables.kept_rows) == ([], 2)
    commit(store, at(3))
    assert seqs(take_all(store), "press-1") == [3]


def test_without_keep_acked_nothing_is_kept(path: Path) -> None:
    store = open_at(path)
    commit(store, at(1))
    acknowledge_all(store)
    assert store.connection.execute("SELECT count(*) FROM blobs").fetchone() == (0,)


def test_a_resend_carries_the_same_samples_under_the_same_names(path: Path) -> None:
    store = open_at(path, HOUR)
    commit(store, *(at(ts, device) for ts in range(1, 7) for device in ("press-1", "press-2")))
    rows = store.take(0)
    before = {(row.epoch, row.meta.device, row.first_seq): row.samples for row in rows}
    commit(store, acked=[row.id for row in rows])
    assert resend(store, "press-1", 2, 4) == kept.Resent(None, 3, 9)
    again = store.take(FIRST)
    assert {row.id < 0 for row in again} == {True}
    assert [(row.meta.device, row.first_seq) for row in again] == [("press-1", 2), ("press-1", 3), ("press-1", 4)]
    assert all(before[row.epoch, row.meta.device, row.first_seq] == row.samples for row in again)


def test_resends_count_apart_and_can_be_repeated(path: Path) -> None:
    store = open_at(path, HOUR)
    commit(store, at(1), at(2))
    acknowledge_all(store)
    for times in (1, 2, 3):
        assert resend(store, "press-1").readings == 6
        assert store.ledgers()["press-1"].pending == 0
        acknowledge_all(store)
        ledger = store.ledgers()["press-1"]
        (stream,) = store.tables.streams.values()
        assert (ledger.acked, ledger.unaccounted, stream.resent) == (6, 0, 6 * times)
    store.close()
    (stream,) = open_at(path, HOUR).tables.streams.values()
    assert stream.resent == 18


def test_kept_rows_go_first_when_room_is_needed_without_a_gap(path: Path) -> None:
    store = open_at(path, replace(HOUR, max_bytes=MIB))
    for seed in range(120):
        commit(store, bulky("press-1", seed))
        acknowledge_all(store)
    assert 0 < store.tables.kept_rows < 60
    assert store.level().dropped == 0
    for seed in range(30):
        commit(store, bulky("press-1", seed))
    assert gaps(take_all(store)) == []
    pages = store.connection.execute("PRAGMA page_count").fetchone()[0]
    assert pages * schema.PAGE_BYTES <= MIB


def test_a_resent_row_that_gives_way_is_no_loss(path: Path) -> None:
    store = open_at(path, replace(HOUR, max_bytes=MIB))
    for seed in range(20):
        commit(store, bulky("press-1", seed))
    acknowledge_all(store)
    assert resend(store, "press-1").samples == 160
    for seed in range(40):
        commit(store, bulky("press-2", seed))
    rows = store.take(FIRST, readings=1 << 30)
    assert gaps(rows) == []
    assert store.ledgers()["press-1"].dropped == 0


@pytest.mark.parametrize("values", [20, 2000])
def test_what_is_kept_can_be_sent_again_in_a_buffer_that_is_full_of_it(path: Path, values: int) -> None:
    store = open_at(path, replace(HOUR, max_bytes=MIB))
    seed = 0
    while store.tables.kept_rows == seed:  # until the first of them give way
        commit(store, *(bulky(f"press-{number % 3}", number, values) for number in range(seed, seed + 40)))
        acknowledge_all(store)
        seed += 40
    kept_before = store.tables.kept_rows
    for device in ("press-1", "press-0", "press-2"):
        assert resend(store, device).samples > 0
    assert store.level().rows > kept_before / 2
    assert store.tables.kept_rows == 0
    assert_lawful(store)


def test_kept_rows_are_forgotten_when_their_time_is_over(path: Path) -> None:
    now = 0.0
    store = open_at(path, HOUR, clock=lambda: now)
    commit(store, at(1))
    acknowledge_all(store)
    now = 3000.0
    commit(store, at(2))
    acknowledge_all(store)
    now = 3700.0
    commit(store)
    assert resend(store, "press-1").samples == 1
    assert [row.first_seq for row in store.take(FIRST)] == [2]


def test_a_shorter_keep_acked_forgets_what_was_kept(path: Path) -> None:
    store = open_at(path, HOUR)
    commit(store, *(at(ts) for ts in range(1, 300)))
    acknowledge_all(store)
    store.close()
    store = open_at(path, ROOMY)
    commit(store)
    assert store.tables.kept_rows == store.tables.kept_bytes == 0
    assert store.connection.execute("SELECT count(*) FROM blobs").fetchone() == (0,)
    assert_lawful(store)


def test_new_rows_never_get_the_ids_of_kept_ones(path: Path) -> None:
    store = open_at(path, HOUR)
    commit(store, at(1), at(2))
    acknowledge_all(store)
    resend(store, "press-1")
    acknowledge_all(store)
    for _ in range(2):
        store.close()
        store = open_at(path, HOUR)
        commit(store, at(3))
        assert resend(store, "press-1").samples > 0
        acknowledge_all(store)
    assert store.tables.kept_rows == 4


def test_a_resend_while_no_gateway_runs_does_not_count_as_time_in_which_one_ran(path: Path) -> None:
    store = open_at(path, HOUR)
    commit(store, at(1))
    acknowledge_all(store)
    store.close()
    store = open_at(path, HOUR)
    span = kept.Span("press-1", 0, NOW, kept.newest(store))
    kept.resend_some(store, span, kept.Resent(0, 0, 0), NOW + DAY_MS)
    commit(store, now=NOW + DAY_MS)
    store.close()
    assert open_at(path, HOUR).stopped_ms == NOW


async def test_the_running_buffer_sends_again_and_says_so_to_whoever_waits(path: Path) -> None:
    async with running(path, limits=HOUR) as buffer:
        await buffer.append(at(5))
        await acknowledge(buffer)
        done = await buffer.resend("press-1", 0, DAY_MS)
        assert (done.samples, done.readings) == (1, 3)
        await buffer.wait_for_past(0)
        (row,) = await buffer.take(FIRST, 0)
        assert isinstance(row.samples[0], Sample)
        await buffer.acknowledge([row.id], soon=True)
        assert (total(buffer).acked, total(buffer).unaccounted) == (3, 0)
        assert (await buffer.resend("another", 0, DAY_MS)).samples == 0


async def acknowledge(buffer: Buffer) -> None:
    await buffer.acknowledge([row.id for row in await everything(buffer)], soon=True)


async def test_a_ledger_that_does_not_add_up_is_noticed_at_the_next_commit_and_stops_nothing(path: Path) -> None:
    async with running(path) as buffer:
        await buffer.append(at(1))

        def lose(store) -> None:  # type: ignore[no-untyped-def]
            store.tables.streams[1].sampled += 2

        await buffer._writer.run(lose)
        assert await buffer.append(at(2))
        assert buffer.status.unlawful == {"press-1": 2}
        assert await buffer.append(at(3))
        await buffer._writer.run(lambda store: setattr(store.tables.streams[1], "dropped", 2))
        assert await buffer.append(at(4))
        assert buffer.status.unlawful == {}
