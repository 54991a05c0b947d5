"""A device that notifies of its own accord: stored, then acknowledged, and read when it is silent."""

import asyncio
import logging
import time
from pathlib import Path

import pytest

from gateway.drivers.base import NOTIFICATIONS_LOST, Notification
from gateway.model import DeviceState, Gap, Sample
from gateway.poller import HEARTBEAT_LOOKS
from tests.poller_line import MIB, NEVER_S, all_bad, device, flood, line, lost
from tests.scripted import PATIENCE_S, Plc, scripted_tag


async def test_a_silent_subscription_does_not_look_as_if_it_hung(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc, heartbeat=NEVER_S)) as on:
        plc.notify(Sample.good(1, (0, 1), (1, 2)))
        await plc.next_taken()
        silence = NEVER_S / HEARTBEAT_LOOKS
        assert on.pollers["press-1"].component.moved_at > time.monotonic() + silence - 2 * PATIENCE_S


async def test_p1_a_notification_is_acknowledged_only_once_it_is_on_disk(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc), commit_interval=NEVER_S) as on:
        plc.notify(Sample.good(1, (0,), (1,), rx=5), receipt="first")
        plc.notify(Sample.good(2, (1,), (2,), rx=6), receipt="second")
        assert [await plc.next_taken(), await plc.next_taken()] == ["first", "second"]
        assert plc.acknowledged.empty()
        assert on.buffer.last_id == 0
        found = await on.samples()
        assert [await plc.next_receipt(), await plc.next_receipt()] == ["first", "second"]
        assert [(sample.ts, sample.rx, sample.columns, sample.values) for sample in found] == [
            (1, 5, (0,), (1,)),
            (2, 6, (1,), (2,)),
        ]
        component = on.pollers["press-1"].component
        assert (component.state, component.last_good_ms, component.cycle_last_s) == (DeviceState.OK, 6, None)


async def test_a_notification_that_did_not_get_to_the_disk_is_not_acknowledged(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc, deadband=0.0), commit_interval=NEVER_S) as on:
        plc.notify(Sample(1, (0, 1), (1, 2), 10**6), receipt="too much to wait in memory")
        plc.notify(Sample.good(2, (0, 1), (1, 2)), receipt="unchanged")
        assert await plc.next_taken() == "too much to wait in memory"
        assert await plc.next_taken() == "unchanged"
        assert await on.samples() == []
        assert await plc.next_receipt() == "unchanged"
        assert sum(gap.fields["readings"] for gap in await on.gaps()) == 10**6
        plc.notify(Sample.good(3, (0, 1), (1, 2)), receipt="whole")
        await plc.next_taken()
        assert [sample.values for sample in await on.samples()] == [(1, 2)]  # what was lost is sent again
        assert await plc.next_receipt() == "whole"
        assert plc.acknowledged.empty()


async def test_what_a_server_says_it_lost_is_stored_as_a_gap(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc)) as on:
        gap = Gap(5, "source-overflow", {"tags": ["level"], "to": 5})
        plc.sent.put_nowait(Notification((), (gap,), "overflow"))
        await plc.next_taken()
        assert [(found.reason, found.fields["tags"]) for found in await on.gaps()] == [("source-overflow", ["level"])]


async def test_after_notifications_were_lost_all_tags_are_read_at_once(tmp_path: Path) -> None:
    """P5: the last word on a tag may have been among them; its old value must not stand until the heartbeat."""
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc, deadband=0.0, heartbeat=NEVER_S)) as on:
        plc.notify(Sample.good(1, (0, 1), (1, 2)))
        await plc.next_taken()
        plc.sent.put_nowait(Notification((), (Gap(5, NOTIFICATIONS_LOST, {"count": 1, "to": 5}),), "lost"))
        await plc.next_taken()
        read = await plc.next_read()
        assert read.columns == (0, 1)
        read.give(1, 7, ts=6)
        found = await on.samples()
        while len(found) < 2:
            found = await on.samples()
        assert [sample.values for sample in found] == [(1, 2), (1, 7)]


