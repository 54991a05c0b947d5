"""Browsing real servers of little patience: small pages, few continuation points, and those that are lost."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncua
import pytest
import pytest_asyncio
from opcua_peer import BOUND_S, SHARED, Peer

from gateway.drivers.opcua.browse import Walk
from gateway.drivers.opcua.section import OpcuaDevice
from simulators.opcua_server import OpcuaSimulator
from tests.cli.conftest import WITHIN_S, Shell

ua: Any = asyncua.ua
ROOT = Path(__file__).parents[3]
VARIABLES = 1000
FOLDERS = VARIABLES // 100


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plant() -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator(volume=VARIABLES) as simulator:
        yield simulator


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def device(endpoint: str, **keys: Any) -> OpcuaDevice:
    plain = {"policy": "None", "insecure": True}
    base = {"name": "plc", "protocol": "opcua", "endpoint": endpoint, "security": plain, "mode": "poll"}
    return OpcuaDevice.model_validate({**base, "timeout": "10s", "max_requests_per_second": 10_000, **keys})


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("points", [1, 3])
async def test_no_reference_is_lost_where_continuation_points_are_refused_or_dropped(
    plant: OpcuaSimulator, points: int, dropped: bool
) -> None:
    limits = {"references_per_node": 30, "nodes_per_browse": 10}
    await plant.limit(**limits, continuation_points=points, oldest_point_is_dropped=dropped)
    async with asyncio.timeout(BOUND_S), device(plant.endpoint).open(SHARED) as driver:
        explorer = driver.explorer  # type: ignore[attr-defined]
        found = [node async for node in Walk(explorer).nodes()]
    paths = {node.path for node in found if node.path.startswith("Volume.")}
    assert len(paths) == VARIABLES + FOLDERS
    assert not [node for node in found if node.fault]
    assert len({node.node for node in found}) == len(found)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_command_lists_every_variable_within_the_servers_limits(plant: OpcuaSimulator, shell: Shell) -> None:
    await plant.limit(references_per_node=30, nodes_per_browse=20, nodes_per_read=50, announced=False)
    outcome = await shell("browse", plant.endpoint, "--insecure", "--include", "Volume.*.V*")
    assert outcome.code == 0, outcome.err
    found = [line.split("\t") for line in outcome.out.splitlines()]
    assert len({line[0] for line in found}) == VARIABLES
    assert {(line[2], line[3]) for line in found} == {("0", "UInt32")}


async def plant_of(peer: Peer, folders: int) -> None:
    """Make folders of a hundred variables each."""
    for number in range(folders):
        folder = await peer.server.nodes.objects.add_folder(peer.index, f"F{number}")
        peer._added.append(folder)
        for each in range(100):
            await folder.add_variable(peer.index, f"V{each}", each)


async def start(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "browse", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["--list", "--tree"])
async def test_ctrl_c_ends_at_once_closes_the_session_and_keeps_what_was_found(peer: Peer, form: str) -> None:
    await plant_of(peer, 10)
    command = await start(peer.endpoint, "--insecure", form)
    async with asyncio.timeout(WITHIN_S):
        await peer.wire.seen("Browse", 5)
        peer.wire.freeze()
        command.send_signal(2)
        peer.wire.resume()
        out, err = await command.communicate()
    assert command.returncode == 130
    assert b"Traceback" not in err
    assert b"This is what was found so far" in err
    assert b"F0" in out
    assert "CloseSession" in peer.wire.services


async def test_ctrl_c_before_anything_was_found_says_that_it_was_stopped(peer: Peer) -> None:
    command = await start(peer.endpoint, "--insecure")
    async with asyncio.timeout(WITHIN_S):
        await peer.wire.seen("CreateSession", 1)
        peer.wire.freeze()
        command.send_signal(2)
        out, err = await command.communicate()
        peer.wire.resume()
    assert (command.returncode, out) == (130, b"")
    assert err.strip() == b"edge-gateway: stopped"


ODD = (
    "a: b # c", "${HOME}", "{name}", "yes", "1e3", "=", "~", "- x", "Temperatur °C", "tab\there", "*", "x" * 300,
    "'\"", "a.b", "twin", "twin", "line\nbreak", " blank ", "+", "a/b",
)  # fmt: skip
"""Browse names that YAML, a config or a topic could take for something else."""


async def test_the_yaml_of_any_server_is_a_configs_tags_unchanged_and_they_are_read(
    peer: Peer, shell: Shell, tmp_path: Path
) -> None:
    for number, name in enumerate(ODD):
        node = ua.NodeId(f"odd {number}: # '{name[:20]}", peer.index)
        qualified = ua.QualifiedName(name, peer.index)
        peer._added.append(await peer.server.nodes.objects.add_variable(node, qualified, float(number)))
    outcome = await shell("browse", peer.endpoint, "--insecure", "--yaml", "--exclude", "Aliases*")
    assert outcome.code == 0, outcome.err
    path = tmp_path / "gateway.yaml"
    path.write_text(CONFIG.format(endpoint=peer.endpoint, folder=tmp_path) + outcome.out)
    checked = await shell("check", "-c", str(path))
    assert checked.code == 0, checked.err
    read = await shell("read", "-c", str(path), "--direct", "plc", "--json")
    assert read.code == 0, read.err
    readings = json.loads(read.out)["readings"]
    assert [each for each in readings if each["quality"] != "good"] == []
    assert sorted(each["value"] for each in readings) == [float(number) for number in range(len(ODD))]
    assert len({each["tag"] for each in readings}) == len(ODD)


CONFIG = """\
gateway: {{id: hall-3}}
mqtt: {{host: 127.0.0.1, port: 9, tls: {{insecure_plaintext: true}}}}
buffer: {{path: {folder}/buffer.db}}
devices:
  - name: plc
    protocol: opcua
    endpoint: {endpoint}
    security: {{policy: None, insecure: true}}
    tags:
"""
