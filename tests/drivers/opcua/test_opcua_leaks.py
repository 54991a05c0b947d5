"""What failed or cancelled connects leave behind: nothing."""

import asyncio
import contextlib
import gc
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from opcua_peer import BOUND_S, SHARED, Peer, _free_port, section

from gateway.drivers.opcua.section import OpcuaDevice
from gateway.errors import DeviceError

TIMES = 200
Attempt = Callable[[], Coroutine[Any, Any, None]]


async def settled(begun: tuple[int, int]) -> tuple[int, int]:
    """Count sockets and tasks, once the server too has noticed who left."""
    found = count()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BOUND_S / 3):
            while found[0] > begun[0] or found[1] > begun[1]:
                await asyncio.sleep(0.02)
                found = count()
    return found


def count() -> tuple[int, int]:
    gc.collect(0)
    return len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


async def open_and_close(device: OpcuaDevice) -> None:
    async with device.open(SHARED):
        pass


async def assert_nothing_stays(attempt: Attempt, times: int = TIMES) -> None:
    await attempt()
    begun = count()
    for _ in range(times):
        await attempt()
    found = await settled(begun)
    assert found[0] <= begun[0]
    assert found[1] <= begun[1]


async def test_200_refused_connects_leave_nothing(peer: Peer) -> None:
    device = section(peer, [], endpoint=f"opc.tcp://127.0.0.1:{_free_port()}")

    async def attempt() -> None:
        with pytest.raises(DeviceError):
            await open_and_close(device)

    await assert_nothing_stays(attempt)


async def test_200_connects_that_are_cancelled_at_random_leave_nothing(peer: Peer) -> None:
    device, dice = section(peer, [], max_requests_per_second=10_000), random.Random(4)

    async def attempt() -> None:
        with contextlib.suppress(TimeoutError, DeviceError):
            async with asyncio.timeout(dice.uniform(0.0, 0.04)):
                await open_and_close(device)

    await assert_nothing_stays(attempt)
    async with asyncio.timeout(BOUND_S):  # the server may still be busy with who left last
        while peer.server.iserver._external_sessions:
            await asyncio.sleep(0.02)


async def test_connects_to_a_server_that_falls_silent_at_any_moment_leave_nothing(peer: Peer) -> None:
    device, dice = section(peer, [], max_requests_per_second=10_000), random.Random(5)

    async def attempt() -> None:
        async def silence() -> None:
            await asyncio.sleep(dice.uniform(0.0, 0.03))
            peer.wire.freeze()

        async with asyncio.TaskGroup() as group:
            silencing = group.create_task(silence())
            with contextlib.suppress(TimeoutError, DeviceError):
                async with asyncio.timeout(0.035):
                    await open_and_close(device)
            await silencing
        peer.wire.resume()

    await assert_nothing_stays(attempt, 50)
