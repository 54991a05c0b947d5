"""What a config leads to, told before anybody connects: held against the requests that a simulated server counts."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from opcua_peer import BOUND_S
from opcua_robot import Store, robot_section

from gateway.drivers.opcua.limits import Limits, Service
from gateway.drivers.opcua.outlook import Poll, Subscription, look_ahead
from gateway.drivers.opcua.section import OpcuaDevice
from simulators.opcua_server import OpcuaSimulator
from simulators.robot import VARIABLES

pytestmark = pytest.mark.asyncio(loop_scope="module")
TAGS: list[dict[str, Any]] = [{"name": variable.path, "node": variable.node} for variable in VARIABLES][:10]
FASTER = [{**tag, "interval": "5s"} if number < 3 else tag for number, tag in enumerate(TAGS)]
LIMITS = Limits(told={"max_nodes_per_read": 15, "max_monitored_items_per_call": 3, "max_nodes_per_browse": 4})


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def robot() -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator() as simulator:
        await simulator.limit(nodes_per_read=15, items_per_call=3, nodes_per_browse=4)
        yield simulator


def counted(robot: OpcuaSimulator, promised: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """How often each service was asked for that was promised."""
    return {service: robot.faults.requests[service] for service, _ in promised}


def every_tag(section: OpcuaDevice, rate: float = 20.0) -> list[tuple[tuple[int, ...], float]]:
    return [(tuple(range(len(section.tags))), rate)]


@pytest.mark.parametrize("more", [{}, {"deadband": 1}])
async def test_a_subscribed_server_is_asked_so_often_at_connect(robot: OpcuaSimulator, more: dict[str, Any]) -> None:
    section = robot_section(robot, [{**tag, **more} for tag in FASTER], timeout="5s")
    outlook = look_ahead(section, LIMITS, every_tag(section))
    robot.faults.requests.clear()
    store = Store()
    async with asyncio.timeout(BOUND_S), section.open(store.shared) as driver:
        await store.until(driver, driver.changes(), lambda: len(store.values) == len(TAGS))
        found = counted(robot, outlook.connect)
        shown = driver.details["subscriptions"]
    properties = found["Read"] - dict(outlook.connect)["Read"]
    assert 0 <= properties <= 1  # what only the server knows: units and ranges of some tags
    assert {**found, "Read": 0} == {**dict(outlook.connect), "Read": 0}
    assert [{"tags": each.items, "publishing_s": each.publishing_s} for each in outlook.subscriptions] == shown


async def test_a_polled_server_is_asked_so_often(robot: OpcuaSimulator) -> None:
    section = robot_section(robot, TAGS, mode="poll", timeout="5s")
    outlook = look_ahead(section, LIMITS, every_tag(section))
    assert outlook.polls == (Poll(20.0, 10, 1),)
    assert outlook.per_second == 20.0 + 1 / 5
    robot.faults.requests.clear()
    store = Store()
    async with asyncio.timeout(BOUND_S), section.open(store.shared) as driver:
        at_connect = robot.faults.requests["Read"]
        await driver.poll(tuple(range(10)))
        assert robot.faults.requests["Read"] - at_connect == outlook.polls[0].requests
        await driver.poll(tuple(range(10)))
        assert robot.faults.requests["RegisterNodes"] == dict(outlook.connect).get("RegisterNodes", 0)
    assert "CreateSubscription" not in dict(outlook.connect)


async def test_a_subscription_shows_what_its_items_ask_for() -> None:
    tags = [
        {"name": "a", "node": "i=1", "sampling": "50ms"}, {"name": "b", "node": "i=2", "queue": 3},
        {"name": "c", "node": "i=3", "interval": "10s"},
    ]  # fmt: skip
    device = {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://h", "interval": "500ms", "tags": tags}
    outlook = look_ahead(OpcuaDevice.model_validate(device), Limits(), [])
    assert outlook.subscriptions == (
        Subscription(0.5, 2, (0.05, 0.5), (3, 20)),
        Subscription(10.0, 1, (10.0, 10.0), (10, 10)),
    )


async def test_ids_that_are_numbers_are_not_registered_nor_what_a_server_does_not_take() -> None:
    tags = [{"name": text, "node": text} for text in ("i=1", "ns=2;i=7", "nsu=urn:a;i=8", "nsu=urn:a;s=i=9", "s=x")]
    device = {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://h", "mode": "poll", "tags": tags}
    section = OpcuaDevice.model_validate(device)
    two_by_two = Limits(given={Service.REGISTER: 1})
    assert dict(look_ahead(section, two_by_two, []).connect)["RegisterNodes"] == 2
    two_by_two.forgo(Service.REGISTER)
    assert "RegisterNodes" not in dict(look_ahead(section, two_by_two, []).connect)
