"""The buffer as the gateway's tasks use it: group commit, futures, cancellation, status (P2, P7)."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from buffer_cases import MIB, NOW, ROOMY, batch_of, bulky, seqs
from buffer_running import TIMEOUT, busy, everything, fill_disk, free_disk, in_the_middle_of_a_commit, running, total

from gateway.buffer import Limits, open_buffer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


async def test_many_batches_within_the_interval_cost_one_commit(path: Path) -> None:
    async with running(path, interval=0.5) as buffer:
        statements: list[str] = []
        await buffer._writer.run(lambda store: store.connection.set_trace_callback(statements.append))
        futures = [buffer.append(batch_of(f"press-{n % 10}")) for n in range(500)]
        assert all(await asyncio.gather(*futures))
        assert statements.count("COMMIT") == 1
        await buffer.wait(499)
        assert buffer.last_id == 500


async def test_an_acknowledgement_rides_on_a_commit_and_soon_asks_for_one(path: Path) -> None:
    async with running(path, interval=TIMEOUT * 10) as buffer:
        on_disk = buffer.append(batch_of("press-1"))
        await buffer.flush()
        assert on_disk.result() is True
        (row,) = await everything(buffer)
        riding = asyncio.ensure_future(buffer.acknowledge([row.id]))
        await buffer.acknowledge((), soon=True)
        await riding
        assert (total(buffer).acked, total(buffer).pending) == (3, 0)


async def test_append_does_not_wait_for_a_slow_disk(path: Path) -> None:
    async with running(path) as buffer:
        with busy(buffer):
            futures = [buffer.append(batch_of("press-1")) for _ in range(100)]
            assert not any(future.done() for future in futures)
        assert all(await asyncio.gather(*futures))


async def test_wait_returns_when_a_newer_row_is_on_disk(path: Path) -> None:
    async with running(path) as buffer:
        waiting = asyncio.ensure_future(buffer.wait(1))
        await buffer.append(batch_of("press-1"))
        assert not waiting.done()
        await buffer.append(batch_of("press-1"))
        await waiting


async def test_a_commit_whose_task_is_cancelled_is_stored_once(path: Path) -> None:
    async with asyncio.timeout(TIMEOUT), open_buffer(path, ROOMY, 0.01) as buffer:
        on_disk = buffer.append(batch_of("press-1"))
        committing = asyncio.ensure_future(buffer.run())
        async with in_the_middle_of_a_commit(buffer):
            committing.cancel()
            await asyncio.sleep(0)
            committing.cancel()
            assert not on_disk.done()
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert on_disk.result() is True
    async with running(path) as buffer:
        assert seqs(await everything(buffer), "press-1") == [1]
        assert total(buffer).sampled == 6


async def test_a_commit_that_fails_while_its_task_is_cancelled_ends_the_task_and_loses_nothing(path: Path) -> None:
    async with asyncio.timeout(TIMEOUT), open_buffer(path, ROOMY, 0.01) as buffer:
        await fill_disk(buffer)
        on_disk = buffer.append(bulky("press-1", 1))
        committing = asyncio.ensure_future(buffer.run())
        async with in_the_middle_of_a_commit(buffer):
            committing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await committing
        assert not on_disk.done()
        await free_disk(buffer)
    assert on_disk.result() is True


async def test_rows_of_a_take_that_is_cancelled_are_not_in_flight(path: Path) -> None:
    async with running(path) as buffer:
        await buffer.append(batch_of("press-1"))
        with busy(buffer):
            taking = asyncio.ensure_future(buffer.take(0))
            await asyncio.sleep(0)
            taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert len(await buffer.take(0)) == 1


async def test_released_rows_are_given_again_unchanged(path: Path) -> None:
    async with running(path) as buffer:
        await buffer.append(batch_of("press-1"))
        rows = await buffer.take(0)
        assert await buffer.take(0) == []
        buffer.release(row.id for row in rows)
        assert await buffer.take(0) == rows


async def test_time_off_is_from_the_last_commit_before_this_start(path: Path) -> None:
    async with running(path) as buffer:
        assert buffer.time_off("press-1", NOW) is None
        before = time.time_ns() // 1_000_000
        await buffer.append(batch_of("press-1"))
        after = time.time_ns() // 1_000_000
        assert buffer.time_off("press-1", NOW) is None
    async with running(path) as buffer:
        await buffer.append(batch_of("press-2"))
        gap = buffer.time_off("press-1", after + 5000)
        assert gap is not None
        assert (gap.reason, gap.fields["to"]) == ("gateway-stopped", after + 5000)
        behind = buffer.time_off("press-1", before - 1)
        assert behind is not None
        assert behind.fields["to"] is None, "a clock that is behind the last commit cannot say until when"
        assert before <= gap.fields["from"] <= after
        assert buffer.time_off("press-3", NOW) is None


async def test_the_status_tells_how_full_the_buffer_is(path: Path) -> None:
    async with running(path, limits=Limits(64 * MIB)) as buffer:
        empty = buffer.status
        assert (empty.pending_samples, empty.full_in_s, empty.max_bytes) == (0, None, 64 * MIB)
        for seed in range(5):
            await buffer.append(bulky("press-1", seed))
            await buffer.flush()
        await buffer.flush()
        status: Any = buffer.status
        assert (status.pending_samples, status.pending_readings, status.dropped_readings) == (40, 10_000, 0)
        assert 0 < empty.bytes < status.bytes
        assert status.full_in_s > 0
        assert status.disk_free_bytes > 0
        assert buffer.answers


async def test_what_waits_when_the_buffer_is_closed_is_on_disk(path: Path) -> None:
    async with asyncio.timeout(TIMEOUT):
        async with open_buffer(path, ROOMY, 60.0) as buffer:
            on_disk = buffer.append(batch_of("press-1"))
        assert on_disk.result() is True
        async with open_buffer(path, ROOMY, 60.0) as buffer:
            assert seqs(await buffer.take(0), "press-1") == [1]
