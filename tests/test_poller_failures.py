"""What a device, a bug or a full disk may do to a poller, and what it may not."""

import asyncio
import random
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.buffer import Limits, open_buffer
from gateway.drivers.base import Shared
from gateway.model import DeviceState, Sample
from gateway.poller import Poller
from tests.poller_line import MIB, QUICK_S, all_bad, device, flood, line, lost
from tests.scripted import PATIENCE_S, Plc, meta_of


async def test_p11_a_device_that_is_off_is_told_once_and_tried_until_it_is_there(tmp_path: Path) -> None:
    plc = Plc(refusals=[lost("connection-lost") for _ in range(20)])
    section = device(plc)
    async with line(tmp_path, section) as on:
        (await plc.next_read()).give(1, 2)
        await plc.next_read()
        assert plc.openings == 21
        bad, good = await on.samples()
        assert (dict(bad.quality), bad.columns, bad.readings) == (all_bad("connection-lost"), (), 2)
        assert good.values == (1, 2)
        assert on.pollers["press-1"].component.reconnects == 0


async def test_a_unit_that_is_dead_behind_a_connection_that_is_not_is_told_once(tmp_path: Path) -> None:
    section = device()
    async with line(tmp_path, section) as on:
        for _ in range(10):
            (await section.plc.next_read()).fail(lost())
        await section.plc.next_read()
        assert [dict(sample.quality) for sample in await on.samples()] == [all_bad("timeout")]
        component = on.pollers["press-1"].component
        assert (component.state, component.bad_tags) == (DeviceState.UNREACHABLE, 2)
        assert component.reconnects == 10
        assert section.plc.closings == 10


async def test_a_loss_is_told_again_at_each_heartbeat(tmp_path: Path) -> None:
    section = device(heartbeat=0.1)
    async with line(tmp_path, section) as on:
        while len(found := await on.samples()) < 4:
            (await section.plc.next_read()).fail(lost())
        assert {sample.quality["*"] for sample in found} == {"bad:timeout"}
        times = [sample.ts for sample in found]
        assert min(later - earlier for earlier, later in pairwise(times)) >= 90


@pytest.mark.parametrize("deadband", [None, 0.0, 5.0])
async def test_after_a_loss_everything_is_sent_whole_though_nothing_changed(
    tmp_path: Path, deadband: float | None
) -> None:
    section = device(deadband=deadband)
    async with line(tmp_path, section) as on:
        (await section.plc.next_read()).give(7, 8, ts=1)
        (await section.plc.next_read()).fail(lost())
        (await section.plc.next_read()).give(7, 8, ts=2)
        await section.plc.next_read()
        first, bad, again = await on.samples()
        assert (first.values, dict(bad.quality), again.values) == ((7, 8), all_bad("timeout"), (7, 8))
        assert on.pollers["press-1"].component.reconnects == 1


async def test_what_the_buffer_dropped_is_sent_again_with_the_next_read(tmp_path: Path) -> None:
    section = device(deadband=0.0)
    async with line(tmp_path, section, max_bytes=MIB) as on:
        (await section.plc.next_read()).give(7, 8)
        read = await section.plc.next_read()
        await asyncio.wait_for(on.buffer.flush(), PATIENCE_S)
        await flood(on.buffer)
        assert on.buffer.drops("press-1") > 0
        for _ in range(3):
            read.give(7, 8)
            read = await section.plc.next_read()
        assert [sample.values for sample in await on.samples()] == [(7, 8)]


async def test_a_loss_whose_sample_was_dropped_is_told_again(tmp_path: Path) -> None:
    section = device()
    async with line(tmp_path, section, max_bytes=MIB) as on:
        (await section.plc.next_read()).fail(lost())
        read = await section.plc.next_read()
        await asyncio.wait_for(on.buffer.flush(), PATIENCE_S)
        await flood(on.buffer)
        for _ in range(3):
            read.fail(lost())
            read = await section.plc.next_read()
        assert [dict(sample.quality) for sample in await on.samples()] == [all_bad("timeout")]


async def test_p7_a_buffer_that_nobody_empties_does_not_slow_the_schedule(tmp_path: Path) -> None:
    enough, noise, polls = asyncio.Event(), random.Random(7), 0

    def answers(columns: tuple[int, ...]) -> tuple[Sample, ...]:
        nonlocal polls
        polls += 1
        if polls == 300:
            enough.set()
        return (Sample.good(polls, columns, tuple(noise.randbytes(3000).hex() for _ in columns)),)

    section = device(Plc(answers=answers), interval=0.001)
    async with line(tmp_path, section, max_bytes=MIB) as on:
        await asyncio.wait_for(enough.wait(), PATIENCE_S)
        await asyncio.wait_for(on.buffer.flush(), PATIENCE_S)
        ledger = on.buffer.ledgers["press-1"]
        assert ledger.dropped > 0
        assert ledger.sampled >= 600
        assert on.pollers["press-1"].component.reconnects == 0
        assert on.buffer.status.bytes <= MIB


async def test_p6_one_devices_bug_costs_no_other_a_cycle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def bug(columns: tuple[int, ...]) -> tuple[Sample, ...]:
        raise RuntimeError("that was not foreseen")

    broken, sound = device(Plc(answers=bug), name="broken"), device(name="sound")
    async with line(tmp_path, broken, sound) as on:
        for number in range(20):
            (await sound.plc.next_read()).give(number, number)
        await sound.plc.next_read()
        assert [sample.values for sample in await on.samples("sound")] == [(n, n) for n in range(20)]
        assert on.pollers["sound"].component.reconnects == 0
        assert [dict(sample.quality) for sample in await on.samples("broken")] == [all_bad("internal-error")]
        assert on.pollers["broken"].component.error == "unexpected RuntimeError: that was not foreseen"
        assert broken.plc.openings > 1
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_p6_one_device_that_hangs_costs_no_other_a_cycle(tmp_path: Path) -> None:
    hanging, sound = device(name="hanging"), device(name="sound")
    async with line(tmp_path, hanging, sound) as on:
        await hanging.plc.next_read()  # never answered
        stuck = on.pollers["hanging"].component.moved_at
        for number in range(20):
            (await sound.plc.next_read()).give(number, number)
        await sound.plc.next_read()
        assert len(await on.samples("sound")) == 20
        assert on.pollers["hanging"].component.moved_at == stuck < on.pollers["sound"].component.moved_at


async def test_p6_a_future_that_a_library_cancels_costs_one_attempt_and_not_the_device(tmp_path: Path) -> None:
    section = device()
    async with line(tmp_path, section) as on:
        (await section.plc.next_read()).cancel()
        (await section.plc.next_read()).give(1, 2)
        await section.plc.next_read()
        bad, good = await on.samples()
        assert (dict(bad.quality), good.values) == (all_bad("internal-error"), (1, 2))


async def test_being_stopped_is_no_failure_of_the_device(tmp_path: Path) -> None:
    section = device()
    async with open_buffer(tmp_path / "buffer.db", Limits(8 * MIB), QUICK_S) as buffer:
        poller = Poller(section, meta_of(section), Shared("hall-3"), buffer)
        async with asyncio.TaskGroup() as group:
            committing = group.create_task(buffer.run(), name="buffer")
            polling = group.create_task(poller.attempt(), name="press-1")
            await section.plc.next_read()
            polling.cancel()
            await asyncio.wait([polling], timeout=PATIENCE_S)
            await asyncio.wait_for(buffer.flush(), PATIENCE_S)
            assert await buffer.take(0) == []
            committing.cancel()
    assert section.plc.closings == 1
