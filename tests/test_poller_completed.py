"""What a PLC tells beyond the config: tags, what it kept of the time before, and where to go on after a crash."""

from dataclasses import replace
from pathlib import Path

from gateway.buffer import Limits, open_buffer
from gateway.drivers.base import DeviceSection, Notification
from gateway.model import Batch, Gap, Meta, Sample
from gateway.poller import Changed
from tests.poller_line import MIB, QUICK_S, device, line, lost
from tests.scripted import Plc, meta_of, scripted_tag


async def test_the_plcs_own_tags_take_the_place_of_the_configs(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    configured = device(plc)
    told = [scripted_tag("level"), scripted_tag("flow"), scripted_tag("found by browsing")]
    plc.completed = configured.model_copy(update={"tags": tuple(told)})
    announced: list[Meta] = []
    async with line(tmp_path, configured, changed=Changed(meta_of, announced.append)) as on:
        plc.notify(Sample.good(1, (2,), (7,)))
        await plc.next_taken()
        assert [sample.columns for sample in await on.samples()] == [(2,)]
        assert on.pollers["press-1"].component.tags == 3
    assert [meta.names for meta in announced] == [("level", "flow", "found by browsing")]


async def test_what_the_plc_tells_of_its_tags_later_is_taken_over_and_all_is_sent_again(tmp_path: Path) -> None:
    """A node that was not there has come: its value is stored under the meta that knows its unit."""
    plc = Plc(subscribes=True)
    configured = device(plc, deadband=5.0)
    announced: list[Meta] = []

    def describe(section: DeviceSection) -> Meta:
        return replace(meta_of(section), id="".join(tag.unit or "" for tag in section.tags))

    async with line(tmp_path, configured, changed=Changed(describe, announced.append)) as on:
        plc.notify(Sample.good(1, (0,), (1,)))
        await plc.next_taken()
        tags = [scripted_tag(tag.name, deadband=5, unit="bar") for tag in configured.tags]
        plc.completed = configured.model_copy(update={"tags": tuple(tags)})
        plc.notify(Sample.good(2, (0,), (1,)))
        await plc.next_taken()
        read = await plc.next_read()
        assert set(read.columns) == set(range(1, len(tags)))
        read.give(*range(1, len(tags)))
        assert [sample.ts for sample in await on.samples()][:2] == [1, 2]
    assert announced[-1].id == "bar" * len(tags)


async def test_what_the_plc_may_hold_back_is_taken_off_the_deadband(tmp_path: Path) -> None:
    plc = Plc(subscribes=True, held_back={0: 1.0})
    async with line(tmp_path, device(plc, deadband=5.0)) as on:
        for ts, value in enumerate([0, 4, 5], 1):
            plc.notify(Sample.good(ts, (0,), (value,)))
            await plc.next_taken()
        assert [sample.ts for sample in await on.samples()] == [1, 3]


async def test_what_the_plc_kept_is_stored_whole_beside_the_live_data(tmp_path: Path) -> None:
    """Neither deadband nor the last live value has a say in what is history."""
    plc = Plc(subscribes=True)
    past = Sample(5, (0,), (1,), 1, rx=9, origin="history")
    plc.kept = [Notification((past,), bookmarks={"flow": 5}), Notification((), (Gap(6, "history-incomplete"),))]
    async with line(tmp_path, device(plc, deadband=5.0)) as on:
        plc.notify(Sample.good(10, (0,), (1,)))
        await plc.next_taken()
        rows = await on.stored()
        assert past in rows
        assert Sample.good(10, (0,), (1,)) in rows
        assert [gap.reason for gap in await on.gaps()] == ["history-incomplete"]
        assert on.buffer.bookmarks("press-1") == {"flow": 5}


async def test_a_drivers_farewell_is_stored_when_it_is_closed_and_not_when_it_broke(tmp_path: Path) -> None:
    plc = Plc(subscribes=True, farewell={"place": None})
    async with line(tmp_path, device(plc)) as on:
        plc.sent.put_nowait(Notification((), bookmarks={"place": 7}))
        await plc.next_taken()
        plc.sent.put_nowait(lost())
        plc.notify(Sample.good(1, (0,), (1,)))
        await plc.next_taken()
        assert plc.openings == 2
        assert on.buffer.bookmarks("press-1") == {"place": 7}
    assert on.buffer.bookmarks("press-1") == {}


async def test_bookmarks_are_stored_with_their_samples_and_are_there_after_a_restart(tmp_path: Path) -> None:
    meta = meta_of(device())
    async with open_buffer(tmp_path / "buffer.db", Limits(8 * MIB), QUICK_S) as buffer:
        buffer.append(Batch(meta, (Sample.good(1, (0,), (1,)),), 1, bookmarks={"a": 1, "b": "two", "c": 3}))
        buffer.append(Batch(meta, (), 0, bookmarks={"a": 4, "c": None}))
        assert buffer.bookmarks("press-1") == {"a": 4, "b": "two"}
    async with open_buffer(tmp_path / "buffer.db", Limits(8 * MIB), QUICK_S) as buffer:
        assert buffer.bookmarks("press-1") == {"a": 4, "b": "two"}
        assert buffer.bookmarks("another") == {}
