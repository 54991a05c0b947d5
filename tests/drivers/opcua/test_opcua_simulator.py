"""The driver against the plant's robot, over an encrypted channel with a password, as in production."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opcua_peer import BOUND_S, SHARED, failure, secured

from gateway.drivers.base import Notification
from gateway.drivers.opcua.section import OpcuaDevice
from simulators.opcua_server import PASSWORD, USER, OpcuaSimulator
from simulators.robot import VARIABLES


@pytest.fixture
async def robot(tmp_path: Path) -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator(pki_dir=tmp_path / "robot") as simulator:
        yield simulator


@pytest.fixture
def device(robot: OpcuaSimulator, tmp_path: Path) -> OpcuaDevice:
    """The robot with all its variables; the counter is the first."""
    (tmp_path / "pki" / "trusted").mkdir(parents=True)
    shutil.copy(robot.certificate_path, tmp_path / "pki" / "trusted")
    (tmp_path / "password").write_text(PASSWORD)
    return OpcuaDevice.model_validate(
        {
            "name": "robot-1",
            "protocol": "opcua",
            "endpoint": robot.endpoint,
            "interval": "100ms",
            "timeout": "5s",
            "security": secured(tmp_path / "pki"),
            "username": USER,
            "password": {"file": str(tmp_path / "password")},
            "tags": [{"name": v.path, "node": v.node, "sampling": "20ms", "queue": 100} for v in VARIABLES],
        }
    )


async def counts(changes: AsyncIterator[Notification], until: int) -> list[int]:
    """Collect the counter's values until the last that is asked for."""
    found: list[int] = []
    async with asyncio.timeout(BOUND_S):
        while not found or found[-1] < until:
            for sample in (await anext(changes)).samples:
                found += [v for column, v in zip(sample.columns, sample.values, strict=True) if column == 0]
    return found


async def test_every_count_arrives_once_and_in_order(robot: OpcuaSimulator, device: OpcuaDevice) -> None:
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        changes = driver.changes()
        await counts(changes, until=robot.robot.ticks)
        first = robot.robot.ticks
        for _ in range(60):
            await robot.step()
        assert await counts(changes, until=first + 60) == list(range(first + 1, first + 61))
    assert robot.writes == 0


async def test_a_restart_that_moves_the_namespace_changes_nothing(robot: OpcuaSimulator, device: OpcuaDevice) -> None:
    async def follow_until_it_stops(driver: Any) -> None:
        changes = driver.changes()
        await counts(changes, until=robot.robot.ticks)
        await robot.stop()
        while True:
            await anext(changes)

    assert (await failure(device, follow_until_it_stops)).reason == "connection-lost"
    robot.namespaces_before.append("urn:came:first")
    await robot.rebuild()
    await robot.step()
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        assert await counts(driver.changes(), until=robot.robot.ticks) == [robot.robot.ticks]


async def test_a_removed_node_is_bad_and_the_others_go_on(robot: OpcuaSimulator, device: OpcuaDevice) -> None:
    gone = "Robot.Axis1.Speed"
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        changes = driver.changes()
        await counts(changes, until=robot.robot.ticks)
        await robot.remove(gone)
        quality: dict[str, str] = {}
        while gone not in quality:
            quality.update({name: q for sample in (await anext(changes)).samples for name, q in sample.quality.items()})
        assert quality[gone] == "bad:BadNodeIdUnknown"
        await robot.step()
        assert await counts(changes, until=robot.robot.ticks)
        read = await driver.read(tuple(range(len(VARIABLES))))
        assert {name: q for sample in read for name, q in sample.quality.items()} == {gone: "bad:BadNodeIdUnknown"}
        assert sum(sample.readings for sample in read) == len(VARIABLES)
