"""A disk that is full, fails or damages the file: nothing stops, all is told, and it goes on by itself (P4, P7)."""

import asyncio
import errno
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from buffer_cases import NOW, ROOMY, batch_of, bulky, gaps, seqs
from buffer_running import (
    everything,
    failing_soon,
    fill_disk,
    free_disk,
    running,
    total,
    zero_all_pages_but_the_first,
)  # fmt: skip

from gateway.buffer.stored import FIRST
from gateway.buffer.waiting import BATCH_READINGS, MAX_READINGS, MAX_SECONDS, Waiting
from gateway.errors import StorageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


async def test_a_full_disk_shows_in_the_status_and_all_goes_on_by_itself_when_there_is_room(path: Path) -> None:
    async with running(path) as buffer, failing_soon() as failing:
        await buffer.append(batch_of("press-1"))
        (row,) = await everything(buffer)
        await fill_disk(buffer)
        late = [buffer.append(bulky("press-1", seed)) for seed in range(5)]
        acknowledged = asyncio.ensure_future(buffer.acknowledge([row.id]))
        await failing.wait()
        assert buffer.status.error == f"{path}: the disk is full"
        assert not any(future.done() for future in [*late, acknowledged])
        await free_disk(buffer)
        assert all(await asyncio.gather(*late))
        await acknowledged
        assert buffer.status.writable
        rows = await everything(buffer)
        assert gaps(rows) == []
        assert seqs(rows, "press-1") == list(range(2, 42))
        assert (total(buffer).unaccounted, total(buffer).acked) == (0, 3)


async def test_what_a_failing_disk_does_not_take_is_bounded_in_memory_and_told_of(path: Path) -> None:
    async with running(path) as buffer, failing_soon() as failing:
        await buffer.append(batch_of("press-2"))
        await fill_disk(buffer)
        batches = [bulky(f"press-{n % 2}", n, 4000) for n in range(150)]
        futures = []
        for batch in batches:
            futures.append(buffer.append(batch))
            await asyncio.sleep(0)
            assert buffer._waiting.readings <= MAX_READINGS
        await failing.wait()
        assert buffer._waiting.readings <= MAX_READINGS
        futures[-1].cancel()  # whoever stopped waiting for it does not disturb the others
        await free_disk(buffer)
        stored = await asyncio.gather(*futures[:-1])
        rows = await everything(buffer)
        lost = stored.count(False)
        assert lost > 50
        assert sum(gap.fields["readings"] for gap in gaps(rows, "disk-failed")) == lost * 4000
        assert (total(buffer).unaccounted, total(buffer).dropped) == (0, lost * 4000)
        assert buffer.drops("press-0") == buffer.drops("press-1") == 1
        assert buffer.drops("press-2") == 0


async def test_batches_wait_for_a_failing_disk_for_a_minute_at_most(path: Path) -> None:
    waiting = Waiting()
    old, young = waiting.add(batch_of("press-1")), waiting.add(batch_of("press-1"))
    waiting.entries[0] = replace(waiting.entries[0], since=time.monotonic() - MAX_SECONDS - 1)
    waiting.shed(failing=False)
    assert not old.done()
    waiting.shed(failing=True)
    assert (old.result(), young.done(), len(waiting.entries)) == (False, False, 1)
    assert waiting.readings == 3 + BATCH_READINGS
    (given_up, _) = waiting.batches
    assert (given_up.sampled, given_up.dropped, given_up.samples) == (3, 3, ())


async def test_what_was_given_up_twice_is_told_once_and_in_sum(path: Path) -> None:
    first, second = Waiting(), Waiting()
    for waiting, ts in ((first, NOW), (second, NOW + 5)):
        waiting.add(batch_of("press-1", ts=ts, suppressed=2))
        waiting.entries[0] = replace(waiting.entries[0], since=-MAX_SECONDS * 1000)
        waiting.shed(failing=True)
    second.put_back(first)
    (batch,) = second.batches
    (gap,) = batch.gaps
    assert (batch.sampled, batch.suppressed, batch.dropped) == (10, 4, 6)
    assert (gap.reason, dict(gap.fields)) == ("disk-failed", {"readings": 6, "from": NOW, "to": NOW + 5})


