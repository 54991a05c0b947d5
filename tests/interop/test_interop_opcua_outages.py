"""Outages against node-opcua, to the buffer on disk: what was kept for us, what is told as lost, what history fills."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.drivers.opcua.history import filling
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.model import Gap, Sample
from simulators.relay import Relay
from tests.interop.node_opcua import BOUND_S, NodeServer, node
from tests.poller_line import Line, line

pytestmark = pytest.mark.asyncio(loop_scope="session")
EVERY_MS = 10


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_SETTLE_S", 0.05)
    monkeypatch.setattr(filling, "_PAUSE_S", 0.01)


@asynccontextmanager
async def gateway(folder: Path, device: OpcuaDevice) -> AsyncIterator[Line]:
    """Run a gateway for the device, from the buffer that the folder has."""
    async with line(folder, cast("Any", device)) as on:
        yield on


async def until(on: Line, fits: Callable[[list[int]], bool]) -> list[Sample | Gap]:
    """Wait until the numbers on disk fit."""
    rows: list[Sample | Gap] = []
    async with asyncio.timeout(BOUND_S):
        while not fits(numbers(rows := await on.stored("plc"))):
            await asyncio.sleep(0.02)  # the pace of looking
    return rows


def numbers(rows: list[Sample | Gap], origin: str | None = "any") -> list[int]:
    """Give the numbers in the order in which they were stored; of one origin."""
    samples = [row for row in rows if isinstance(row, Sample) and row.columns and origin in ("any", row.origin)]
    return [int(value) for sample in samples for value in sample.values]  # type: ignore[arg-type]


def losses(rows: list[Sample | Gap]) -> list[str]:
    """Give the reasons of the gaps that tell of lost values."""
    return [row.reason for row in rows if isinstance(row, Gap)]


def has(*wanted: int) -> Callable[[list[int]], bool]:
    return lambda found: set(wanted) <= set(found)


def counting(server: NodeServer, name: str, **keys: Any) -> OpcuaDevice:
    tag = {"name": name, "node": node(name), "sampling": "0s", "queue": 10_000}
    return server.section([tag], **{"interval": "100ms", **keys})


def behind(relay: Relay, device: OpcuaDevice) -> OpcuaDevice:
    return device.model_copy(update={"endpoint": f"opc.tcp://127.0.0.1:{relay.port}"})


def port_of(server: NodeServer) -> tuple[str, int]:
    return "127.0.0.1", int(server.endpoint.rpartition(":")[2])


async def ours(server: NodeServer, *, items: int = 1) -> dict[str, Any]:
    """Give what the server tells of our subscription: the only one with items."""
    (found,) = [each for each in await server.order("held") if each["items"] == items]
    return dict(found)


def latest(subscription: dict[str, Any]) -> int:
    """The number of the newest message that nobody has acknowledged yet; 0 if there is none."""
    return max(subscription["unacknowledged"], default=0)


async def test_over_a_cut_link_the_subscription_goes_on_and_nothing_is_lost_or_comes_twice(
    server: NodeServer, tmp_path: Path
) -> None:
    await server.add(cut=("Int32", 0))
    async with (
        Relay(port_of(server)) as relay,
        gateway(tmp_path, behind(relay, counting(server, "cut"))) as on,
    ):
        await until(on, has(0))
        before = await ours(server)
        await server.order("count", name="cut", every_ms=EVERY_MS)
        await until(on, has(20))
        # What the server sends from here on never arrives, so it has to be asked for again.
        relay.freeze()
        newest = latest(await ours(server))
        async with asyncio.timeout(BOUND_S):
            while latest(await ours(server)) < newest + 2:
                await asyncio.sleep(0.02)
        await relay.cut()
        relay.resume()
        await until(on, has(await server.order("current", name="cut")))
        after = await ours(server)
        last = await server.order("stop", name="cut")
        rows = await until(on, has(last))
    assert numbers(rows) == list(range(last + 1))
    assert losses(rows) == []
    assert after["id"] == before["id"]
    assert after["transferred"] == 1
    assert after["republished"] >= 1


async def test_after_a_restart_of_the_server_data_flow_again_and_a_gap_says_since_when(
    server: NodeServer, tmp_path: Path
) -> None:
    """The variables of the other tests are gone with it; each test makes its own."""
    await server.add(reborn=("Int32", 0))
    async with gateway(tmp_path, counting(server, "reborn")) as on:
        await until(on, has(0))
        await server.set(reborn=1)
        await until(on, has(1))
        await server.kill()
        await server.start()
        await server.add(reborn=("Int32", 100))
        rows = await until(on, has(100))
        await server.set(reborn=101)
        rows = await until(on, has(101))
    assert numbers(rows) == [0, 1, 100, 101]
    assert losses(rows) == ["subscription-lost"]
    (gap,) = [row for row in rows if isinstance(row, Gap)]
    stamps = {number: sample.rx for sample in rows if isinstance(sample, Sample) for number in sample.values}
    assert stamps[1] is not None
    assert stamps[1] <= gap.fields["from"] <= gap.fields["to"] <= (stamps[100] or 0)


async def test_a_subscription_that_the_server_ended_is_made_anew_and_a_gap_says_since_when(
    server: NodeServer, tmp_path: Path
) -> None:
    await server.add(ended=("Int32", 0))
    async with gateway(tmp_path, counting(server, "ended")) as on:
        await until(on, has(0))
        await server.order("end_subscriptions")
        await server.set(ended=1)
        await until(on, has(1))
        await server.set(ended=2)
        rows = await until(on, has(2))
    assert numbers(rows) == [0, 1, 2]
    assert losses(rows) == ["subscription-lost"]


async def test_of_a_session_that_the_server_ended_nothing_is_lost_untold(server: NodeServer, tmp_path: Path) -> None:
    """node-opcua tells the session that its subscription was transferred: it is not taken back from whoever has it."""
    await server.add(expelled=("Int32", 0))
    async with gateway(tmp_path, counting(server, "expelled")) as on:
        await until(on, has(0))
        await server.order("count", name="expelled", every_ms=EVERY_MS)
        await until(on, has(20))
        await server.order("end_sessions")
        await until(on, lambda found: max(found) > 50)
        last = await server.order("stop", name="expelled")
        rows = await until(on, has(last))
    found = numbers(rows)
    assert found == sorted(set(found))
    assert found == list(range(last + 1)) or losses(rows) == ["subscription-lost"]


@pytest.mark.parametrize("count", [5, 1000])
async def test_history_fills_what_a_stopped_gateway_missed_page_by_page(
    server: NodeServer, tmp_path: Path, count: int
) -> None:
    """A page has 200 values: more come by continuation points."""
    name = f"kept{count}"
    await server.add(**{name: {"type": "Int32", "value": 0, "history": 5000}})
    device = counting(server, name, history=True)
    async with gateway(tmp_path, device) as on:
        await until(on, has(0))
        await server.order("run", name=name, begin=1, end=20)
        await until(on, has(20))
    await server.order("run", name=name, begin=21, end=20 + count)
    before = await server.asked("HistoryReadRequest")
    async with gateway(tmp_path, device) as on:
        await until(on, has(20 + count))
        await server.order("run", name=name, begin=21 + count, end=40 + count)
        rows = await until(on, has(*range(41 + count)))
    assert sorted(numbers(rows)) == list(range(41 + count))
    assert numbers(rows, "history") == list(range(21, 20 + count))
    assert losses(rows) == []
    assert await server.asked("HistoryReadRequest") - before >= math.ceil(count / 200)


async def test_history_that_the_server_does_not_keep_is_told_as_a_gap(server: NodeServer, tmp_path: Path) -> None:
    await server.add(unkept=("Int32", 0))
    device = counting(server, "unkept", history=True)
    async with gateway(tmp_path, device) as on:
        await until(on, has(0))
    await server.order("run", name="unkept", begin=1, end=5)
    async with gateway(tmp_path, device) as on:
        async with asyncio.timeout(BOUND_S):
            while "history-incomplete" not in losses(await on.stored("plc")):
                await asyncio.sleep(0.02)  # the pace of looking
        rows = await on.stored("plc")
    assert numbers(rows) == [0, 5]
    (gap,) = [row for row in rows if isinstance(row, Gap) and row.reason == "history-incomplete"]
    assert gap.fields["tags"] == ["unkept"]
    assert gap.fields["status"].startswith("Bad")
