"""The gateway reads a server that is written in C on libmodbus: nothing of ours is on the other side of the wire."""

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from gateway.drivers import Device
from gateway.drivers.base import DeviceSection, Shared
from gateway.model import Sample
from tests.programs import missing, next_line, program, require_program, serial_pair

SOURCE = Path(__file__).with_name("libmodbus_peer.c")
WITHIN_S = 30.0
UNIT = 17
TAGS: list[dict[str, Any]] = [
    *({"name": f"c{at}", "address": f"coil:{at}", "type": "bool"} for at in range(20)),
    *({"name": f"d{at}", "address": f"discrete:{at}", "type": "bool"} for at in range(250, 300)),
    *({"name": f"h{at}", "address": f"holding:{at}", "type": "uint16"} for at in range(150)),
    *({"name": f"i{at}", "address": f"input:{at}", "type": "uint16"} for at in range(175, 300)),
    {"name": "level", "address": "holding:200", "type": "float32"},
]
HELD: dict[str, Any] = {
    **{f"c{at}": at % 3 == 0 for at in range(20)},
    **{f"d{at}": at % 5 == 0 for at in range(250, 300)},
    **{f"h{at}": 7 * at + 1 for at in range(150)},
    **{f"i{at}": 65535 - at for at in range(175, 300)},
    "level": 21.5,
}


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled server."""
    compiler = require_program("cc", "gcc libc6-dev")
    if not Path("/usr/include/modbus/modbus.h").exists():
        missing("libmodbus is not installed: apt-get install libmodbus-dev")
    made = tmp_path_factory.mktemp("interop") / "libmodbus_peer"
    strict = ("-std=c11", "-Wall", "-Wextra", "-Werror")
    command = [compiler, *strict, str(SOURCE), "-o", str(made), "-lmodbus"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return made


def section(tags: Sequence[dict[str, Any]] = TAGS, **keys: Any) -> DeviceSection:
    made: DeviceSection = TypeAdapter(Device).validate_python(
        {"name": "press-1", "unit_id": UNIT, "timeout": "10s", **keys, "tags": tags}
    )
    return made


def values(device: DeviceSection, samples: Sequence[Sample]) -> dict[str, Any]:
    assert [quality for sample in samples for quality in sample.quality.items()] == []
    pairs = [pair for sample in samples for pair in zip(sample.columns, sample.values, strict=True)]
    return {device.tags[at].name: value for at, value in pairs}


async def read_all(device: DeviceSection, polls: int = 3) -> None:
    async with device.open(Shared("hall-3")) as driver:
        for _ in range(polls):
            samples = await asyncio.wait_for(driver.read(tuple(range(len(device.tags)))), WITHIN_S)
            assert values(device, samples) == HELD


async def test_every_table_is_read_over_tcp(peer: Path) -> None:
    async with program(peer, "tcp") as server:
        port = int((await next_line(server)).removeprefix("ready "))
        await read_all(section(protocol="modbus-tcp", host="127.0.0.1", port=port))
        await read_all(section(protocol="modbus-tcp", host="127.0.0.1", port=port, close_after_cycle=True))


async def test_every_table_is_read_on_a_serial_line(peer: Path, tmp_path: Path) -> None:
    async with serial_pair(tmp_path) as (ours, theirs), program(peer, "rtu", theirs, str(UNIT)) as server:
        assert await next_line(server) == "ready"
        await read_all(section(protocol="modbus-rtu", serial={"port": ours, "parity": "N"}))


@pytest.mark.parametrize("way", ["tcp", "rtu"])
async def test_registers_that_it_does_not_have_are_bad_and_cost_no_other(peer: Path, tmp_path: Path, way: str) -> None:
    tags = [{"name": f"h{at}", "address": f"holding:{at}", "type": "uint16"} for at in range(290, 310)]
    async with serial_pair(tmp_path) as (ours, theirs):
        arguments = ("tcp",) if way == "tcp" else ("rtu", theirs, str(UNIT))
        async with program(peer, *arguments) as server:
            said = await next_line(server)
            place: dict[str, Any] = (
                {"protocol": "modbus-tcp", "host": "127.0.0.1", "port": int(said.removeprefix("ready "))}
                if way == "tcp"
                else {"protocol": "modbus-rtu", "serial": {"port": ours, "parity": "N"}}
            )
            device = section(tags, **place)
            async with device.open(Shared("hall-3")) as driver:
                (sample,) = await asyncio.wait_for(driver.read(tuple(range(20))), WITHIN_S)
    assert sample.values == tuple(7 * at + 1 for at in range(290, 300))
    assert sample.quality == {f"h{at}": "bad:illegal-address" for at in range(300, 310)}
