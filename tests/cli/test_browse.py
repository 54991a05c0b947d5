"""`edge-gateway browse` against the simulated robot: by its own session, and through a running gateway's."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
import yaml

from tests.cli.conftest import WITHIN_S, Shell

ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def running(*arguments: str, until: str) -> AsyncIterator[str]:
    """Run a program in the background; give the line of its output in which something appears."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(WITHIN_S):
            said = ""
            while until not in said:
                said = (await process.stdout.readline()).decode()
                assert said, "it has ended"
        yield said
    finally:
        process.terminate()
        await process.communicate()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def robot() -> AsyncIterator[str]:
    ports = ("--modbus-port", "0", "--opcua-port", "0", "--control-port", "0")
    async with running("simulators", *ports, "--json-ready", until="endpoint") as said:
        yield str(json.loads(said)["opcua"]["endpoint"])


async def test_a_server_is_listed_with_values_types_and_units(shell: Shell, robot: str) -> None:
    outcome = await shell("browse", robot, "--insecure", "--include", "*.Axis1.*")
    assert outcome.code == 0, outcome.err
    speed = next(line for line in outcome.out.splitlines() if line.startswith("Robot.Axis1.Speed"))
    assert "s=Robot.Axis1.Speed" in speed
    assert "\tDouble\tdeg/s" in speed
    assert len(outcome.out.splitlines()) == 3


async def test_depth_and_start_bound_what_is_shown(shell: Shell, robot: str) -> None:
    start = "nsu=urn:edge-gateway:simulators:robot;s=Robot"
    outcome = await shell("browse", robot, "--insecure", "--from", start, "--depth", "1", "--json")
    found = [json.loads(line) for line in outcome.out.splitlines()]
    assert {"Axis1", "Counter"} <= {each["path"] for each in found}
    assert not any("." in each["path"] for each in found)


async def test_an_unknown_server_is_not_trusted_and_not_browsed(shell: Shell, robot: str) -> None:
    outcome = await shell("browse", robot, "--pki-dir", "pki")
    assert outcome.code == 1
    assert "is not trusted" in outcome.err
    assert outcome.out == ""


async def test_wrong_use_is_a_sentence(shell: Shell, robot: str) -> None:
    assert "is no opc.tcp:// address; for a device" in (await shell("browse", "robot-1")).err
    assert "clear" in (await shell("browse", robot, "--insecure", "--username", "gateway", said=b"x\n")).err
    assert "node id" in (await shell("browse", robot, "--insecure", "--from", "b=A")).err


async def test_structures_enumerations_and_times_are_shown_as_they_are_sent(shell: Shell, robot: str) -> None:
    outcome = await shell("browse", robot, "--insecure", "--include", "*.Mode", "--include", "*.Pose", "--json")
    mode, pose = (json.loads(line) for line in outcome.out.splitlines())
    assert (mode["type"], pose["type"]) == ("RobotMode", "RobotPose")
    assert isinstance(mode["value"], str)
    assert set(pose["value"]) == {"X", "Y", "Closed", "Program"}
    outcome = await shell("browse", robot, "--insecure", "--include", "*.StartedAt")
    assert outcome.out.split("\t")[2].endswith("Z")


async def test_a_tree_has_the_branches_that_lead_to_what_is_wanted(shell: Shell, robot: str) -> None:
    outcome = await shell("browse", robot, "--insecure", "--tree", "--include", "*.Closed")
    assert outcome.out.splitlines() == [
        "└── Robot  ns=2;s=Robot",
        "    └── Gripper  ns=2;s=Robot.Gripper",
        f"        └── Closed  {closed(outcome.out)}  Boolean  ns=2;s=Robot.Gripper.Closed",
        "ns=2 is nsu=urn:edge-gateway:simulators:robot",
    ]


async def test_a_tree_says_which_branches_it_did_not_open(shell: Shell, robot: str) -> None:
    outcome = await shell("browse", robot, "--insecure", "--tree", "--depth", "1")
    assert "Axis1" not in outcome.out
    assert "3 branches were not opened: give --depth" in outcome.err


async def test_what_matches_nothing_is_told_with_a_path_that_would(shell: Shell, robot: str) -> None:
    outcome = await shell("browse", robot, "--insecure", "--include", "Speed")
    assert outcome.code == 1
    assert "compared with the whole path: one is 'Robot.Counter' here" in outcome.err


async def test_whoever_reads_only_the_first_line_is_left_in_peace(robot: str) -> None:
    command = f"'{sys.executable}' -m gateway browse {robot} --insecure | head -1"
    head = await asyncio.create_subprocess_shell(
        command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(head.communicate(), WITHIN_S)
    assert len(out.splitlines()) == 1
    assert err == b""


async def test_a_running_gateways_session_is_used_and_knows_the_tags_it_found(
    shell: Shell, robot: str, tmp_path: Path
) -> None:
    browse = {"from": "nsu=urn:edge-gateway:simulators:robot;s=Robot", "include": ["*.Speed"]}
    (tmp_path / "gateway.yaml").write_text(config(robot, tmp_path, browse=browse))
    path = str(tmp_path / "gateway.yaml")
    async with running("gateway", "run", "-c", path, until="edge-gateway"):
        async with asyncio.timeout(WITHIN_S):
            outcome = await shell("read", "-c", path, "robot-1", "--json")
            while outcome.code:  # until the gateway has its session
                outcome = await shell("read", "-c", path, "robot-1", "--json")
        outcome = await shell("browse", "-c", path, "robot-1", "--include", "*.Axis1.*")
        assert len(outcome.out.splitlines()) == 3, outcome.err
        outcome = await shell("read", "-c", path, "robot-1", "--json")
        found = json.loads(outcome.out)
        assert found["way"].startswith("through the running gateway")
        assert [(each["tag"], each["quality"]) for each in found["readings"]] == [
            ("Axis1.Speed", "good"),
            ("Axis2.Speed", "good"),
        ]


def closed(tree: str) -> str:
    """Whether the gripper is closed now."""
    return "true" if "true" in tree else "false"


def config(endpoint: str, folder: Path, **keys: object) -> str:
    """Write a config whose broker does not answer."""
    security = {"policy": "None", "insecure": True}
    device = {"name": "robot-1", "protocol": "opcua", "endpoint": endpoint, "security": security, **keys}
    return yaml.safe_dump(
        {
            "gateway": {"id": "hall-3"},
            "mqtt": {"host": "127.0.0.1", "port": 9, "tls": {"insecure_plaintext": True}},
            "buffer": {"path": str(folder / "buffer.db")},
            "control": {"socket": str(folder / "control.sock")},
            "http": {"listen": "127.0.0.1:0"},
            "devices": [device],
        }
    )