async def test_a_full_file_system_is_survived(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = await asyncio.to_thread(subprocess.run, mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        async with running(disk / "buffer.db") as buffer, failing_soon() as failing:
            await buffer.append(batch_of("press-1"))
            ballast = disk / "ballast"
            free = os.statvfs(disk)
            ballast.write_bytes(bytes((free.f_bavail - 2) * free.f_bsize))
            late = [buffer.append(bulky("press-1", seed)) for seed in range(4)]
            await failing.wait()
            ballast.unlink()
            assert all(await asyncio.gather(*late))
            assert seqs(await everything(buffer), "press-1") == list(range(1, 34))
            assert total(buffer).unaccounted == 0
    finally:
        await asyncio.to_thread(subprocess.run, ["umount", str(disk)], check=True)


async def test_damage_found_while_running_begins_an_epoch_at_once_and_the_publisher_goes_on(path: Path) -> None:
    async with running(path) as buffer:
        epoch = buffer.epoch
        for seed in range(10):
            await buffer.append(bulky("press-1", seed))
        (first, *_) = held = await buffer.take(0, readings=1)
        cursor = buffer.last_id
        await buffer._writer.run(zero_all_pages_but_the_first)
        assert await buffer.append(bulky("press-1", 99))
        assert buffer.epoch != epoch
        assert len(list(path.parent.glob("buffer.db.aside-*"))) == 1
        await buffer.acknowledge([row.id for row in held])
        buffer.release([first.id])
        await buffer.wait(cursor)
        rows = await buffer.take(cursor)
        (gap,) = gaps(rows)
        assert (gap.reason, dict(gap.fields)) == ("buffer-lost", {"previous_epoch": epoch, "last_seq": 80})
        assert seqs(rows, "press-1") == list(range(1, 10))
        assert (buffer.drops("press-1"), total(buffer).unaccounted, buffer.status.writable) == (1, 0, True)


async def test_a_late_acknowledgement_of_a_row_from_before_never_names_one_of_the_new_file(path: Path) -> None:
    async with running(path, limits=replace(ROOMY, keep_acked=3600.0)) as buffer:
        for seed in range(10):
            await buffer.append(bulky("press-1", seed))
        await buffer.acknowledge([row.id for row in await everything(buffer)], soon=True)
        await buffer.resend("press-1", 0, NOW * 2)
        used = {row.id for row in await buffer.take(FIRST, 0, readings=1 << 30)}
        await buffer._writer.run(zero_all_pages_but_the_first)
        await buffer.append(bulky("press-1", 99))
        await buffer.acknowledge([row.id for row in await everything(buffer)], soon=True)
        await buffer.resend("press-1", 0, NOW * 2)
        again = await buffer.take(FIRST, 0)
        assert again
        assert not used & {row.id for row in again}


async def test_a_damaged_file_that_cannot_be_replaced_yet_is_replaced_later(path: Path) -> None:
    async with running(path) as buffer, failing_soon() as failing:
        epoch = buffer.epoch
        for seed in range(10):
            await buffer.append(bulky("press-1", seed))
        blocker = path.with_name("buffer.db.new")  # no marker can be written, hence no epoch begun
        blocker.mkdir()
        await buffer._writer.run(zero_all_pages_but_the_first)
        late = buffer.append(bulky("press-1", 99))
        await failing.wait()
        with pytest.raises(StorageError):
            await buffer.take(0)
        blocker.rmdir()
        assert await late
        assert buffer.epoch != epoch
        assert [gap.reason for gap in gaps(await everything(buffer))] == ["buffer-lost"]


async def test_a_damaged_file_that_was_renamed_but_for_its_journal_is_replaced_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, refused = Path.rename, list[Path]()

    def refuse_a_journal(source: Path, target: Path) -> Path:
        if source.name.endswith("-wal") and not refused:
            refused.append(source)
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    async with running(path) as buffer:
        epoch = buffer.epoch
        for seed in range(10):
            await buffer.append(bulky("press-1", seed))
        monkeypatch.setattr(Path, "rename", refuse_a_journal)
        await buffer._writer.run(zero_all_pages_but_the_first)
        assert await buffer.append(bulky("press-1", 99))
        assert refused != []
        assert buffer.epoch != epoch
        assert buffer.status.writable


async def test_a_commit_is_a_success_though_the_disk_cannot_be_measured(path: Path) -> None:
    async with running(path) as buffer, failing_soon() as failing:
        path.parent.rename(path.parent.with_name("moved"))
        try:
            assert await buffer.append(batch_of("press-1"))
            await buffer.flush()
            assert not failing.is_set()
            assert total(buffer).sampled == 3
        finally:
            path.parent.with_name("moved").rename(path.parent)
