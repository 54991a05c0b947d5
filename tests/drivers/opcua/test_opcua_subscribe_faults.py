"""Subscriptions that die, nodes that vanish, items and filters that are refused: noticed, told, and over soon."""

import asyncio
import time
from typing import Any

import pytest
from opcua_peer import BOUND_S
from opcua_robot import COUNTER, Store, robot_section

from gateway.drivers.opcua.subscription.memory import Memory
from gateway.errors import DeviceError
from simulators.opcua_server import OpcuaSimulator
from simulators.robot import VARIABLES

pytestmark = pytest.mark.asyncio(loop_scope="module")
BY_NAME = {variable.path.removeprefix("Robot."): variable.node for variable in VARIABLES}


def tag(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "node": BY_NAME[name], **keys}


def subscriptions(robot: OpcuaSimulator) -> list[Any]:
    assert robot.space is not None
    return list(robot.space.core.subscription_service.clients.values())


def wishes(robot: OpcuaSimulator) -> dict[int, Any]:
    """What the monitored items at the server are, by their client handle."""
    found: dict[int, Any] = {}
    for subscription in subscriptions(robot):
        for item in subscription.monitored_item_srv._monitored_items.values():
            assert item.client_handle not in found
            found[item.client_handle] = item
    return found


async def ended(device: Any, store: Store, act: Any) -> DeviceError:
    """Follow a device until its counter is told, do something, and give the error that ends the connection."""

    async def follow() -> None:
        async with device.open(store.shared) as driver:
            changes = driver.changes()
            await store.until(driver, changes, lambda: store.values.get("ticks"))
            await act()
            await store.until(driver, changes, lambda: False)

    with pytest.raises(DeviceError) as caught:
        await follow()
    return caught.value


async def test_a_subscription_that_the_server_forgot_among_others_is_found_within_five_seconds_and_made_anew(
    robot: OpcuaSimulator,
) -> None:
    store = Store()
    device = robot_section(robot, [tag("Program.Step"), {"name": "ticks", "node": COUNTER.node, "interval": "200ms"}])
    began = 0.0

    async def forget_one() -> None:
        nonlocal began
        await robot.forget_subscriptions(1)
        began = time.monotonic()

    error = await ended(device, store, forget_one)
    assert "has not spoken on its subscription" in str(error)
    assert time.monotonic() - began < 6.0
    (kept,) = subscriptions(robot)
    store.values.clear()
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: len(store.values) == 2)
        assert kept in subscriptions(robot)
        assert len(subscriptions(robot)) == 2
    assert store.reasons() == ["subscription-lost"]


async def test_publishing_that_stopped_is_found_and_what_the_queue_held_comes_once_it_goes_on(
    robot: OpcuaSimulator,
) -> None:
    store, device = Store(), robot_section(robot)

    async def stop() -> None:
        robot.faults.stop_publishing()

    await ended(device, store, stop)
    first = robot.robot.ticks
    for _ in range(3):
        await robot.step()
    robot.faults.resume_publishing()
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: first + 3 in store.values["ticks"])
    assert [value for value in range(first, first + 4) if value not in store.values["ticks"]] == []
    assert store.gaps == []


async def test_a_subscription_that_says_nothing_after_it_was_taken_over_is_deleted_and_made_anew(
    robot: OpcuaSimulator,
) -> None:
    store, device = Store(), robot_section(robot)

    async def stop() -> None:
        robot.faults.stop_publishing()

    await ended(device, store, stop)
    (dead,) = subscriptions(robot)
    store.values["ticks"] = [0]
    await ended(device, store, stop)
    assert subscriptions(robot) == [dead]
    robot.faults.resume_publishing()
    store.values.clear()
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values.get("ticks"))
        (new,) = subscriptions(robot)
        assert new is not dead


async def test_no_subscription_left_at_the_server_ends_the_connection_at_once(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)

    async def forget() -> None:
        await robot.forget_subscriptions(silently=False)

    error = await ended(device, store, forget)
    assert error.reason == "BadNoSubscription"


async def test_subscriptions_that_give_nothing_three_times_are_given_up_and_the_device_is_polled(
    robot: OpcuaSimulator,
) -> None:
    store, device = Store(), robot_section(robot)
    robot.faults.stop_publishing()
    store.values["ticks"] = [0]

    async def nothing() -> None:
        return

    for _ in range(3):
        store.bookmarks.clear()
        await ended(device, store, nothing)
    async with device.open(store.shared) as driver:
        assert not driver.subscribes
        assert (driver.details["mode"], "gave nothing" in driver.details["why"]) == ("poll", True)
        (sample,) = await driver.read((0,))
        assert sample.values == (robot.robot.ticks,)


async def test_a_server_without_subscriptions_is_polled_and_details_say_why(robot: OpcuaSimulator) -> None:
    robot.faults.refuse_services(["CreateSubscription"])
    async with robot_section(robot).open(Store().shared) as driver:
        assert not driver.subscribes
        assert driver.details["mode"] == "poll"
        assert "BadServiceUnsupported" in driver.details["why"]


