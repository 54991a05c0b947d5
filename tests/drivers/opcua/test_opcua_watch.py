"""What is known of a server while it is connected, and which of redundant servers is used."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncua
import pytest
from opcua_peer import BOUND_S, Peer, Wire, _free_port, failure, section

from gateway.drivers.base import Shared
from gateway.drivers.opcua.pacer import Pacer
from gateway.drivers.opcua.watch import Rank, rank_of

ua: Any = asyncua.ua


async def tell(peer: Peer, *, state: int = 0, level: int = 255) -> None:
    """Let the server say this of itself."""
    ids = ua.ObjectIds
    for number, value in (
        (ids.Server_ServerStatus_State, ua.Variant(state, ua.VariantType.Int32)),
        (ids.Server_ServerStatus_CurrentTime, ua.Variant(datetime.now(UTC) - timedelta(seconds=37))),
        (ids.Server_ServiceLevel, ua.Variant(level, ua.VariantType.Byte)),
    ):
        await peer.server.write_attribute_value(ua.NodeId(number), ua.DataValue(value))


@contextlib.asynccontextmanager
async def telling(peer: Peer, **said: int) -> AsyncIterator[None]:
    await tell(peer, **said)
    try:
        yield
    finally:
        await tell(peer)


def shared() -> Shared:
    return Shared(gateway_id="hall-3")


async def test_health_shows_what_the_server_says_of_itself(peer: Peer) -> None:
    await peer.add(speed=1.5)
    async with telling(peer, level=120), asyncio.timeout(BOUND_S), section(peer, ["speed"]).open(shared()) as driver:
        details = driver.details
    assert (details["mode"], details["server_state"], details["service_level"]) == ("poll", "Running", 120)
    assert details["clock_offset_s"] == pytest.approx(-37, abs=10)
    assert details["server"]


async def test_a_server_that_is_suspended_is_a_failure_with_a_sentence(peer: Peer) -> None:
    async with telling(peer, state=3):
        error = await failure(section(peer, []))
    assert error.reason == "BadServerHalted"
    assert str(error).endswith("says that it is not running: Suspended")


async def test_a_server_that_becomes_suspended_ends_the_device(peer: Peer) -> None:
    peer.expire_sessions_after(0.6, 0.6)

    async def suspend(driver: Any) -> None:
        await tell(peer, state=3)
        await asyncio.Event().wait()

    try:
        assert (await failure(section(peer, []), suspend)).reason == "BadServerHalted"
    finally:
        await tell(peer)


@pytest.mark.parametrize(("level", "rank"), [(0, 0), (1, 1), (2, 2), (199, 2), (200, 3), (255, 3), (None, 3)])
def test_a_service_level_has_a_rank(level: int | None, rank: int) -> None:
    assert rank_of(level) is Rank(rank)


async def test_the_next_host_is_used_where_the_first_is_off(peer: Peer) -> None:
    device = section(peer, [], endpoint=f"opc.tcp://127.0.0.1:{_free_port()}", hosts=[f"127.0.0.1:{peer.wire.port}"])
    async with asyncio.timeout(BOUND_S), device.open(shared()) as driver:
        assert driver.address == f"127.0.0.1:{peer.wire.port}"
        assert driver.details["address"] == driver.address


async def test_servers_that_are_not_healthy_are_looked_at_one_after_the_other(peer: Peer) -> None:
    """Both ways lead to one server here: it never sees two sessions, and the preferred way is used in the end."""
    second = Wire(_free_port())
    second.target = peer.wire.target
    await second.start()
    sessions = peer.server.iserver._external_sessions
    try:
        device = section(peer, [], hosts=[f"127.0.0.1:{second.port}"])
        async with telling(peer, level=100), asyncio.timeout(BOUND_S), device.open(shared()) as driver:
            assert driver.address == f"127.0.0.1:{peer.wire.port}"
            assert "CreateSession" in second.services
            assert len(sessions) == 1
    finally:
        await second.stop()


async def test_a_server_that_falls_to_a_lower_rank_is_left_once(peer: Peer) -> None:
    peer.expire_sessions_after(0.6, 0.6)
    memory = shared()
    device = section(peer, [], hosts=[f"127.0.0.1:{_free_port()}"])

    async def fall(driver: Any) -> None:
        await tell(peer, level=100)
        await asyncio.Event().wait()

    try:
        error = await failure(device, fall, memory)
        assert "has ServiceLevel 100; the other servers are looked at" in str(error)
        async with asyncio.timeout(BOUND_S), device.open(memory) as driver:
            assert driver.details["service_level"] == 100
    finally:
        await tell(peer)


async def test_a_limit_of_the_config_holds_whatever_the_server_says(peer: Peer) -> None:
    await peer.add(a=1, b=2, c=3)
    device = section(peer, ["a", "b", "c"], limits={"max_nodes_per_read": 2})
    async with asyncio.timeout(BOUND_S), device.open(shared()) as driver:
        before = len(peer.wire.requests)
        await driver.read((0, 1, 2))
        assert len(peer.wire.requests) - before == 2
        assert driver.details["limits"]["max_nodes_per_read"] == 2
        assert driver.details["limits_from"]["max_nodes_per_read"] == "config"


async def test_live_requests_go_out_evenly_and_before_background_work() -> None:
    pacer, order, loop = Pacer(50), list[str](), asyncio.get_running_loop()

    async def live(name: str) -> None:
        await pacer.turn()
        order.append(name)

    async def background() -> None:
        await pacer.turn_in_background()
        order.append("background")

    begun = loop.time()
    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        await live("first")
        for coroutine in (background(), live("second"), live("third")):
            group.create_task(coroutine)
    assert order == ["first", "second", "third", "background"]
    assert loop.time() - begun >= 0.059
