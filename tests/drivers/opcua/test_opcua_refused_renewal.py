"""A server that will not renew the keys of a channel costs one new connection, and no value."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncua
import pytest
import pytest_asyncio
from asyncua.common.utils import Buffer
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary, uatcp_to_binary
from opcua_peer import BOUND_S
from opcua_robot import Store, robot_section

from gateway.drivers.opcua.device import open_device
from gateway.errors import DeviceError
from simulators.opcua_server import OpcuaSimulator

ua: Any = asyncua.ua
pytestmark = pytest.mark.asyncio(loop_scope="module")
CHANNEL_S = 2.0
TIMEOUT_S = 4.0
"""What setting up may take at the least; the robot's section has a shorter timeout."""
SLACK_S = 6.0
"""For a busy machine."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def robot() -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator() as simulator:
        yield simulator


def fault(processor: Any, seqhdr: Any, request: Any) -> None:
    response = ua.ServiceFault()
    response.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadSecurityChecksFailed)
    processor.send_response(request.RequestHeader.RequestHandle, seqhdr, response, ua.MessageType.SecureOpen)


def bad_result(processor: Any, seqhdr: Any, request: Any) -> None:
    response = ua.OpenSecureChannelResponse()
    response.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadSecurityChecksFailed)
    processor.send_response(request.RequestHeader.RequestHandle, seqhdr, response, ua.MessageType.SecureOpen)


def error(processor: Any, _seqhdr: Any, _request: Any) -> None:
    told = ua.ErrorMessage(ua.StatusCode(ua.StatusCodes.BadSecurityChecksFailed), "")
    processor._transport.write(uatcp_to_binary(ua.MessageType.Error, told))
    processor._transport.close()


def hang_up(processor: Any, _seqhdr: Any, _request: Any) -> None:
    processor._transport.close()


def say_nothing(_processor: Any, _seqhdr: Any, _request: Any) -> None:
    pass


REFUSED, CLOSED, SILENT = "refuses: BadSecurityChecksFailed", "closed the connection", "does not answer"


@pytest.mark.parametrize(
    ("refuse", "says"),
    [(fault, REFUSED), (bad_result, REFUSED), (error, REFUSED), (hang_up, CLOSED), (say_nothing, SILENT)],
)
async def test_a_refused_renewal_is_one_sentence_and_one_new_connection_and_costs_no_value(
    robot: OpcuaSimulator, monkeypatch: pytest.MonkeyPatch, refuse: Callable[..., None], says: str
) -> None:
    refusals = 0
    open_keys = UaProcessor.open_secure_channel

    def refuse_once(processor: Any, algohdr: Any, seqhdr: Any, body: Any) -> None:
        nonlocal refusals
        request = struct_from_binary(ua.OpenSecureChannelRequest, Buffer(body.copy().read(len(body))))
        if request.Parameters.RequestType == ua.SecurityTokenRequestType.Renew and not refusals:
            refusals += 1
            refuse(processor, seqhdr, request)
        else:
            open_keys(processor, algohdr, seqhdr, body)

    monkeypatch.setattr(UaProcessor, "open_secure_channel", refuse_once)
    store, device, start = Store(), robot_section(robot), robot.robot.ticks

    async def follow_until_it_ends() -> None:
        async with open_device(device, store.shared, channel_s=CHANNEL_S) as driver:
            changes = driver.changes()
            while True:
                await robot.step()
                await store.until(driver, changes, lambda: robot.robot.ticks in store.values.get("ticks", []))

    began = time.monotonic()
    with pytest.raises(DeviceError, match=says):
        async with asyncio.timeout(BOUND_S):
            await follow_until_it_ends()
    assert time.monotonic() - began < CHANNEL_S + TIMEOUT_S + SLACK_S
    for _ in range(3):
        await robot.step()
    last = robot.robot.ticks
    async with open_device(device, store.shared, channel_s=CHANNEL_S) as driver:
        await store.until(driver, driver.changes(), lambda: store.values["ticks"][-1] == last)
    assert sorted(set(store.values["ticks"])) == list(range(start, last + 1))
    assert (refusals, store.gaps) == (1, [])
