"""Subscriptions outlive a link and a gateway: nothing that the server still holds is lost, or stored twice."""

import asyncio
import itertools
import random
from typing import Any

import pytest
from opcua_peer import BOUND_S
from opcua_robot import COUNTER, Store, killed, robot_section

from gateway.errors import DeviceError
from simulators.opcua_server import OpcuaSimulator

pytestmark = pytest.mark.asyncio(loop_scope="module")


def fresh(values: list[Any]) -> list[Any]:
    """Leave out what repeats the value before: all tags are read when a link is new."""
    return [value for value, _ in itertools.groupby(values)]


async def steps(robot: OpcuaSimulator, count: int) -> int:
    for _ in range(count):
        await robot.step()
    return robot.robot.ticks


def subscriptions(robot: OpcuaSimulator) -> list[Any]:
    assert robot.space is not None
    return list(robot.space.core.subscription_service.clients.values())


async def counted(robot: OpcuaSimulator, store: Store, driver: Any, changes: Any, **how: bool) -> int:
    """Let the robot count on by one, and store what comes until that is told."""
    last = await steps(robot, 1)
    await store.until(driver, changes, lambda: last in store.values["ticks"], **how)
    return last


async def test_what_was_sent_and_not_stored_before_a_crash_is_asked_for_again(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    start = robot.robot.ticks
    async with killed(device, store, robot) as (driver, changes):
        await store.until(driver, changes, lambda: store.values.get("ticks"))
        for _ in range(4):
            await robot.step()
            async with asyncio.timeout(BOUND_S):
                await anext(changes)  # received, and never stored
        last = await steps(robot, 3)
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values["ticks"][-1] == last)
    assert fresh(store.values["ticks"]) == list(range(start, last + 1))
    assert store.gaps == []
    assert robot.report()["republishes"] >= 4


async def test_what_was_stored_and_not_acknowledged_is_acknowledged_and_not_stored_twice(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    start = robot.robot.ticks
    async with killed(device, store, robot) as (driver, changes):
        await store.until(driver, changes, lambda: store.values.get("ticks"), acknowledge=False)
        for _ in range(3):
            await counted(robot, store, driver, changes, acknowledge=False)
        (subscription,) = subscriptions(robot)
        kept = list(subscription._not_acknowledged_results)
        assert len(kept) >= 4
    async with device.open(store.shared) as driver:
        changes = driver.changes()
        async with asyncio.timeout(BOUND_S):
            while set(kept) & set(subscription._not_acknowledged_results):
                last = await counted(robot, store, driver, changes)
    assert fresh(store.values["ticks"]) == list(range(start, last + 1))
    assert robot.report()["republishes"] == 0


async def test_fifty_crashes_between_notification_and_commit_lose_nothing(robot: OpcuaSimulator) -> None:
    """Some notifications are stored, some of those acknowledged, some received only: then the process is gone."""
    store, device, dice = Store(), robot_section(robot), random.Random(4)
    start = robot.robot.ticks
    for _ in range(50):
        async with killed(device, store, robot) as (driver, changes):
            await store.until(driver, changes, lambda: store.values.get("ticks"))
            for _ in range(dice.randrange(3)):
                await counted(robot, store, driver, changes, acknowledge=dice.random() < 0.5)
            for _ in range(dice.randrange(4)):
                await robot.step()
                async with asyncio.timeout(BOUND_S):
                    await anext(changes)
            await steps(robot, dice.randrange(3))
    last = await steps(robot, 1)
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values["ticks"][-1] == last)
    assert sorted(set(store.values["ticks"])) == list(range(start, last + 1))
    assert store.gaps == []


async def test_a_lost_link_costs_nothing_that_the_servers_queue_holds(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    start = robot.robot.ticks

    async def follow_until_the_link_is_lost() -> None:
        async with device.open(store.shared) as driver:
            changes = driver.changes()
            await store.until(driver, changes, lambda: store.values.get("ticks"))
            await counted(robot, store, driver, changes)
            await robot.cut()
            await steps(robot, 20)
            await store.until(driver, changes, lambda: False)

    for _ in range(3):
        with pytest.raises(DeviceError):
            await follow_until_the_link_is_lost()
    last = await steps(robot, 1)
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values["ticks"][-1] == last)
    assert sorted(set(store.values["ticks"])) == list(range(start, last + 1))
    assert store.gaps == []
    assert len(subscriptions(robot)) == 0


