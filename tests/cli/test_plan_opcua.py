"""`edge-gateway plan` for OPC UA servers: alone, and where the gateway runs and knows them."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.plan import plan
from gateway.config import load
from gateway.control.desk import Desk
from gateway.control.server import serve
from gateway.drivers.base import Driver, Shared
from gateway.drivers.opcua.section import OpcuaDevice
from simulators.opcua_server import OpcuaSimulator
from tests.cli.conftest import Outcome, Shell
from tests.cli.test_plan import write

NO_GATEWAY = "read at connect: start the gateway on this machine, and plan asks it."


def robot(**keys: Any) -> dict[str, Any]:
    """A device with tags of three paces."""
    return {
        "name": "robot-1", "protocol": "opcua", "endpoint": "opc.tcp://192.0.2.20:4840", "interval": "500ms",
        "security": {"policy": "None", "insecure": True},
        "tags": [
            {"name": "speed", "node": "nsu=urn:a;s=Speed", "sampling": "100ms"},
            {"name": "load", "node": "nsu=urn:a;s=Load", "queue": 100},
            {"name": "hours", "node": "nsu=urn:a;i=7", "interval": "1m"},
        ],
        **keys,
    }  # fmt: skip


def planned(shell: Shell, device: dict[str, Any]) -> dict[str, Any]:
    path = shell.folder / write(shell.folder, device)
    done = CliRunner().invoke(plan, ["--json", "-c", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["devices"][0]
    return found


def test_an_opc_ua_device_is_told_as_configured(shell: Shell) -> None:
    device = planned(shell, robot(tags=robot()["tags"][:1]))
    assert (device["mode"], device["interval_s"], device["load"], device["known"]) == ("subscribe", 0.5, None, False)
    assert device["sent_at_most"]["messages_per_day"] == 2 * 86_400
    assert device["sent_at_least"]["messages_per_day"] == 96
    assert device["subscriptions"] == [
        {"publishing_s": 0.5, "items": 1, "sampling_s": [0.1, 0.1], "queue": [10, 10]},
    ]
    assert (device["limits"], device["found_tags"]) == ({}, None)
    assert device["requests_at_connect"]["CreateMonitoredItems"] == 1


async def test_its_subscriptions_and_requests_are_shown(shell: Shell) -> None:
    done = await shell("plan", "-c", write(shell.folder, robot()))
    session = "1 GetEndpoints, 1 CreateSession, 1 ActivateSession"
    connect = f"{session}, 3 Read, 1 Browse, 2 CreateSubscription, 2 CreateMonitoredItems"
    assert done.out.splitlines()[:5] == [
        "robot-1: opcua 192.0.2.20:4840, 3 tags",
        "  subscription published every 500ms: 2 items, sampled every 100ms to 500ms, queues of 10 to 100",
        "  subscription published every 1m: 1 item, sampled every 1m, queues of 10",
        f"  at the first connect: {connect}, and what units and structures take",
        "  then up to 2.22 requests a second",
    ]
    assert f"An OPC UA server's limits are {NO_GATEWAY}" in done.err


async def test_a_polled_server_is_held_against_the_ceiling(shell: Shell) -> None:
    limits = {"max_nodes_per_read": 1}
    device = robot(mode="poll", interval="100ms", limits=limits, max_requests_per_second=10)
    done = await shell("plan", "-c", write(shell.folder, device))
    assert "  reads 2 nodes in 2 requests, every 100ms" in done.out
    assert "20.2 requests a second, and max_requests_per_second is 10: raise it, or lengthen intervals" in done.out
    assert "  limits: max_nodes_per_read 1 (by the config)" in done.out.splitlines()


async def test_tags_that_browse_will_take_are_not_forgotten(shell: Shell) -> None:
    done = await shell("plan", "-c", write(shell.folder, robot(browse={"from": "i=85"}, tags=[])))
    assert "  and the tags that browse takes, which are found at connect: they are not in what follows" in done.out
    assert f"An OPC UA server's limits, and the tags that browse takes, are {NO_GATEWAY}" in done.err


@asynccontextmanager
async def running(shell: Shell, device: dict[str, Any], *, connected: bool = True) -> AsyncIterator[Mapping[str, Any]]:
    """The gateway's control socket, with this device's open connection behind it; gives what health shows of it."""
    socket = shell.folder / "control.sock"
    write(shell.folder, device, control={"socket": str(socket)})
    (section,) = load(shell.folder / "gateway.yaml").devices
    assert isinstance(section, OpcuaDevice)
    opened: dict[str, Driver] = {}
    desk = Desk("hall-3", [section], Shared("hall-3"), opened.get)
    async with asyncio.timeout(60), serve(socket, desk.visit):
        if not connected:
            yield {}
            return
        async with section.open(Shared("hall-3")) as driver:
            opened[section.name] = driver
            yield driver.details


async def told(shell: Shell) -> Outcome:
    done = await shell("plan", "-c", "gateway.yaml")
    assert done.code == 0, done.err
    return done


@pytest.fixture
async def simulator() -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator() as simulator:
        yield simulator


async def test_where_the_gateway_runs_it_is_asked_for_limits_and_for_the_tags_that_browse_took(
    shell: Shell, simulator: OpcuaSimulator
) -> None:
    await simulator.limit(nodes_per_read=40, items_per_call=3, items_per_subscription=8)
    browse = {"include": ["Robot.Axis*"], "tag": {"interval": "5s"}}
    device = robot(
        endpoint=simulator.endpoint, browse=browse, tags=[], timeout="5s", limits={"max_nodes_per_browse": 4}
    )
    async with running(shell, device) as details:
        done = await told(shell)
        document = json.loads((await shell("plan", "--json", "-c", "gateway.yaml")).out)["devices"][0]
    lines = done.out.splitlines()
    assert f"opcua {simulator.endpoint.removeprefix('opc.tcp://').rstrip('/')}" in lines[0]
    found = document["found_tags"]
    assert len(found) == document["tags"] > 5
    assert lines[1].startswith(f"  {len(found)} of them taken by browse: Robot.Axis1.Position, ")
    more = {"max_nodes_per_register_nodes", "max_nodes_per_translate_browse_paths_to_node_ids"}
    document["limits"] = {name: limit for name, limit in document["limits"].items() if name not in more}
    assert document["limits"] == {
        "max_nodes_per_read": {"most": 40, "from": "told"},
        "max_monitored_items_per_call": {"most": 3, "from": "told"},
        "max_nodes_per_browse": {"most": 4, "from": "config"},
        "max_monitored_items_per_subscription": {"most": 8, "from": "told"},
    }
    (limits,) = [line for line in lines if line.startswith("  limits: ")]
    assert "max_nodes_per_read 40 (the server says so); max_nodes_per_browse 4 (by the config); " in limits
    shown = [{"tags": each["items"], "publishing_s": each["publishing_s"]} for each in document["subscriptions"]]
    assert shown == details["subscriptions"]
    assert "read at connect" not in done.err


async def test_a_gateway_without_a_connection_to_the_device_says_so(shell: Shell) -> None:
    async with running(shell, robot(), connected=False):
        done = await told(shell)
    expected = "An OPC UA server's limits are read at connect: the gateway has no connection to robot-1 now."
    assert expected in done.err


async def test_tags_of_another_browse_than_the_config_has_now_are_not_shown(
    shell: Shell, simulator: OpcuaSimulator
) -> None:
    device = robot(endpoint=simulator.endpoint, browse={"include": ["Robot.Axis*"]}, tags=[], timeout="5s")
    async with running(shell, device):
        edited = {**device, "browse": {"include": ["*.Pressure"]}}
        write(shell.folder, edited, control={"socket": str(shell.folder / "control.sock")})
        done = await told(shell)
    assert "the gateway runs with another browse, reload it to see them" in done.out
    assert "0 tags" in done.out
