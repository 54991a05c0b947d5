"""Monitored items against node-opcua: queues that overflow, deadbands, refused items, nodes that vanish, limits."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.drivers.base import Driver, Notification, Shared
from gateway.drivers.opcua.subscription import retries
from gateway.model import Gap
from tests.interop.node_opcua import BOUND_S, NodeServer, node

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Told:
    """What a driver was notified of, by the tags' names."""

    def __init__(self, driver: Driver) -> None:
        assert driver.section is not None
        self._names = [tag.name for tag in driver.section.tags]
        self._changes: AsyncIterator[Notification] = driver.changes()
        self.values: dict[str, list[Any]] = {}
        self.qualities: dict[str, list[str]] = {}
        self.gaps: list[Gap] = []

    async def until_value(self, name: str, value: Any) -> list[Any]:
        """Wait for a value; gives all that came of the tag."""
        while value not in self.values.get(name, ()):
            await self._next()
        return self.values[name]

    async def until_quality(self, name: str, quality: str) -> None:
        while quality not in self.qualities.get(name, ()):
            await self._next()

    async def _next(self) -> None:
        notification = await anext(self._changes)
        self.gaps += notification.gaps
        for sample in notification.samples:
            for column, value in zip(sample.columns, sample.values, strict=True):
                self.values.setdefault(self._names[column], []).append(value)
            for name, quality in sample.quality.items():
                self.qualities.setdefault(name, []).append(quality)


def fast(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "node": node(name), "sampling": "0s", **keys}


async def test_a_queue_that_overflows_is_a_gap_that_names_the_tag(server: NodeServer) -> None:
    await server.add(crowded=("Int32", 0), roomy=("Int32", 0))
    device = server.section([fast("crowded", queue=3), fast("roomy", queue=100)], interval="500ms")
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        told = Told(driver)
        await told.until_value("crowded", 0)
        await told.until_value("roomy", 0)
        changes = [{"name": name, "value": number} for number in range(1, 51) for name in ("crowded", "roomy")]
        await server.order("set", values=changes)
        assert await told.until_value("roomy", 50) == list(range(51))
        assert await told.until_value("crowded", 50) == [0, 48, 49, 50]
        assert [(gap.reason, gap.fields["tags"]) for gap in told.gaps] == [("source-overflow", ["crowded"])]


async def test_the_server_keeps_back_what_is_within_an_absolute_deadband(server: NodeServer) -> None:
    """It gets a tenth of it: the gateway itself decides what is sent."""
    await server.add(noisy=("Double", 100.0))
    device = server.section([fast("noisy", deadband=20)])
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        told = Told(driver)
        await told.until_value("noisy", 100.0)
        steps = [100.5, 101.9, 98.1, 102.5, 103.0, 120.0]
        await server.order("set", values=[{"name": "noisy", "value": value} for value in steps])
        assert await told.until_value("noisy", 120.0) == [100.0, 102.5, 120.0]


async def test_a_deadband_in_percent_is_of_the_range_that_the_server_tells(server: NodeServer) -> None:
    await server.add(warm={"type": "Double", "value": 50.0, "analog": {"low": 0, "high": 200, "unit": "°C"}})
    device = server.section([fast("warm", deadband="10%")])
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        told = Told(driver)
        await told.until_value("warm", 50.0)
        steps = [51.9, 48.1, 52.5, 54.0, 70.0]
        await server.order("set", values=[{"name": "warm", "value": value} for value in steps])
        assert await told.until_value("warm", 70.0) == [50.0, 52.5, 70.0]


async def test_an_item_that_the_server_refuses_is_tried_again_and_costs_no_other(
    server: NodeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_SLOW_S", 0.2)
    await server.add(early=("Int32", 1))
    device = server.section([fast("late"), fast("early")])
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        told = Told(driver)
        await told.until_quality("late", "bad:BadNodeIdUnknown")
        await told.until_value("early", 1)
        await server.add(late=("Int32", 5))
        await told.until_value("late", 5)
        await server.set(late=6, early=2)
        await told.until_value("late", 6)
        await told.until_value("early", 2)


async def test_a_node_that_vanishes_is_bad_and_followed_again_when_it_is_back(server: NodeServer) -> None:
    """node-opcua ends its items with BadNodeIdInvalid, and knows nothing of them any more."""
    await server.add(loaded=("Int32", 1), calm=("Int32", 1))
    device = server.section([fast("loaded"), fast("calm")])
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        told = Told(driver)
        await told.until_value("loaded", 1)
        await server.order("remove", name="loaded")
        await told.until_quality("loaded", "bad:BadNodeIdInvalid")
        await server.add(loaded=("Int32", 7))
        await told.until_value("loaded", 7)
        await server.set(loaded=8, calm=2)
        await told.until_value("loaded", 8)
        await told.until_value("calm", 2)


async def test_limits_that_are_lowered_while_connected_are_found_by_halving(server: NodeServer) -> None:
    names = [f"limited{number}" for number in range(90)]
    await server.add(**{name: ("Int32", number) for number, name in enumerate(names)})
    shared, columns = Shared("hall-3"), tuple(range(len(names)))
    device = server.section(names, mode="poll")
    try:
        async with asyncio.timeout(BOUND_S), device.open(shared) as driver:
            assert _values(await driver.read(columns)) == list(range(90))
            await server.order("limit", limits={"maxNodesPerRead": 20})
            assert _values(await driver.read(columns)) == list(range(90))
        async with asyncio.timeout(BOUND_S), device.open(shared) as driver:
            assert driver.details["limits"]["max_nodes_per_read"] <= 20
            assert _values(await driver.read(columns)) == list(range(90))
    finally:
        await server.order("limit", limits={"maxNodesPerRead": 100})


async def test_items_are_made_in_small_requests_where_the_server_takes_no_more(server: NodeServer) -> None:
    names = [f"small{number}" for number in range(60)]
    await server.add(**{name: ("Int32", number) for number, name in enumerate(names)})
    await server.order("limit", limits={"maxMonitoredItemsPerCall": 7})
    try:
        async with asyncio.timeout(BOUND_S), server.section(names).open(Shared("hall-3")) as driver:
            told = Told(driver)
            for number, name in enumerate(names):
                await told.until_value(name, number)
    finally:
        await server.order("limit", limits={"maxMonitoredItemsPerCall": 200})


def _values(samples: Any) -> list[Any]:
    found = {column: value for each in samples for column, value in zip(each.columns, each.values, strict=True)}
    return [found[column] for column in sorted(found)]
