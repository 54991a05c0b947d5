"""Connecting is bounded, leaves nothing behind, and says in a sentence why it failed."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from typing import Any, Self

import asyncua
import pytest
from opcua_certificates import Certificate
from opcua_peer import BOUND_S, SHARED, Peer, failure, section

from gateway.drivers.opcua.section import OpcuaDevice
from gateway.errors import DeviceError
from gateway.model import DeviceState

ua: Any = asyncua.ua


def device_at(port: int, host: str = "127.0.0.1", **keys: Any) -> OpcuaDevice:
    given = {"name": "plc", "protocol": "opcua", "endpoint": f"opc.tcp://{host}:{port}", **keys}
    return OpcuaDevice.model_validate({**given, "security": {"policy": "None", "insecure": True}})


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count, not paths


async def settled() -> None:
    """Let closed transports leave the loop: each needs a turn or two."""
    for _ in range(10):
        await asyncio.sleep(0)


class Scripted:
    """A server that answers whatever comes first on a connection with the same octets, or says nothing at all."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.port = 0
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()
        self.transports: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Said(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        for transport in list(self.transports):
            transport.abort()


class _Said(asyncio.Protocol):
    def __init__(self, script: Scripted) -> None:
        self.script = script

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.script.transports.add(transport)
        self.script.arrived.set()
        self.script.left.clear()

    def connection_lost(self, error: Exception | None) -> None:
        self.script.transports.discard(self.transport)
        if not self.script.transports:
            self.script.left.set()

    def data_received(self, data: bytes) -> None:
        if self.script.answer is not None:
            self.transport.write(self.script.answer)


@pytest.fixture
async def silent() -> AsyncIterator[Scripted]:
    """A server that accepts and never says a word."""
    async with Scripted(None) as server:
        yield server


async def test_fifty_failed_and_cancelled_opens_leave_no_socket_and_no_task(silent: Scripted) -> None:
    await failure(device_at(1))
    await settled()
    files, tasks = open_files(), len(asyncio.all_tasks())
    dice = random.Random(1)
    for number in range(50):
        device = device_at(1 if number % 5 == 0 else silent.port)
        opening = asyncio.ensure_future(device.open(SHARED).__aenter__())
        if number % 5:
            silent.arrived.clear()
            if number % 2:
                async with asyncio.timeout(BOUND_S):
                    await silent.arrived.wait()
            else:
                for _ in range(dice.randrange(12)):
                    await asyncio.sleep(0)
            opening.cancel()
        done, _ = await asyncio.wait([opening], timeout=BOUND_S)
        assert done
        assert opening.cancelled() if number % 5 else isinstance(opening.exception(), DeviceError)
    async with asyncio.timeout(BOUND_S):
        await silent.left.wait()
    await settled()
    assert len(asyncio.all_tasks()) == tasks
    assert open_files() <= files


async def test_opens_cancelled_at_any_step_leave_nothing_at_a_real_server(peer: Peer) -> None:
    device = section(peer, ["speed"], mode="subscribe")
    async with asyncio.timeout(BOUND_S), device.open(SHARED):
        pass
    await settled()
    tasks = {task.get_name() for task in asyncio.all_tasks()}
    for turns in range(0, 120, 6):
        opening = asyncio.ensure_future(device.open(SHARED).__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        done, _ = await asyncio.wait([opening], timeout=BOUND_S)
        assert done
    left = {task.get_name() for task in asyncio.all_tasks() if "opcua[" in task.get_name()}
    assert left - tasks == set()


async def test_a_server_that_never_answers_is_given_up(silent: Scripted) -> None:
    error = await failure(device_at(silent.port))
    assert str(error) == f"127.0.0.1:{silent.port} does not answer"
    assert (error.reason, error.state) == ("connection-lost", DeviceState.UNREACHABLE)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"ACKF\x1c\x00\x00\x00",
        b"ACKF\x08\x00\x00\x00",
        b"\x00" * 64,
        b"ERRF\x10\x00\x00\x00\x00\x00\x83\x80\xff\xff\xff\xff",
    ],
)
async def test_a_server_that_speaks_something_else_is_told_in_a_sentence(answer: bytes) -> None:
    async with Scripted(answer) as server:
        error = await failure(device_at(server.port))
    assert str(error).startswith(f"127.0.0.1:{server.port} ")
    assert "Traceback" not in str(error)
    assert error.do


async def test_a_refused_endpoint_path_is_a_config_error() -> None:
    async with Scripted(b"ERRF\x10\x00\x00\x00\x00\x00\x83\x80\xff\xff\xff\xff") as server:
        error = await failure(device_at(server.port))
    assert (error.reason, error.state) == ("BadTcpEndpointUrlInvalid", DeviceState.CONFIG_ERROR)


async def test_a_name_that_nobody_knows_is_told_in_a_sentence() -> None:
    error = await failure(device_at(4840, host="no-such-plc.invalid"))
    assert "no-such-plc.invalid:4840" in str(error)
    assert error.reason == "connection-lost"


async def test_the_configured_host_counts_whatever_the_server_announces(peer: Peer) -> None:
    await peer.add(speed=1.5)
    for endpoint in peer.server.iserver.endpoints:
        endpoint.EndpointUrl = "opc.tcp://a-name-only-the-plc-knows:4840"
    peer.server.set_match_discovery_endpoint_url(False)
    peer.server.set_match_discovery_client_ip(False)
    try:
        async with asyncio.timeout(BOUND_S), section(peer, ["speed"]).open(SHARED) as driver:
            assert (await driver.read((0,)))[0].values == (1.5,)
    finally:
        peer.server.set_match_discovery_endpoint_url(True)
        peer.server.set_match_discovery_client_ip(True)


async def test_an_error_of_the_body_comes_out_as_it_is(peer: Peer) -> None:
    async def fail(driver: Any) -> None:
        raise KeyError("not ours")

    with pytest.raises(KeyError, match="not ours"):
        await failure(section(peer, []), fail)


async def test_a_cancelled_body_stays_cancelled_and_the_session_is_closed(peer: Peer) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with section(peer, []).open(SHARED):
            inside.set()
            await asyncio.Event().wait()

    holding = asyncio.ensure_future(hold())
    async with asyncio.timeout(BOUND_S):
        await inside.wait()
        holding.cancel()
        await asyncio.wait([holding])
    assert holding.cancelled()
    assert "CloseSession" in peer.wire.services


def test_a_default_port_is_filled_in(certificate: Certificate) -> None:
    device = section(Peer(None, certificate), [], endpoint="opc.tcp://plc-7/path")
    assert device.address == "plc-7:4840"
