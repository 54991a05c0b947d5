"""From a device to the disk: the rate, the state and the time of what is read."""

import asyncio
import time
from itertools import pairwise
from pathlib import Path

import pytest

from gateway.model import DeviceState, Sample
from gateway.schedule import spread
from tests.poller_line import NEVER_S, QUICK_S, device, line, lost
from tests.scripted import PATIENCE_S, Plc, scripted_tag


async def test_what_a_device_answers_is_on_disk_with_its_own_time(tmp_path: Path) -> None:
    section = device(interval=0.5)  # so long that no poll on a busy computer is too slow
    async with line(tmp_path, section) as on:
        (await section.plc.next_read()).give(7, "ok", ts=4711)
        await section.plc.next_read()
        assert await on.samples() == [Sample.good(4711, (0, 1), (7, "ok"))]
        component = on.pollers["press-1"].component
        assert (component.state, component.bad_tags, component.last_good_ms) == (DeviceState.OK, 0, 4711)


async def test_a_refused_tag_makes_the_device_degraded_and_is_named(tmp_path: Path) -> None:
    section = device()
    async with line(tmp_path, section) as on:
        bad = Sample(1, (0,), (7,), 2, {"flow": "bad:illegal-address"})
        (await section.plc.next_read()).give_samples(bad)
        (await section.plc.next_read()).give_samples(bad)
        await section.plc.next_read()
        assert await on.samples() == [bad, Sample.good(1, (0,), (7,))]
        component = on.pollers["press-1"].component
        assert (component.state, component.bad_tags, component.bad_names) == (DeviceState.DEGRADED, 1, ("flow",))
        assert "flow (bad:illegal-address)" in str(component.error)


async def test_a_last_answer_without_any_good_value_is_not_the_last_good_one(tmp_path: Path) -> None:
    section = device()
    async with line(tmp_path, section) as on:
        first, second = Sample(1000, (0,), (7,), 1), Sample(2000, (), (), 1, {"flow": "bad:timeout"})
        (await section.plc.next_read()).give_samples(first, second)
        await section.plc.next_read()
        assert on.pollers["press-1"].component.last_good_ms == 1000


async def test_the_rate_is_fixed_and_what_is_skipped_is_counted_and_told(tmp_path: Path) -> None:
    interval = 0.05
    section = device(interval=interval)
    started = asyncio.get_running_loop().time()
    async with line(tmp_path, section) as on:
        component = on.pollers["press-1"].component
        for number in range(8):
            read = await section.plc.next_read()
            slot = number + component.skipped_cycles
            assert read.began >= started + slot * interval - 0.005  # never early, however late the one before was
            if number in (2, 5):
                await asyncio.sleep(4 * interval)  # a PLC that takes its time
            read.give(number, number)
        await section.plc.next_read()
        assert component.skipped_cycles >= 4
        gaps = await on.gaps()
        assert {gap.reason for gap in gaps} == {"cycles-skipped"}
        assert sum(gap.fields["count"] for gap in gaps) == component.skipped_cycles
        assert [sample.values for sample in await on.samples()] == [(number, number) for number in range(8)]


async def test_the_gap_of_skipped_cycles_covers_the_time_of_the_poll_that_was_slow(tmp_path: Path) -> None:
    section = device(interval=0.02)
    async with line(tmp_path, section) as on:
        before = time.time_ns() // 1_000_000
        read = await section.plc.next_read()
        await asyncio.sleep(0.2)
        read.give(1, 1)
        (await section.plc.next_read()).fail(lost())  # and the poll after it failing does not hide it
        await section.plc.next_read()
        after = time.time_ns() // 1_000_000
        gap = (await on.gaps())[0]
        assert before - 50 <= gap.fields["from"] <= gap.fields["to"] - 180
        assert gap.fields["to"] <= after


async def test_a_poll_that_takes_longer_than_the_interval_makes_the_device_degraded(tmp_path: Path) -> None:
    section = device(interval=0.02)
    async with line(tmp_path, section) as on:
        degraded = on.becomes(DeviceState.DEGRADED)
        for _ in range(2):
            read = await section.plc.next_read()
            await asyncio.sleep(0.1)
            read.give(1, 1)
        component = on.pollers["press-1"].component
        await asyncio.wait_for(degraded, PATIENCE_S)
        assert component.error == "a poll takes longer than the interval of 0.02 s"
        assert (component.cycle_last_s or 0) >= 0.1
        assert (component.cycle_p95_s or 0) >= 0.1


