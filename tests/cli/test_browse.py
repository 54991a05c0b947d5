"""`edge-gateway browse` against the simulated robot: by its own session, and through a running gateway's."""

import asyncio
import contextlib
import json
import os
import re
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


async def test_the_yaml_is_pasted_below_tags_checked_and_run(shell: Shell, robot: str, tmp_path: Path) -> None:
    outcome = await shell("browse", robot, "--insecure", "--include", "*.Speed", "--yaml")
    assert yaml.safe_load(outcome.out)[0] == {
        "name": "Robot.Axis1.Speed",
        "node": "nsu=urn:edge-gateway:simulators:robot;s=Robot.Axis1.Speed",
        "unit": "deg/s",
    }
    path = tmp_path / "gateway.yaml"
    path.write_text(config(robot, tmp_path) + "  tags:\n" + outcome.out)
    assert (await shell("check", "-c", "gateway.yaml")).code == 0
    async with running("gateway", "run", "-c", str(path), until="edge-gateway"), asyncio.timeout(WITHIN_S):
        read = await shell("read", "-c", str(path), "robot-1", "--json")
        while read.code:  # until the gateway has its session
            read = await shell("read", "-c", str(path), "robot-1", "--json")
    found = json.loads(read.out)
    assert found["way"].startswith("through the running gateway")
    assert [(each["tag"], each["quality"]) for each in found["readings"]] == [
        ("Robot.Axis1.Speed", "good"),
        ("Robot.Axis2.Speed", "good"),
    ]


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


async def test_progress_is_told_on_a_terminal_beside_what_is_written_elsewhere(robot: str) -> None:
    out, err = await at_a_terminal(robot, "--list", stdout=asyncio.subprocess.PIPE)
    assert b"Robot.Axis1.Speed\t" in out
    assert b"nodes seen" in err
    assert b"requests/s" in err


async def test_a_terminal_gets_a_tree_that_no_line_is_too_long_for(robot: str) -> None:
    _, shown = await at_a_terminal(robot, COLUMNS="50")
    tree = [line for line in shown.decode().splitlines() if "──" in line]
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\r") for line in tree]
    assert any(line.endswith(("── Closed  false  Boolean", "── Closed  true  Boolean")) for line in plain)
    assert [line for line in plain if len(line) > 50 and "━" not in line] == []


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


async def at_a_terminal(robot: str, *arguments: str, stdout: int | None = None, **env: str) -> tuple[bytes, bytes]:
    """Browse with stderr at a terminal, and stdout too unless it goes elsewhere; give both texts."""
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "browse", robot, "--insecure", *arguments,
        cwd=ROOT, env={**os.environ, "COLUMNS": "80", "TERM": "xterm", **env}, stdin=theirs,
        stdout=theirs if stdout is None else stdout, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = asyncio.create_task(asyncio.to_thread(drained, ours))
    try:
        out, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
        return out or b"", await asyncio.wait_for(seen, WITHIN_S)
    finally:
        os.close(ours)


def drained(terminal: int) -> bytes:
    """Read what is written to a terminal until nobody has it open."""
    found = b""
    with contextlib.suppress(OSError):  # what Linux gives at the end
        while chunk := os.read(terminal, 65536):
            found += chunk
    return found


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
        },
        sort_keys=False,
    )
