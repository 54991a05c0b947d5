"""What a file that was set aside still holds comes over once, whatever happens meanwhile, and holds nobody up (P3)."""

import asyncio
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import wrecks
from buffer_cases import MIB, NOW, PER_SAMPLE, assert_lawful, batch_of, bulky, commit, gaps, open_at, ranges
from buffer_running import busy, running, zero_all_pages_but_the_first
from wrecks import NEW, Came, Left, assert_true, come_back

from gateway.buffer import Buffer, Limits, codec, folder, salvage, schema
from gateway.buffer.past import Chunk, Loss, take_over
from gateway.buffer.stored import FIRST
from gateway.buffer.wreck import END, Wreck
from gateway.model import Gap, Sample


def damaged(folder_: Path, count: int = 600) -> Left:
    """Leave a buffer of which one page of rows is lost."""
    left = wrecks.leave(folder_, count)
    wrecks.scribble(left.path, wrecks.pages_of(left.path, "batches")[2])
    return left


@pytest.mark.parametrize("delivered", [1, 200, 400])
async def test_a_kill_meanwhile_neither_loses_nor_doubles(tmp_path: Path, delivered: int) -> None:
    left = damaged(tmp_path / "first")
    came, image = Came(), tmp_path / "image"

    async def kill(buffer: Buffer) -> None:
        with busy(buffer):
            shutil.copytree(left.path.parent, image)

    await come_back(left, came=came, until=lambda _: len(came.samples) >= delivered, finally_=kill)
    live, came.live = came.live, 0
    left.path = image / "buffer.db"
    assert folder.set_asides(left.path) != []
    await come_back(left, came=came)
    came.live += live
    assert_true(left, came, lost=120)
    assert folder.set_asides(left.path) == []


async def test_while_no_broker_takes_anything_the_file_that_was_set_aside_keeps_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salvage, "MOST_WAITING", 100)
    left = damaged(tmp_path)
    async with running(left.path) as buffer:
        tables = lambda: buffer._writer.store.tables  # noqa: E731
        while tables().past_rows <= 100:
            await asyncio.sleep(0.01)
        seen = buffer.past
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await buffer.wait_for_past(seen)
        assert tables().past_rows <= 100 + 256
        assert buffer.status.salvaging
        assert len(folder.set_asides(left.path)) == 1
    assert_true(left, await come_back(left), lost=120)


async def test_what_was_stored_before_never_drives_out_what_is_read_now(tmp_path: Path) -> None:
    left = damaged(tmp_path, 800)
    live = [bulky("press-3", seed, PER_SAMPLE) for seed in range(100)]
    came = Came()
    async with running(left.path, limits=Limits(MIB)) as buffer:
        assert all(await asyncio.gather(*map(buffer.append, live[:50])))
        await buffer.wait_for_past(0)
        seen = buffer.past
        with pytest.raises(TimeoutError):  # until half of it is full
            async with asyncio.timeout(1):
                await buffer.wait_for_past(seen)
        assert all(await asyncio.gather(*map(buffer.append, live[50:])))
        assert buffer.status.dropped_readings == 0
        while folder.set_asides(left.path):
            await wrecks.deliver(buffer, left, came)
            await asyncio.sleep(0.01)
    assert came.live == len(live)
    assert not [gap for gap in came.gaps if gap.reason == "buffer-full"]
    assert left.samples.keys() - came.samples.keys() <= {
        name for name in left.samples if came.tells_of(name, left.epoch)
    }


async def test_rows_from_before_are_given_first_in_their_order_under_their_old_epoch(tmp_path: Path) -> None:
    left = damaged(tmp_path)
    async with running(left.path) as buffer:
        await buffer.append(batch_of("press-1"))
        while buffer._writer.store.tables.past_rows < 300:
            await asyncio.sleep(0.01)
        rows = await buffer.take(FIRST, buffer.last_id, readings=1 << 30)
        past = [row for row in rows if row.id < 0]
        assert rows[: len(past)] == past
        assert {row.epoch for row in past} == {left.epoch}
        seqs = [row.first_seq for row in past if row.meta.device == "press-1"]
        assert seqs == sorted(seqs)
        assert len(seqs) > 100


async def test_what_a_newer_gateway_left_is_taken_over_when_it_is_back(tmp_path: Path) -> None:
    left = wrecks.leave(tmp_path)
    wrecks.overwrite(left.path, 60, (schema.SCHEMA_VERSION + 1).to_bytes(4, "big"))
    came = await come_back(left)
    (name,) = came.left_aside
    wrecks.overwrite(left.path.with_name(name), 60, schema.SCHEMA_VERSION.to_bytes(4, "big"))
    live = came.live
    await come_back(left, came=came)
    came.live -= live
    assert came.samples == left.samples
    assert folder.set_asides(left.path) == []


async def test_a_copy_of_a_disk_leaves_what_the_other_machine_wrote(tmp_path: Path) -> None:
    left = wrecks.leave(tmp_path, machine_id="one")
    came = await come_back(left, machine_id="two")
    assert came.samples == {}
    (why,) = came.left_aside.values()
    assert why == "it was written on a machine with another machine-id, which may still send it itself"


