"""`edge-gateway read`: one read of a device now, values beside raw registers."""

import json
import os
import socket
from pathlib import Path
from typing import Any, get_args

import pytest
import trustme
import yaml

from gateway.drivers.modbus.address import TABLES
from gateway.drivers.modbus.tag import TypeName
from simulators import ModbusSimulator, Unit
from simulators.registers import encode
from tests.broker import free_port
from tests.cli.conftest import Shell
from tests.cli.lines import WAYS, line
from tests.end_to_end.rig import Gateway, configure, plant, running

READS = {1, 2, 3, 4}


def press(unit: int = 1) -> Unit:
    """A unit with 21.5 as CDAB at 0, the first registers of a text at 10, and a hole at 3."""
    holdings = {0: 0x0000, 1: 0x41AC, 2: 215, 10: 0x4547, 11: 0x2D31}
    return Unit("press", unit, holdings=holdings, inputs=encode(-70_000, "int32"), coils=[0, 1])


def config(folder: Path, port: int, **sections: Any) -> Path:
    """A config that reads the press."""
    path = folder / "gateway.yaml"
    document = {
        "gateway": {"id": "hall-3"},
        "mqtt": {"host": "127.0.0.1", "port": free_port()},
        "buffer": {"path": str(folder / "buffer.db")},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "control": {"socket": str(folder / "control.sock")},
        "devices": [
            {
                "name": "press-1", "protocol": "modbus-tcp", "host": "127.0.0.1", "port": port, "interval": "100ms",
                "tags": [
                    {
                        "name": "temperature", "address": "holding:0", "type": "float32", "byte_order": "CDAB",
                        "unit": "Cel",
                    },
                    {"name": "level", "address": "holding:2", "type": "uint16", "scale": 0.1, "deadband": 5},
                    {"name": "hole", "address": "holding:3", "type": "uint16"},
                    {"name": "mode", "address": "coil:1", "type": "bool"},
                ],
            }
        ],
        **sections,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@pytest.mark.parametrize("way", WAYS)
async def test_one_read_over_every_transport_shows_values_beside_raw_registers(
    shell: Shell, tmp_path: Path, way: str
) -> None:
    async with line(way, [press(7)], tmp_path) as target:
        what = ["holding:0", "float32", "holding:2", "uint16"]
        done = await shell("read", "--json", "--byte-order", "cdab", target.unit(7), *what)
        assert done.code == 0, done.err
        document = json.loads(done.out)
        assert document["way"] == "over a connection of its own"
        found = {each["tag"]: (each["value"], each["quality"], each["raw"]) for each in document["readings"]}
        assert found == {
            "holding:0 float32": (21.5, "good", ["0x0000", "0x41ac"]),
            "holding:2 uint16": (215, "good", ["0x00d7"]),
        }
        assert target.simulator.function_codes <= READS


async def test_it_is_a_table_for_a_person(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [press()], tmp_path) as target:
        what = ["holding:10", "string:4", "input:0", "int32", "coil:0", "bool:2", "holding:3", "int16"]
        done = await shell("read", target.unit(1), *what)
    assert done.code == 0
    rows = [row.split() for row in done.out.splitlines()]
    assert rows[1][:4] == ["holding:10", "string:4", '"EG-1"', "good"]
    assert rows[1][-2:] == ["0x4547", "0x2d31"]
    assert rows[2][:4] == ["input:0", "int32", "-70000", "good"]
    assert rows[3][:5] == ["coil:0", "bool:2", "[false,", "true]", "good"]
    assert rows[3][-2:] == ["0", "1"]
    assert rows[4][:4] == ["holding:3", "int16", "–", "bad:illegal-address"]
    assert done.err == "read over a connection of its own\n"


async def test_nothing_good_is_exit_1(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [press()], tmp_path) as target:
        done = await shell("read", target.unit(1), "holding:3", "uint16")
    assert done.code == 1
    assert "bad:illegal-address" in done.out


async def test_a_unit_that_is_not_there_is_one_sentence(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [press()], tmp_path) as target:
        target.simulator.faults.freeze()
        done = await shell("read", f"{target.unit(1)}?timeout=100ms", "holding:0", "uint16")
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            f"edge-gateway: unit 1 at 127.0.0.1:{target.simulator.where['port']} does not answer within 0.1 s. Check "
            "the unit id and whether the PLC runs; if it is only slow, raise timeout.\n"
        )
    done = await shell("read", target.unit(1), "holding:0", "uint16")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "refuses the connection" in done.err


