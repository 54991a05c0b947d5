"""How history is asked for: in pages, within limits, paced; and what is told where the server has none."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncua
import pytest
from opcua_archive import Plc, archived, at, device, gateway, has, history_marks, incomplete, killed, numbers, until
from opcua_peer import BOUND_S, Peer

from gateway.drivers.opcua.history import filling
from gateway.model import Sample

ua: Any = asyncua.ua


@pytest.fixture(autouse=True)
def patch() -> Iterator[pytest.MonkeyPatch]:
    """Let history be asked for soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "_SETTLE_S", 0.05)
        patch.setattr(filling, "_PAUSE_S", 0.01)
        yield patch


def ms(number: int) -> int:
    return round(at(number).timestamp() * 1000)


async def outage(peer: Peer, folder: Path, plc: Plc, *names: str, length: int) -> None:
    """Run a gateway until it has all tags; then let them change so often while it is stopped."""
    await plc.add(*names)
    async with gateway(folder, device(peer, *names)) as on:
        for column in range(len(names)):
            await until(on, has(0, column=column))
    for name in names:
        for number in range(1, length):
            plc.keep(name, number)
        await plc.set(name, length)


async def test_continuation_points_are_followed_to_the_end(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer, response=3) as plc:
        await outage(peer, tmp_path, plc, "count", length=20)
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, has(*range(21)))
        assert numbers(rows, "history") == list(range(1, 20))
        assert len(plc.archive.asked) == 7


async def test_a_server_that_cuts_answers_without_a_continuation_point_is_asked_on(
    peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(filling, "_VALUES", 4)
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=20)
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, has(*range(21)))
        assert numbers(rows, "history") == list(range(1, 20))


async def test_more_values_in_one_instant_than_a_page_holds_are_no_dead_end(
    peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(filling, "_VALUES", 2)
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=1)
        kept = plc.archive.dictionary._datachanges[ua.NodeId("count", peer.index)]
        kept[1:1] = kept[:1] * 4
        plc.keep("count", 2)
        kept.insert(5, kept.pop())
        await plc.set("count", 3)
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, has(0, 1, 2, 3))
        assert sorted(numbers(rows, "history")) == [1, 2]


async def test_nodes_that_share_an_outage_share_requests_and_samples(peer: Peer, tmp_path: Path) -> None:
    names = [f"n{number:02}" for number in range(25)]
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, *names, length=5)
        async with gateway(tmp_path, device(peer, *names)) as on:
            rows = await until(on, lambda rows: all(has(*range(6), column=n)(rows) for n in range(25)))
        past = [row for row in rows if isinstance(row, Sample) and row.origin == "history"]
        assert [len(asked) for asked in plc.archive.asked] == [10, 10, 5]
        assert [(sample.ts, len(sample.columns)) for sample in past] == [
            (ms(number), size) for size in (10, 10, 5) for number in range(1, 5)
        ]


async def test_the_servers_limit_of_nodes_is_kept(peer: Peer, tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(5)]
    limit = ua.NodeId(ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerHistoryReadData)
    two, none = (ua.DataValue(ua.Variant(most, ua.VariantType.UInt32)) for most in (2, 0))
    await peer.server.write_attribute_value(limit, two)
    try:
        async with archived(peer) as plc:
            await outage(peer, tmp_path, plc, *names, length=3)
            async with gateway(tmp_path, device(peer, *names)) as on:
                await until(on, lambda rows: all(has(1, 2, column=n)(rows) for n in range(5)))
            assert [len(asked) for asked in plc.archive.asked] == [2, 2, 1]
    finally:
        await peer.server.write_attribute_value(limit, none)