async def test_a_driver_that_knows_says_what_is_slow_and_its_figures_make_no_new_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    section = device(interval=0.02)
    async with line(tmp_path, section) as on:
        component = on.pollers["press-1"].component
        told: list[str | None] = []
        component.listeners.append(lambda: told.append(component.error))
        for number in range(8):
            read = await section.plc.next_read()
            section.plc.slowness = f"needs {number + 1}.4 s for a 1 s interval, most of it for flow"
            await asyncio.sleep(0.05 if number % 2 == 0 or number == 1 else 0)  # later every other poll is quick enough
            read.give(1, number)
        await section.plc.next_read()
        assert component.state is DeviceState.DEGRADED
        assert told == [None, "needs 2.4 s for a 1 s interval, most of it for flow"]
    assert len([record for record in caplog.records if "needs" in record.message]) == 1


async def test_a_device_that_keeps_its_interval_again_for_a_while_is_well(tmp_path: Path) -> None:
    section = device(interval=0.3)  # so long that the computer's own slowness does not show
    async with line(tmp_path, section) as on:
        degraded = on.becomes(DeviceState.DEGRADED)
        for _ in range(2):
            read = await section.plc.next_read()
            await asyncio.sleep(0.35)
            assert not degraded.done(), "one slow poll is chance"
            read.give(1, 1)
        await asyncio.wait_for(degraded, PATIENCE_S)
        well = on.becomes(DeviceState.OK)
        polls = 0
        while not well.done():
            (await section.plc.next_read()).give(1, 1)
            await asyncio.sleep(0)
            polls += 1
        assert polls >= 9


async def test_before_each_read_the_driver_is_told_when_the_next_one_comes(tmp_path: Path) -> None:
    section = device(interval=0.2)
    async with line(tmp_path, section):
        for number in range(3):
            read = await section.plc.next_read()
            assert len(section.plc.expected) == number + 1
            assert read.began < section.plc.expected[-1] <= read.began + 0.21
            read.give(1, 1)
        steps = [later - earlier for earlier, later in pairwise(section.plc.expected)]
        assert [round(step / 0.2, 6) % 1 for step in steps] == [0, 0]


async def test_devices_with_different_phases_are_not_read_in_one_instant(tmp_path: Path) -> None:
    names, interval = ["first", "second", "third"], 1.0
    sections = [device(name=name, interval=interval) for name in names]
    phases = dict(zip(names, spread(["bus-a"] * 3), strict=True))
    started = asyncio.get_running_loop().time()
    async with line(tmp_path, *sections, phases=phases):
        for section in sections:
            read = await section.plc.next_read()
            read.give(1, 1)
            assert read.began >= started + phases[section.name] * interval / 2 - 0.005


async def test_what_the_deadband_leaves_out_is_counted_as_suppressed(tmp_path: Path) -> None:
    section = device(deadband=0.0)
    async with line(tmp_path, section) as on:
        for level in (1, 1, 2, 2):
            (await section.plc.next_read()).give(level, 5)
        await section.plc.next_read()
        assert [(sample.columns, sample.values) for sample in await on.samples()] == [((0, 1), (1, 5)), ((0,), (2,))]
        ledger = on.buffer.ledgers["press-1"]
        assert (ledger.sampled, ledger.suppressed, ledger.pending) == (8, 5, 3)


@pytest.mark.parametrize("synchronised", [True, None, False])
async def test_a_stamp_of_a_clock_that_is_not_set_is_marked(tmp_path: Path, synchronised: bool | None) -> None:
    section = device()
    async with line(tmp_path, section, clock=lambda: synchronised) as on:
        (await section.plc.next_read()).give(1, 2)
        (await section.plc.next_read()).give_samples(Sample.good(1, (0, 1), (1, 2), rx=2))
        (await section.plc.next_read()).fail(lost())
        await section.plc.next_read()
        ours, theirs, bad = await on.samples()
        mark = "unsynced" if synchronised is False else None
        assert (ours.clock, theirs.clock, bad.clock) == (mark, None, mark)  # the PLC's time is the PLC's


@pytest.mark.parametrize("subscribes", [False, True])
async def test_a_device_without_tags_is_well_and_never_read(tmp_path: Path, subscribes: bool) -> None:
    plc = Plc(subscribes=subscribes)
    section = device(plc, tags=[], heartbeat=QUICK_S)
    async with line(tmp_path, section) as on:
        component = on.pollers["press-1"].component
        await asyncio.wait_for(on.becomes(DeviceState.OK), PATIENCE_S)
        moved = component.moved_at
        await asyncio.sleep(10 * QUICK_S)
        assert component.moved_at > moved
        assert (plc.openings, component.state, plc.reads.empty()) == (1, DeviceState.OK, True)
        assert await on.stored() == []


async def test_a_poller_that_has_nothing_to_do_for_hours_does_not_look_as_if_it_hung(tmp_path: Path) -> None:
    section = device(tags=[scripted_tag("level", interval=NEVER_S)])
    async with line(tmp_path, section) as on:
        (await section.plc.next_read()).give(1)
        await on.stored()
        assert on.pollers["press-1"].component.moved_at > time.monotonic() + NEVER_S - 2 * PATIENCE_S