async def test_a_file_is_kept_when_the_one_it_was_taken_over_into_proves_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, emptied = damaged(tmp_path), asyncio.Event()
    wait = salvage.Salvage._wait_for

    async def note_and_wait(self: salvage.Salvage, *arguments: Any) -> None:
        if arguments[-1] == 0:  # all is taken over, and nothing of it delivered
            emptied.set()
        await wait(self, *arguments)

    monkeypatch.setattr(salvage.Salvage, "_wait_for", note_and_wait)
    monkeypatch.setattr(salvage, "LOOK_S", 0.05)
    async with running(left.path) as buffer:
        await emptied.wait()
        epoch, came = buffer.epoch, Came()
        await buffer._writer.run(zero_all_pages_but_the_first)
        await buffer.append(batch_of("press-1"))
        assert buffer.epoch != epoch
        while folder.set_asides(left.path):
            await wrecks.deliver(buffer, left, came)
            await asyncio.sleep(0.01)
    assert len(left.samples) - len(came.samples) <= 120


def damage_meta(left: Left, *devices: str) -> None:
    """Flip a bit in what tells of the tags of some devices; the rows themselves are whole."""
    wrecks.close_cleanly(left)
    for device in devices:
        blob = codec.pack_meta(next(batch.meta for batch in NEW if batch.meta.device == device))
        wrecks.flip(left.path, [left.path.read_bytes().find(blob) + len(blob) // 2])


async def test_rows_without_a_readable_meta_are_told_and_their_file_is_left(tmp_path: Path) -> None:
    left = wrecks.leave(tmp_path)
    damage_meta(left, "press-1", "press-2")
    came = await come_back(left)
    assert came.samples == {}
    told = {seq for first, last in ranges(came.gaps) for seq in range(first or 0, last + 1)}
    assert {seq for _, seq in left.samples} <= told
    (why,) = came.left_aside.values()
    assert why == salvage.UNTOLD
    again = await come_back(left)
    assert (again.samples, list(again.left_aside), ranges(again.gaps)) == ({}, list(came.left_aside), [])


def test_a_loss_of_a_device_of_which_nothing_is_known_leaves_the_file(tmp_path: Path) -> None:
    store = open_at(tmp_path / "buffer.db")
    chunk = Chunk("gone", END, b"[]", [], [Loss("abc", "press-9", 1, 2)], {})
    assert not store.transact(lambda work: take_over(work, chunk, patient=True), NOW)
    assert store.transact(lambda work: take_over(work, chunk), NOW)
    assert salvage._is_untold(store, "gone")
    assert_lawful(store)


def test_losses_of_another_epoch_are_not_joined_to_what_is_known_of_its_end(tmp_path: Path) -> None:
    store = open_at(tmp_path / "buffer.db")
    meta = batch_of("press-1").meta
    told = [{"previous_epoch": "a", "last_seq": 4}, {"previous_epoch": "a", "first_seq": 5, "last_seq": 5}]
    told += [
        {"previous_epoch": "a", "first_seq": 6, "last_seq": 8},
        {"previous_epoch": "b", "first_seq": 9, "last_seq": 9},
    ]
    told += [{"previous_epoch": "b", "first_seq": None, "last_seq": None}]
    batch = batch_of("press-1")
    commit(store, *(type(batch)(meta, (), 0, gaps=(Gap(1, "buffer-lost", fields),)) for fields in told))
    found = gaps(store.take(0))
    assert [gap.fields.get("previous_epoch") for gap in found] == ["a", "a", "b", "b"]
    assert ranges(found) == [(5, 8), (9, 9), (None, None)]
    assert_lawful(store)


async def test_the_ledger_counts_what_came_over_in_its_old_epoch(tmp_path: Path) -> None:
    left = wrecks.leave(tmp_path)
    wrecks.close_cleanly(left)
    wrecks.zero_pages(left.path, wrecks.pages_of(left.path, "streams"))
    async with running(left.path) as buffer:
        await buffer.wait_for_past(0)
        streams = (await buffer._writer.run(lambda store: store.tables)).streams.values()
        old = [stream for stream in streams if stream.epoch == left.epoch]
        assert sum(stream.ledger.pending for stream in old) > 0
        assert {stream.ledger.unaccounted for stream in streams} == {0}
        assert isinstance(next(iter(left.samples.values())), Sample)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_bits_are_flipped_nothing_is_read_that_was_not_written(tmp_path: Path, seed: int) -> None:
    left, chance = wrecks.leave(tmp_path), random.Random(seed)
    wrecks.close_cleanly(left)
    size = left.path.stat().st_size
    for _ in range(5):
        wrecks.flip(left.path, {chance.randrange(wrecks.PAGE, size) for _ in range(400)})
        wreck, after, seen, found = Wreck(left.path), FIRST, b"", dict[tuple[str, int], object]()
        while after < END:
            chunk = wreck.read(after, seen, 1 << 20)
            assert chunk.upto > after
            after, seen = chunk.upto, chunk.seen
            for row in chunk.rows:
                name = (row.meta.device, row.row.first_seq)
                assert name not in found
                frame = codec.unseal(row.blob, epoch=row.epoch, device=name[0], seq=name[1])
                (found[name],) = codec.unpack(frame, row.meta)
        wreck.close()
        assert found.items() <= left.samples.items()