async def test_tags_of_unlike_pace_are_merged_by_time(peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(filling, "_VALUES", 5)
    async with archived(peer) as plc:
        await plc.add("fast", "slow")
        async with gateway(tmp_path, device(peer, "fast", "slow")) as on:
            await until(on, has(0, column=0))
            await until(on, has(0, column=1))
        for number in range(1, 50):
            plc.keep("fast", number)
            if number % 7 == 0:
                plc.keep("slow", number)
        await plc.set("fast", 50)
        await plc.set("slow", 50)
        async with gateway(tmp_path, device(peer, "fast", "slow")) as on:
            await until(on, has(*range(51)))
            rows = await until(on, has(*range(7, 50, 7), column=1))
        stamps = [row.ts for row in rows if isinstance(row, Sample) and row.origin == "history"]
        assert stamps == [ms(number) for number in range(1, 50)]


async def test_a_server_that_keeps_no_history_is_asked_once_and_the_gap_is_told(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        plc.archive.refusals = {"count": ua.StatusCodes.BadHistoryOperationUnsupported}
        await outage(peer, tmp_path, plc, "count", "other", length=5)
        async with gateway(tmp_path, device(peer, "count", "other")) as on:
            await until(on, incomplete)
            await peer.write("count", 6, status=0x480, ts=at(6))
            rows = await until(on, lambda rows: len(incomplete(rows)) == 2)
            assert history_marks(on) == ["at:count", "at:other"]
        first, second = incomplete(rows)
        status = {"tags": ["count"], "status": "BadHistoryOperationUnsupported"}
        assert first == {**status, "from": ms(0), "to": ms(5)}
        assert second == {**status, "from": ms(5), "to": ms(6)}
        assert numbers(rows, "history", column=1) == [1, 2, 3, 4]
        assert [asked for asked in plc.archive.asked if "count" in asked] == [["count", "other"]]


async def test_a_history_that_begins_later_is_told_with_what_it_lacks(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=9)
        kept = plc.archive.dictionary._datachanges[ua.NodeId("count", peer.index)]
        del kept[:4]
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, has(*range(4, 10)))
        assert numbers(rows, "history") == [4, 5, 6, 7, 8]
        assert incomplete(rows) == [{"tags": ["count"], "from": ms(0), "to": ms(4), "status": "no-data"}]


async def test_an_empty_history_is_told(peer: Peer, tmp_path: Path) -> None:
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=9)
        plc.archive.dictionary._datachanges[ua.NodeId("count", peer.index)].clear()
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, incomplete)
        assert incomplete(rows) == [{"tags": ["count"], "from": ms(0), "to": ms(9), "status": "no-data"}]


async def test_a_refusal_that_may_pass_is_tried_again(peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(filling, "_RETRY_S", (0.05,) * 1000)
    async with archived(peer) as plc:
        plc.archive.refusals = {"count": ua.StatusCodes.BadTimeout}
        await outage(peer, tmp_path, plc, "count", length=5)
        async with gateway(tmp_path, device(peer, "count")) as on:
            async with asyncio.timeout(BOUND_S):
                while len(plc.archive.asked) < 3:
                    await asyncio.sleep(0.01)
            plc.archive.refusals = {}
            rows = await until(on, has(*range(6)))
        assert numbers(rows, "history") == [1, 2, 3, 4]
        assert incomplete(rows) == []


async def test_an_outage_in_the_middle_of_reading_back_is_a_hole_of_its_own(
    peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(filling, "_VALUES", 5)
    patch.setattr(filling, "_PAUSE_S", 0.05)
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=60)
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(9, 60))
            await plc.set("count", 61)
            await until(on, has(61))
            await peer.stop()
            await plc.run("count", range(62, 66))
            await peer.start()
            rows = await until(on, has(*range(66)))
        assert numbers(rows, "history") == [*range(1, 60), 62, 63, 64]


async def test_a_kill_in_the_middle_of_reading_back_leaves_neither_hole_nor_duplicate(
    peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(filling, "_VALUES", 5)
    patch.setattr(filling, "_PAUSE_S", 0.05)
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=60)
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(9, 60))
            left = killed(tmp_path, tmp_path / "killed")
        async with gateway(left, device(peer, "count")) as on:
            assert 59 not in numbers(await on.stored("plc"))
            rows = await until(on, has(*range(61)))
        assert numbers(rows, "history") == list(range(1, 60))
        assert incomplete(rows) == []


async def test_live_data_flow_between_the_paced_pieces_of_history(
    peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(filling, "_VALUES", 4)
    patch.setattr(filling, "_PAUSE_S", 0.3)
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=20)
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, has(20))
            for number in range(21, 26):
                await plc.set("count", number)
                await until(on, has(number))
            assert 19 not in numbers(await on.stored("plc"), "history")
            rows = await until(on, has(*range(26)))
            assert on.pollers["plc"].component.reconnects == 0
        assert numbers(rows, "history") == list(range(1, 20))


async def test_a_huge_hole_is_read_in_pieces_and_each_is_on_disk_before_the_next(
    peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    patch.setattr(filling, "_PAUSE_S", 0.0)
    async with archived(peer) as plc:
        await outage(peer, tmp_path, plc, "count", length=5_000)
        async with gateway(tmp_path, device(peer, "count")) as on:
            await until(on, lambda rows: 4_999 in numbers(rows))
            rows = await on.stored("plc")
        assert numbers(rows, "history") == list(range(1, 5_000))
        assert len(plc.archive.asked) >= 25


async def test_continuation_points_that_are_not_followed_are_released(
    peer: Peer, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    """A server that rounds the end up has more of what is not wanted."""
    patch.setattr(filling, "_VALUES", 8)
    async with archived(peer, response=5) as plc:
        await outage(peer, tmp_path, plc, "count", length=4)
        kept = plc.archive.dictionary._datachanges[ua.NodeId("count", peer.index)]
        kept += kept[-1:] * 4
        async with gateway(tmp_path, device(peer, "count")) as on:
            rows = await until(on, has(*range(5)))
            async with asyncio.timeout(BOUND_S):
                while not plc.archive.released:
                    await asyncio.sleep(0.01)
        assert numbers(rows, "history") == [1, 2, 3]
