"""What an outage left out is read from the server's history: each kind of outage, to the buffer on disk."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncua
import pytest
from opcua_archive import archived, at, device, gateway, has, history_marks, incomplete, killed, numbers, until
from opcua_peer import Peer

from gateway.drivers.opcua.history import filling
from gateway.model import Gap, Sample

ua: Any = asyncua.ua


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "_SETTLE_S", 0.05)
        patch.setattr(filling, "_PAUSE_S", 0.01)
        yield


async def test_what_changed_while_the_link_was_lost_is_read_back(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc, gateway(tmp_path, device(peer, "count")) as on:
        await plc.add("count")
        await plc.run("count", range(1, 4))
        await until(on, has(3))
        await peer.stop()
        await plc.run("count", range(4, 9))
        await peer.start()
        await until(on, has(8))
        await plc.run("count", range(9, 12))
        rows = await until(on, has(*range(3, 12)))
    assert numbers(rows, "history") == [4, 5, 6, 7]
    assert numbers(rows, None)[-4:] == [8, 9, 10, 11]
    past = [row for row in rows if isinstance(row, Sample) and row.origin == "history"]
    assert [sample.ts for sample in past] == [round(at(number).timestamp() * 1000) for number in (4, 5, 6, 7)]
    assert all(sample.rx is not None for sample in past)
    assert incomplete(rows) == []


async def test_what_changed_while_the_gateway_was_stopped_is_read_back(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            await plc.run("count", range(1, 4))
            await until(on, has(3))
        await plc.run("count", range(4, 9))
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, has(*range(9)))
        assert numbers(rows, "history") == [4, 5, 6, 7]


async def test_after_a_kill_history_begins_at_the_last_value_on_disk(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            await plc.run("count", range(1, 4))
            await until(on, has(3))
            left = killed(tmp_path, tmp_path / "killed")
            await plc.run("count", range(4, 7))
            await until(on, has(6))
        await plc.run("count", range(7, 9))
        async with gateway(left, device(peer, "count")) as on:
            rows = await until(on, has(*range(9)))
        assert numbers(rows, "history") == [4, 5, 6, 7]


async def test_polled_tags_are_read_back_too(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        keys = {"mode": "poll", "interval": "20ms"}
        async with gateway(tmp_path, device(peer, "count", **keys)) as on:
            await until(on, has(0))
            await plc.set("count", 3)
            await until(on, has(3))
            await peer.stop()
            await plc.run("count", range(4, 9))
            await peer.start()
            rows = await until(on, has(*range(3, 9)))
        assert numbers(rows, "history") == [4, 5, 6, 7]


async def test_when_nothing_changed_nothing_is_asked(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count", "calm")
        async with gateway(tmp_path, device(peer, "count", "calm")) as on:
            await until(on, has(0, column=1))
        async with gateway(tmp_path, device(peer, "count", "calm")) as on:
            await until(on, lambda rows: numbers(rows) == numbers(rows, column=1) == [0, 0])
            await plc.set("count", 5)
            await until(on, has(5))
            await plc.set("count", 6)
            await until(on, has(6))
            await asyncio.sleep(3 * filling._SETTLE_S)
    assert "HistoryRead" not in peer.wire.services


async def test_a_first_start_reads_no_history(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        await plc.run("count", range(1, 9))
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(8))
            await asyncio.sleep(3 * filling._SETTLE_S)
    assert "HistoryRead" not in peer.wire.services


async def test_a_tag_without_history_is_not_asked_for_and_has_no_bookmark(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            assert history_marks(on) == ["at:count"]
        await plc.run("count", range(1, 9))
        async with gateway(tmp_path, device(peer, "count", history=False)) as on:
            await until(on, lambda rows: not history_marks(on) and has(8)(rows))
    assert "HistoryRead" not in peer.wire.services


async def test_several_values_of_one_millisecond_at_both_seams_come_once_each(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        tick = timedelta(microseconds=100)
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            for step in range(1, 3):
                await plc.set("count", step, at(1) + step * tick)
            await until(on, has(2))
        for step in range(3, 5):
            await plc.set("count", step, at(1) + step * tick)
        for step in range(5, 9):
            await plc.set("count", step, at(2) + step * tick)
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(8))
            await plc.set("count", 9, at(2) + 9 * tick)
            rows = await until(on, has(*range(10)))
        assert numbers(rows, "history") == [3, 4, 5, 6, 7]
        assert sorted(numbers(rows)) == list(range(10))


async def test_qualities_are_those_that_the_server_kept(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
        plc.keep("count", 1, status=0x808C0000)
        plc.keep("count", 2, status=0x40900000)
        await plc.set("count", 3)
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, has(2, 3))
        past = [row.quality for row in rows if isinstance(row, Sample) and row.origin == "history"]
        assert past == [{"count": "bad:BadSensorFailure"}, {"count": "uncertain:UncertainLastUsableValue"}]


async def test_the_outage_itself_stays_told(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            await peer.stop()
            await plc.run("count", range(1, 4))
            await peer.start()
            rows = await until(on, has(*range(4)))
    bad = [row for row in rows if isinstance(row, Sample) and "*" in row.quality]
    assert bad
    assert all(sample.origin is None for sample in bad)
    assert not [row for row in rows if isinstance(row, Gap) and row.reason == "history-incomplete"]


async def test_values_that_overflowed_the_servers_queue_are_read_back(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            for number in range(1, 5):
                plc.keep("count", number)
            plc.keep("count", 5)
            await peer.write("count", 5, status=0x480, ts=at(5))
            rows = await until(on, has(*range(6)))
    assert numbers(rows, "history") == [1, 2, 3, 4]


async def test_messages_that_were_lost_on_the_way_are_read_back(peer: Peer, tmp_path: Path) -> None:
    """What the gateway reads at once after a loss is not read back a second time."""
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            (subscription,) = peer.subscriptions
            subscription._notification_seq += 2  # as if two messages had been sent and never came
            for number in range(1, 5):
                plc.keep("count", number)
            await plc.set("count", 5)
            await until(on, lambda rows: any(isinstance(row, Gap) for row in rows))
            await plc.set("count", 6)
            rows = await until(on, has(*range(7)))
    assert numbers(rows, "history") == [1, 2, 3, 4]


async def test_a_subscription_that_the_server_ended_costs_nothing(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await plc.add("count")
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(0))
            (subscription,) = peer.subscriptions
            ended = on.pollers["plc"].component.reconnects
            for number in range(1, 5):
                plc.keep("count", number)
            await subscription.enqueue_statuschange(ua.StatusCode(ua.StatusCodes.BadTimeout))
            subscription._startup = True  # publishes at once
            await plc.set("count", 5)
            rows = await until(on, has(*range(6)))
            assert on.pollers["plc"].component.reconnects > ended
    assert numbers(rows, "history") == [1, 2, 3, 4]