async def test_a_devices_tags_are_read_as_configured_without_a_gateway(shell: Shell, tmp_path: Path) -> None:
    async with ModbusSimulator([press()]) as simulator:
        path = config(tmp_path, simulator.port)
        done = await shell("read", "-c", str(path), "--json", "press-1")
        assert done.code == 0
        found = {each["tag"]: each for each in json.loads(done.out)["readings"]}
        assert (found["temperature"]["value"], found["temperature"]["unit"]) == (21.5, "Cel")
        assert (found["level"]["value"], found["level"]["raw"]) == (21.5, ["0x00d7"])
        assert (found["hole"]["value"], found["hole"]["quality"]) == (None, "bad:illegal-address")
        one = await shell("read", "-c", str(path), "--json", "press-1", "level", "mode")
        assert [each["tag"] for each in json.loads(one.out)["readings"]] == ["level", "mode"]


async def test_a_running_gateways_own_connection_is_used(shell: Shell, tmp_path: Path) -> None:
    """A PLC that takes one client only sees none but the gateway, whether DEVICE or TARGET was asked for."""
    async with ModbusSimulator([press()]) as simulator:
        path = config(tmp_path, simulator.port)
        gateway = Gateway(tmp_path, yaml.safe_load(path.read_text()))
        async with running(gateway):
            await gateway.until(lambda health: health["devices"]["press-1"]["last_good_ms"])
            before = simulator.connections
            done = await shell("read", "-c", str(path), "press-1")
            assert done.code == 0, done.err
            assert done.err == (
                "read through the running gateway hall-3, in the queue of the link that it reads press-1 over\n"
            )
            target = f"modbus-tcp://127.0.0.1:{simulator.port}/1"
            done = await shell("read", "-c", str(path), "--json", target, "holding:2", "uint16")
            assert json.loads(done.out)["readings"][0]["value"] == 215
            assert simulator.connections == before
            done = await shell("read", "-c", str(path), "--direct", "press-1")
            assert done.err == "read over a connection of its own\n"
            assert simulator.connections == before + 1
            assert await gateway.end() == 0
        assert simulator.function_codes <= READS
        assert not (tmp_path / "control.sock").exists()


async def test_an_opc_ua_device_is_read_by_the_gateways_open_driver_or_without_it(shell: Shell, tmp_path: Path) -> None:
    async with plant(tmp_path) as simulated:
        document = configure(tmp_path, simulated.where, _NoBroker(tmp_path))  # type: ignore[arg-type]
        gateway = Gateway(tmp_path, document)
        robot = next(device for device in document["devices"] if device["protocol"] == "opcua")
        tag = robot["tags"][0]["name"]
        async with running(gateway):
            await gateway.until(lambda health: health["devices"][robot["name"]]["state"] == "ok")
            done = await shell("read", "-c", str(gateway.config_file), "--json", robot["name"], tag)
            assert done.code == 0, done.err
            document = json.loads(done.out)
            assert document["way"] == "through the running gateway hall-3"
            assert document["readings"][0]["value"] is not None
            assert await gateway.end() == 0
        done = await shell("read", "-c", str(gateway.config_file), "--json", robot["name"], tag)
        assert done.code == 0, done.err
        assert json.loads(done.out)["way"] == "over a connection of its own"


class _NoBroker:
    """What the config needs to know of a broker that is not there."""

    kind = "mosquitto"
    host = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.ca_file = folder / "ca.pem"
        trustme.CA().cert_pem.write_to_path(str(self.ca_file))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
async def test_a_socket_that_this_user_may_not_use_is_told(shell: Shell, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "control.sock"))
        other.listen()
        (tmp_path / "control.sock").chmod(0)
        done = await shell("read", "-c", str(config(tmp_path, free_port())), "press-1")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "--direct" in done.err


TYPES = get_args(TypeName)
CONFIG = ["-c", "gateway.yaml"]
TARGET = "modbus-tcp://192.0.2.10/1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["press-1"], "press-1 is the name of a device: give the config that it is in (-c)."),
        ([*CONFIG, "press-9"], "the config has no device press-9; it has press-1."),
        ([*CONFIG, "press-1", "x"], "press-1 has no tag x."),
        (
            [*CONFIG, "--byte-order", "CDAB", "press-1"],
            "--byte-order goes with a TARGET; a config's tags have their own.",
        ),
        ([TARGET, "holding:0"], "what is to be read are pairs of address and type, such as holding:0 float32."),
        (
            [TARGET, "holding:0", "real"],
            f"type: must be {', '.join(TYPES[:-1])} or string.",
        ),
        (
            [TARGET, "holdin:0", "int16"],
            f"address: there is no table 'holdin'; the tables are {', '.join(TABLES)}; did you mean holding:0?",
        ),
    ],
)  # fmt: skip
async def test_wrong_use_is_one_sentence_and_exit_2(
    shell: Shell, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    config(tmp_path, free_port())
    done = await shell("read", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"edge-gateway read: {sentence} See edge-gateway read --help.\n"


async def test_help_has_examples(shell: Shell) -> None:
    done = await shell("read", "--help")
    assert done.code == 0
    assert "edge-gateway read modbus-tcp://192.0.2.10:502/1 holding:0 float32" in done.out