async def test_tags_that_are_silent_are_read_at_their_heartbeat(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc, heartbeat=0.2)) as on:
        plc.notify(Sample.good(1, (0, 1), (1, 2)))
        taken = asyncio.get_running_loop().time()
        await plc.next_taken()
        read = await plc.next_read()
        assert read.columns == (0, 1)
        assert read.began - taken > 0.1
        read.give(1, 2, ts=2)
        await plc.next_read()
        assert [(sample.ts, sample.values) for sample in await on.samples()] == [(1, (1, 2)), (2, (1, 2))]


async def test_tags_that_the_server_never_notified_are_read_at_the_first_look(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc, heartbeat=0.2)) as on:
        read = await plc.next_read()
        assert read.columns == (0, 1)
        read.give_samples(Sample(1, (0,), (1,), 2, {"flow": "bad:BadNodeIdUnknown"}))
        await plc.next_read()
        (found,) = await on.samples()
        assert dict(found.quality) == {"flow": "bad:BadNodeIdUnknown"}
        assert on.pollers["press-1"].component.state is DeviceState.DEGRADED


async def test_a_subscription_that_is_lost_is_told_and_begins_again_whole(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc, deadband=5.0)) as on:
        plc.notify(Sample.good(1, (0, 1), (1, 2)), receipt=1)
        plc.sent.put_nowait(lost("BadSessionClosed"))
        plc.notify(Sample.good(2, (0, 1), (1, 2)), receipt=2)
        assert [await plc.next_taken(), await plc.next_taken()] == [1, 2]
        first, bad, again = await on.samples()
        assert (first.values, dict(bad.quality), again.values) == ((1, 2), all_bad("BadSessionClosed"), (1, 2))
        assert on.pollers["press-1"].component.state is DeviceState.OK


@pytest.mark.parametrize(
    ("end", "reason", "error"),
    [
        (None, "connection-lost", "192.0.2.1:4711 has stopped notifying."),
        (RuntimeError("oops"), "internal-error", "unexpected RuntimeError: oops"),
        (lost("BadTimeout"), "BadTimeout", "192.0.2.1:4711 does not answer."),
    ],
)
async def test_a_subscription_that_ends_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, end: Exception | None, reason: str, error: str
) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc)) as on:
        caplog.set_level(logging.INFO)
        await asyncio.wait_for(on.becomes(DeviceState.OK), PATIENCE_S)
        down = on.becomes(DeviceState.UNREACHABLE)
        errors: list[str | None] = []
        component = on.pollers["press-1"].component
        component.listeners.append(lambda: errors.append(component.error))
        plc.sent.put_nowait(end)
        await asyncio.wait_for(down, PATIENCE_S)
        assert errors[0] == error
        assert [dict(sample.quality) for sample in await on.samples()] == [all_bad(reason)]
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == (1 if reason == "internal-error" else 0)


async def test_a_heartbeat_read_that_fails_ends_the_connection(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    async with line(tmp_path, device(plc, heartbeat=0.1)) as on:
        (await plc.next_read()).fail(lost())
        await plc.next_read()
        assert plc.openings == 2
        assert [dict(sample.quality) for sample in await on.samples()] == [all_bad("timeout")]


async def test_a_drop_has_a_silent_subscription_read_again(tmp_path: Path) -> None:
    plc = Plc(subscribes=True)
    slow = scripted_tag("slow", deadband=0.0, heartbeat=NEVER_S)
    fast = scripted_tag("fast", deadband=0.0, heartbeat=1.0)
    section = device(plc, tags=[slow, fast])
    async with line(tmp_path, section, max_bytes=MIB) as on:
        plc.notify(Sample.good(1, (0, 1), (7, 8)))
        await plc.next_taken()
        await asyncio.wait_for(on.buffer.flush(), PATIENCE_S)
        await flood(on.buffer)
        read = await plc.next_read()
        while read.columns != (0, 1):
            read.give(8)
            read = await plc.next_read()
        read.give(7, 8)
        await plc.next_read()
        assert (0, 1) in [sample.columns for sample in await on.samples()]
