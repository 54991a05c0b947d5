"""`browse` of a device that a running gateway has: through its session, behind what it reads itself."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import yaml
from opcua_peer import BOUND_S, SHARED

from gateway.control.client import reach
from gateway.control.desk import Desk
from gateway.control.exploring import RemoteExplorer
from gateway.control.server import serve
from gateway.drivers.base import Driver
from gateway.drivers.opcua.browse import Walk
from gateway.drivers.opcua.section import OpcuaDevice
from simulators.opcua_server import OpcuaSimulator
from tests.cli.conftest import WITHIN_S, Shell

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[3]
VARIABLES = 1000
COUNTER = "nsu=urn:edge-gateway:simulators:robot;s=Robot.Counter"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant() -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator(volume=VARIABLES) as simulator:
        yield simulator


@dataclass
class Hall:
    """A gateway as those see it who come to its control socket."""

    plant: OpcuaSimulator
    socket: Path
    config: Path
    opened: dict[str, Driver] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many requests for references the server got."""
        return self.plant.faults.requests["Browse"] + self.plant.faults.requests["BrowseNext"]


@pytest_asyncio.fixture(loop_scope="module")
async def hall(plant: OpcuaSimulator, tmp_path: Path) -> AsyncIterator[Hall]:
    """A gateway with an open device, which has one tag."""
    device = {
        "name": "robot-1", "protocol": "opcua", "endpoint": plant.endpoint, "mode": "poll", "timeout": "10s",
        "max_requests_per_second": 10_000, "security": {"policy": "None", "insecure": True},
        "tags": [{"name": "counter", "node": COUNTER}],
    }  # fmt: skip
    document = {
        "gateway": {"id": "hall-3"},
        "mqtt": {"host": "127.0.0.1", "port": 9, "tls": {"insecure_plaintext": True}},
        "buffer": {"path": str(tmp_path / "buffer.db")},
        "control": {"socket": str(tmp_path / "control.sock")},
        "devices": [device],
    }
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump(document))
    section = OpcuaDevice.model_validate(device)
    hall = Hall(plant, tmp_path / "control.sock", config)
    desk = Desk("hall-3", [section], SHARED, hall.opened.get)
    async with section.open(SHARED) as driver, serve(hall.socket, desk.visit):
        hall.opened["robot-1"] = driver
        yield hall


async def test_a_live_read_waits_for_two_requests_of_a_walk_at_most(hall: Hall) -> None:
    async def walk() -> int:
        async with reach(hall.socket) as daemon:
            assert daemon is not None
            return len([node async for node in Walk(RemoteExplorer(daemon, "robot-1")).nodes()])

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as group:
        walking = group.create_task(walk())
        reads, between = 0, []
        while not walking.done():
            before = hall.steps
            (sample,) = await hall.opened["robot-1"].read((0,))
            between.append(hall.steps - before)
            assert not sample.quality
            reads += 1
            await asyncio.sleep(0)
    assert walking.result() > VARIABLES
    assert reads > 20
    assert max(between) <= 2
    assert hall.plant.sessions == 1


async def test_the_command_shows_what_the_gateways_session_sees(hall: Hall, shell: Shell) -> None:
    outcome = await shell("browse", "-c", str(hall.config), "robot-1", "--include", "Volume.*.V*")
    assert (outcome.code, outcome.err) == (0, "")
    assert len(outcome.out.splitlines()) == VARIABLES
    assert hall.plant.sessions == 1


async def test_a_device_without_connection_is_told_and_not_gone_to(hall: Hall, shell: Shell) -> None:
    hall.opened.clear()
    outcome = await shell("browse", "-c", str(hall.config), "robot-1")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("edge-gateway: the gateway has no connection to robot-1 now. See why with")
    assert hall.plant.sessions == 1


async def test_a_wrong_start_is_told_as_on_a_session_of_ones_own(hall: Hall, shell: Shell) -> None:
    outcome = await shell("browse", "-c", str(hall.config), "robot-1", "--from", "nsu=urn:nobody;s=x")
    assert (outcome.code, outcome.out) == (1, "")
    assert "browsing cannot begin at nsu=urn:nobody;s=x: BadNodeIdUnknown" in outcome.err


async def test_a_connection_that_ends_meanwhile_ends_the_walk_with_what_was_found(hall: Hall) -> None:
    async with browsing(hall) as command:
        await begun(command)
        hall.opened.clear()
        _, err = await command.communicate()
    assert command.returncode == 1
    assert b"This is what was found so far" in err
    assert b"the gateway has no connection to robot-1 now" in err


async def test_ctrl_c_ends_the_command_and_not_the_gateways_session(hall: Hall) -> None:
    async with browsing(hall) as command:
        await begun(command)
        command.send_signal(2)
        _, err = await command.communicate()
    assert command.returncode == 130
    assert b"Traceback" not in err
    assert b"This is what was found so far" in err
    (sample,) = await hall.opened["robot-1"].read((0,))
    assert not sample.quality


@contextlib.asynccontextmanager
async def browsing(hall: Hall) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command; what it prints is read by the test."""
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "browse", "-c", str(hall.config), "robot-1",
        cwd=ROOT, env=os.environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(WITHIN_S):
        yield command


async def begun(command: asyncio.subprocess.Process) -> None:
    """Wait until the first nodes were printed."""
    assert command.stdout is not None
    assert await command.stdout.readline()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)
