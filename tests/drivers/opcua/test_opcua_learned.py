"""What a server takes and does not tell: found by halving once, and known to the gateway that comes after."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from asyncua.common.utils import ServiceError
from opcua_peer import BOUND_S
from opcua_robot import Store, killed, robot_section

from gateway.drivers.opcua.learned import Learned, news, recall
from simulators.opcua_limits import Limits
from simulators.opcua_server import OpcuaSimulator
from simulators.robot import VARIABLES

pytestmark = pytest.mark.asyncio(loop_scope="module")
TAGS = [{"name": variable.path, "node": variable.node} for variable in VARIABLES][:10]
COLUMNS = tuple(range(len(TAGS)))


@pytest_asyncio.fixture(loop_scope="module")
async def robot(running: OpcuaSimulator) -> AsyncIterator[OpcuaSimulator]:
    yield running
    await running.clear()


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that the server has refused for their size, by their limits."""
    found: list[str] = []
    check = Limits.check

    def noting(limits: Limits, limit: str, count: int) -> None:
        try:
            check(limits, limit, count)
        except ServiceError:
            found.append(limit)
            raise

    monkeypatch.setattr(Limits, "check", noting)
    return found


async def poll(robot: OpcuaSimulator, store: Store, **keys: Any) -> dict[str, Any]:
    """Poll; the gateway is gone then, and its memory. Gives what health showed."""
    device = robot_section(robot, TAGS, mode="poll", timeout="5s", **keys)
    async with asyncio.timeout(BOUND_S), device.open(store.shared) as driver:
        for _ in range(2):
            notification = await driver.poll(COLUMNS)
            assert sum(len(sample.columns) for sample in notification.samples) == len(TAGS)
            store.store(driver, notification, acknowledge=False)
        details = dict(driver.details)
    store.crash()
    return details


async def follow(robot: OpcuaSimulator, store: Store) -> None:
    """Follow until each tag has come; the gateway is gone then, without a goodbye."""
    device = robot_section(robot, TAGS, timeout="5s")
    store.values.clear()
    async with asyncio.timeout(BOUND_S), killed(device, store, robot) as (driver, changes):
        await store.until(driver, changes, lambda: len(store.values) == len(TAGS))


async def test_a_restarted_gateway_does_not_run_into_the_same_refusals(
    robot: OpcuaSimulator, refusals: list[str]
) -> None:
    await robot.limit(nodes_per_read=2, nodes_per_browse=2, announced=False)
    store = Store()
    first = await poll(robot, store)
    assert {"nodes_per_read", "nodes_per_browse"} == set(refusals)
    assert first["limits_from"]["max_nodes_per_read"] == "found"
    refusals.clear()
    robot.faults.requests.clear()
    assert (await poll(robot, store))["limits"] == first["limits"]
    assert refusals == []
    assert robot.faults.requests["RegisterNodes"] == 0  # it had given the same ids: that was of no use


async def test_what_was_learned_of_subscriptions_is_known_to_a_restarted_gateway(
    robot: OpcuaSimulator, refusals: list[str]
) -> None:
    await robot.limit(items_per_call=3, items_per_subscription=4, announced=False)
    store = Store()
    await follow(robot, store)
    assert set(refusals) == {"items_per_call"}
    refusals.clear()
    await robot.forget_subscriptions()
    robot.faults.requests.clear()
    await follow(robot, store)
    assert refusals == []
    least = sum(-(-items // 2) for items in (4, 4, 2))  # 3 were found by halving to be 2
    assert robot.faults.requests["CreateMonitoredItems"] == least


async def test_a_server_that_was_restarted_is_asked_anew_and_may_take_more(
    robot: OpcuaSimulator, refusals: list[str]
) -> None:
    await robot.limit(nodes_per_read=2, announced=False)
    store = Store()
    await poll(robot, store)
    await robot.limit()
    await robot.restart()
    first = await poll(robot, store)
    assert first.get("limits", {}).get("max_nodes_per_read") is None
    assert "max_nodes_per_read" not in str(store.bookmarks)


async def test_a_running_gateway_asks_a_restarted_server_anew_too(robot: OpcuaSimulator, refusals: list[str]) -> None:
    await robot.limit(nodes_per_read=2, announced=False)
    store = Store()
    device = robot_section(robot, TAGS, mode="poll", timeout="5s")
    async with asyncio.timeout(BOUND_S), device.open(store.shared) as driver:
        await driver.poll(COLUMNS)
        assert driver.details["limits"]["max_nodes_per_read"] <= 2
    await robot.limit()
    await robot.restart()
    async with asyncio.timeout(BOUND_S), device.open(store.shared) as driver:
        assert "max_nodes_per_read" not in driver.details.get("limits", {})


async def test_nothing_is_stored_again_while_nothing_new_is_known(robot: OpcuaSimulator, refusals: list[str]) -> None:
    await robot.limit(nodes_per_read=2, announced=False)
    store = Store()
    device = robot_section(robot, TAGS, mode="poll", timeout="5s")
    async with asyncio.timeout(BOUND_S), device.open(store.shared) as driver:
        first = await driver.poll(COLUMNS)
        store.store(driver, first, acknowledge=False)
        store.store(driver, await driver.poll(COLUMNS), acknowledge=False)  # learns that registering is of no use
        third = await driver.poll(COLUMNS)
    assert (len(first.bookmarks), len(third.bookmarks)) == (1, 0)


async def test_a_server_that_does_not_say_since_when_it_runs_is_not_believed_after_a_restart() -> None:
    memory: dict[str, Any] = {}
    learned = Learned.of(memory, "plc:4840")
    learned.found["max_nodes_per_read"] = 5
    learned.meet("", {})
    assert news(memory, {}) == {}


async def test_what_another_server_was_found_to_take_is_nobodys_limit() -> None:
    memory: dict[str, Any] = {}
    learned = Learned.of(memory, "plc:4840")
    learned.meet("1 A", {})
    learned.found.update(max_nodes_per_read=5, max_nodes_per_browse=7)
    stored = news(memory, {})
    later: dict[str, Any] = {}
    recall(later, {name: text for name, text in stored.items() if text is not None})
    assert Learned.of(later, "plc:4841").found == {}
    again = Learned.of(later, "plc:4840")
    assert again.found == learned.found
    before = dict(again.found)
    again.found["max_nodes_per_read"] = 2  # while it said who it is
    again.meet("2 B", before)
    assert again.found == {"max_nodes_per_read": 2}
