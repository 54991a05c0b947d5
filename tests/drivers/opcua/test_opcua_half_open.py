"""A server that falls silent at any moment of connecting is given up in bounded time, and nothing of it stays."""

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator

import pytest
from opcua_peer import BOUND_S, SHARED, Peer, section
from test_opcua_leaks import count, settled

from gateway.drivers.opcua.section import OpcuaDevice
from gateway.errors import DeviceError
from simulators.relay import Relay

STEP_S = 5.0
"""The `timeout` of the devices here: what a server may take to answer one request."""
CLOSE_S = 1.0
SLACK_S = 10.0
"""For a busy machine, and fifty attempts at once."""
FOUND_DEAD_S = STEP_S + STEP_S
"""An open session is looked at each 5 s at the least, and that look takes a step; connecting takes less."""
STAGES = 17
"""Messages from the first HEL to the first PublishRequest: at most so many."""


class Deafening(Relay):
    """Passes so many messages of a client, whatever the number of its connections, with their answers; then nothing."""

    def __init__(self, target: tuple[str, int], messages: int) -> None:
        super().__init__(target)
        self.left = messages

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        if late:
            while chunk := await reader.read(65536):
                writer.write(chunk)
            return
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readexactly(8):
                body = await reader.readexactly(struct.unpack_from("<I", head, 4)[0] - 8)
                if self.left > 0:
                    self.left -= 1
                    writer.write(head + body)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def deafening(peer: Peer, messages: int) -> AsyncIterator[Deafening]:
    relay = Deafening(peer.wire.target, messages)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.stop()


async def follow(device: OpcuaDevice) -> None:
    async with device.open(SHARED) as driver:
        async for notification in driver.changes():
            driver.acknowledge(notification.receipt)


async def attempt(peer: Peer, stage: int) -> tuple[float, DeviceError]:
    """Follow a device whose server falls silent; give how long that took, and what was said."""
    async with deafening(peer, stage) as relay:
        endpoint = f"opc.tcp://127.0.0.1:{relay.port}"
        device = section(peer, ["speed"], mode="subscribe", endpoint=endpoint, timeout="5s", interval="100ms")
        began = time.monotonic()
        with pytest.raises(DeviceError) as caught:
            await follow(device)
        return time.monotonic() - began, caught.value


async def test_a_server_that_falls_silent_at_any_stage_is_given_up_in_time_and_leaves_nothing(peer: Peer) -> None:
    await peer.add(speed=1.5)
    peer.expire_sessions_after(1.0, 2.0)
    await attempt(peer, 0)
    begun = count()
    async with asyncio.timeout(3 * BOUND_S):
        found = await asyncio.gather(*(attempt(peer, n % STAGES) for n in range(3 * STAGES)))
    for took, error in found:
        assert took < FOUND_DEAD_S + CLOSE_S + SLACK_S
        assert (error.reason, str(error)[-16:]) == ("connection-lost", " does not answer")
    files, tasks = await settled(begun)  # the server ends its sessions meanwhile
    assert files <= begun[0]
    assert tasks <= begun[1]