async def test_a_polled_device_is_followed_again_once_a_subscription_gives_a_value(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    robot.faults.refuse_services(["CreateSubscription"])
    memory = Memory.of(store.shared.memory.setdefault("robot-1", {}))
    async with device.open(store.shared) as driver:
        assert not driver.subscribes
    robot.faults.accept_services(["CreateSubscription"])
    memory.poll_until = asyncio.get_running_loop().time() + 1.0  # the hour is nearly over

    async def wait_for_the_trial() -> None:
        async with asyncio.timeout(BOUND_S), device.open(store.shared) as driver:
            assert not driver.subscribes
            await asyncio.Event().wait()

    with pytest.raises(DeviceError, match="give values again"):
        await wait_for_the_trial()
    async with device.open(store.shared) as driver:
        assert driver.subscribes
        assert len(subscriptions(robot)) == 1


async def test_a_node_that_vanishes_and_returns_flows_again_within_five_seconds(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot, [tag("Program.Step"), {"name": "ticks", "node": COUNTER.node}])
    async with device.open(store.shared) as driver:
        changes = driver.changes()
        await store.until(driver, changes, lambda: len(store.values) == 2)
        await robot.remove("Robot.Counter")
        await store.until(driver, changes, lambda: store.qualities.get("ticks") == ["bad:BadNodeIdUnknown"])
        await robot.restore("Robot.Counter")
        began = time.monotonic()
        store.values.clear()
        await store.until(driver, changes, lambda: store.values.get("ticks"))
        assert time.monotonic() - began < 5.0
        assert len(wishes(robot)) == 2


async def test_a_refused_item_costs_no_other_and_details_count_it(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot, [tag("Program.Step"), {"name": "ticks", "node": COUNTER.node}])
    robot.faults.refuse_items([COUNTER.path], "BadUserAccessDenied")
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: "Program.Step" in store.values)
        assert store.qualities == {"ticks": ["bad:BadUserAccessDenied"]}
        assert driver.details["not_monitored"] == 1


async def test_tags_are_spread_over_as_many_subscriptions_as_the_limit_on_items_asks_for(
    robot: OpcuaSimulator,
) -> None:
    store, tags = Store(), [tag(name) for name in BY_NAME]
    await robot.limit(items_per_subscription=4, items_per_call=3)
    async with robot_section(robot, tags).open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: len(store.values) == len(tags))
        sizes = [each["tags"] for each in driver.details["subscriptions"]]
    assert sum(sizes) == len(tags)
    assert max(sizes) == 4
    assert len(sizes) == -(-len(tags) // 4)


async def test_a_server_with_one_subscription_gets_all_paces_in_it(robot: OpcuaSimulator) -> None:
    store = Store()
    tags = [tag("Program.Step"), tag("Program.State", interval="300ms"), tag("Program.Parts", interval="2s")]
    await robot.limit(subscriptions_per_session=1)
    async with robot_section(robot, tags).open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: len(store.values) == 3)
        assert [each["tags"] for each in driver.details["subscriptions"]] == [3]


async def test_what_the_server_revised_shows_in_details_summed_up(robot: OpcuaSimulator) -> None:
    tags = [tag(name, queue=50) for name in ("Program.Step", "Program.Parts", "Program.State")]
    await robot.limit(queue=5, sampling_ms=500)
    async with robot_section(robot, tags).open(Store().shared) as driver:
        assert driver.details["revised"] == [
            {
                "tags": 3,
                "first": "Program.Step",
                "asked": {"sampling_s": 0.05, "queue": 50},
                "got": {"sampling_s": 0.5, "queue": 5},
            }
        ]


async def test_deadbands_of_plain_numbers_are_tried_at_the_server_and_no_others(robot: OpcuaSimulator) -> None:
    tags = [
        tag("Axis1.Position", deadband=2),
        tag("Axis1.Speed", deadband="2%", range=[-150, 150]),
        tag("Axis2.Position", deadband=2, scale=10),
        tag("Program.State", deadband=2),
        tag("Gripper.Closed", deadband=1),
        tag("Program.Parts", deadband=0),
        tag("Program.Step"),
    ]
    async with robot_section(robot, tags).open(Store().shared) as driver:
        found = wishes(robot)
        assert driver.held_back == pytest.approx({0: 0.2, 1: 0.6}, rel=0.01)
        asked = {tags[column]["name"]: item.filter for column, item in found.items()}
    assert {name: each.DeadbandValue for name, each in asked.items() if each} == {
        "Axis1.Position": 0.2,
        "Axis1.Speed": 0.6,
    }


async def test_a_refused_filter_is_left_out_and_tried_once_only(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot, [tag("Axis1.Position", deadband=2)])
    robot.faults.refuse_filters()
    calls = []
    for _ in range(2):
        robot.faults.requests.clear()
        async with device.open(store.shared) as driver:
            await store.until(driver, driver.changes(), lambda: store.values.get("Axis1.Position"))
            assert not wishes(robot)[0].filter
        store.values.clear()
        calls.append(robot.report()["requests"]["CreateMonitoredItems"])
    assert calls == [2, 1]


async def test_nothing_of_ours_is_left_after_many_lost_links(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)

    async def cut() -> None:
        await robot.cut()

    for _ in range(10):
        store.values.clear()
        async with asyncio.timeout(BOUND_S):
            await ended(device, store, cut)
    assert len(subscriptions(robot)) == 1
    files = [task.get_coro().cr_code.co_filename for task in asyncio.all_tasks()]  # type: ignore[union-attr]
    assert [file for file in files if "/gateway/" in file or "asyncua/client" in file] == []