async def test_a_notification_that_is_not_known_to_be_on_disk_is_not_acknowledged_after_a_lost_link(
    robot: OpcuaSimulator,
) -> None:
    store, device, before = Store(), robot_section(robot), []

    async def follow_until_the_link_is_lost() -> None:
        async with device.open(store.shared) as driver:
            changes = driver.changes()
            notification = await anext(changes)
            before.append((driver, notification.receipt))
            store.store(driver, notification, acknowledge=False)  # given to the buffer, not committed yet
            await robot.cut()
            await store.until(driver, changes, lambda: False)

    with pytest.raises(DeviceError):
        await follow_until_the_link_is_lost()
    ((old, receipt),) = before
    async with device.open(store.shared) as driver:
        changes = driver.changes()
        await counted(robot, store, driver, changes)
        (subscription,) = subscriptions(robot)
        assert receipt.sequence in subscription._not_acknowledged_results
        old.acknowledge(receipt)
        async with asyncio.timeout(BOUND_S):
            while receipt.sequence in subscription._not_acknowledged_results:
                await counted(robot, store, driver, changes)


async def test_a_subscription_that_is_gone_is_told_as_a_gap_and_made_anew(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    async with killed(device, store, robot) as (driver, changes):
        await store.until(driver, changes, lambda: store.values.get("ticks"))
    told = store.bookmarks["told"]
    await robot.restart()
    last = await steps(robot, 1)
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values["ticks"][-1] == last)
    (gap,) = store.gaps
    assert (gap.reason, gap.fields["from"]) == ("subscription-lost", told)
    assert gap.fields["to"] >= told


async def test_a_server_that_cannot_transfer_gets_a_new_subscription_and_a_gap_tells(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    async with killed(device, store, robot) as (driver, changes):
        await store.until(driver, changes, lambda: store.values.get("ticks"))
    robot.faults.refuse_services(["TransferSubscriptions"])
    last = await steps(robot, 1)
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values["ticks"][-1] == last)
        (_, new) = subscriptions(robot)
        assert new.data.RevisedLifetimeCount * 0.05 <= 60  # nobody can come back for it
    assert store.reasons() == ["subscription-lost"]


async def test_a_message_that_the_server_has_no_more_is_a_gap(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    async with killed(device, store, robot) as (driver, changes):
        await store.until(driver, changes, lambda: store.values.get("ticks"))
        for _ in range(3):
            await robot.step()
            await anext(changes)
        (subscription,) = subscriptions(robot)
        lost = sorted(subscription._not_acknowledged_results)[-2]
        del subscription._not_acknowledged_results[lost]
    last = await steps(robot, 1)
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values["ticks"][-1] == last)
    (gap,) = store.gaps
    assert (gap.reason, gap.fields["count"]) == ("notifications-lost", 1)


async def test_other_tags_in_the_same_columns_never_get_an_old_subscriptions_values(robot: OpcuaSimulator) -> None:
    """P5: client handles are columns, and the config has changed while the gateway was down."""
    store = Store()
    tags = [
        {"name": "ticks", "node": COUNTER.node},
        {"name": "step", "node": COUNTER.node.replace("Counter", "Program.Step")},
    ]
    async with killed(robot_section(robot, tags), store, robot) as (driver, changes):
        await store.until(driver, changes, lambda: "step" in store.values)
    store.values.clear()
    last = await steps(robot, 1)
    async with robot_section(robot, tags[::-1]).open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: last in store.values.get("ticks", []))
        assert len(subscriptions(robot)) == 1
    assert all(value < 10 for value in store.values["step"])
    assert store.reasons() == ["subscription-lost"]


async def test_a_clean_stop_leaves_no_subscription_and_nothing_to_look_for(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    async with device.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: store.values.get("ticks"))
        assert any(name.startswith("subscription:") for name in store.bookmarks)
        farewell = driver.farewell
    assert subscriptions(robot) == []
    assert set(store.bookmarks) - set(farewell) == {"told"}


async def test_a_message_lost_on_the_way_is_asked_for_again_and_comes_in_its_order(robot: OpcuaSimulator) -> None:
    store, device = Store(), robot_section(robot)
    start = robot.robot.ticks
    async with device.open(store.shared) as driver:
        changes = driver.changes()
        await store.until(driver, changes, lambda: store.values.get("ticks"))
        (subscription,) = subscriptions(robot)
        await robot.step()
        subscription._pop_publish_result()  # taken from the queue, kept for Republish, and never sent
        last = await steps(robot, 1)
        await store.until(driver, changes, lambda: store.values["ticks"][-1] == last)
    assert store.values["ticks"] == list(range(start, last + 1))
    assert store.gaps == []
