"""`edge-gateway plan`: the requests, the lines' time and the messages that a config leads to."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway.buffer.stored import Stored
from gateway.cli.plan import plan
from gateway.commissioning.forecast import due_together
from gateway.commissioning.traffic import usual_sample
from gateway.config import load
from gateway.meta import meta_of
from gateway.publisher.payload.json import messages
from tests.cli.conftest import Shell


def press(name: str = "press-1", **keys: Any) -> dict[str, Any]:
    """A device with two groups of registers, a slow tag and some coils."""
    return {
        "name": name, "protocol": "modbus-tcp", "host": "192.0.2.10",
        "tags": [
            {"name": "a", "address": "holding:0", "type": "float32"},
            {"name": "b", "address": "holding:2", "type": "uint16", "scale": 0.1},
            {"name": "c", "address": "holding:6", "type": "uint16", "deadband": 1},
            {"name": "d", "address": "holding:100", "type": "int32", "interval": "10s"},
            {"name": "e", "address": "coil:0", "type": "bool"},
        ],
        **keys,
    }  # fmt: skip


def write(folder: Path, *devices: dict[str, Any], **sections: Any) -> str:
    """A config with these devices; gives its name."""
    document = {"gateway": {"id": "hall-3"}, "mqtt": {"host": "broker.example.com"}, "devices": list(devices)}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(document | sections, sort_keys=False))
    return "gateway.yaml"


def planned(shell: Shell, *devices: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """The plan of these devices; without a process, which takes longer than the plan."""
    path = shell.folder / write(shell.folder, *devices, **sections)
    done = CliRunner().invoke(plan, ["--json", "-c", str(path)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_blocks_are_those_that_the_driver_reads(shell: Shell) -> None:
    """Every set of tags that is due together, with its blocks and how often it is."""
    (device,) = planned(shell, press())["devices"]
    often, seldom = device["polls"]
    assert (often["polls_per_second"], seldom["polls_per_second"]) == (pytest.approx(0.9), pytest.approx(0.1))
    assert [(b["table"], b["start"], b["count"], b["tags"]) for b in often["blocks"]] == [
        ("coil", 0, 1, 1), ("holding", 0, 3, 2), ("holding", 6, 1, 1)
    ]  # fmt: skip
    assert [(b["table"], b["start"]) for b in seldom["blocks"]][-1] == ("holding", 100)
    assert (often["registers"], often["unneeded"], often["tags"]) == (5, 0, 4)


def test_registers_that_no_tag_needs_are_counted(shell: Shell) -> None:
    (device,) = planned(shell, press(max_gap=5))["devices"]
    assert device["polls"][0]["unneeded"] == 3
    assert device["another_max_gap"] is None or device["another_max_gap"]["max_gap"] > 5


def test_what_another_max_gap_would_save_is_told_where_it_is_worth_it(shell: Shell) -> None:
    (device,) = planned(shell, press())["devices"]
    saving = device["another_max_gap"]
    assert (saving["requests_saved"] >= 1, saving["seconds_saved"] > 0) == (True, True)
    better = (planned(shell, press(max_gap=saving["max_gap"])))["devices"][0]
    assert better["load"] < device["load"]


async def test_the_load_of_a_link_is_that_of_all_its_devices(shell: Shell) -> None:
    serial = {"port": "/dev/ttyUSB0", "baudrate": 9600}
    bus = [
        {
            "name": f"meter-{unit}", "protocol": "modbus-rtu", "serial": serial, "unit_id": unit, "interval": "100ms",
            "tags": [{"name": "v", "address": "input:0", "type": "float32", "count": 20}],
        }
        for unit in (1, 2)
    ]  # fmt: skip
    document = planned(shell, press(), *bus)
    links = {link["address"]: link for link in document["links"]}
    assert links["/dev/ttyUSB0"]["devices"] == ["meter-1", "meter-2"]
    loads = [device["load"] for device in document["devices"] if device["device"].startswith("meter")]
    assert links["/dev/ttyUSB0"]["load"] == pytest.approx(sum(loads), abs=1e-5)
    # 40 registers at 9600 baud, 8E1: (8 + 5 + 80) characters of 11 bits are 107 ms, twice in 100 ms
    assert links["/dev/ttyUSB0"]["load"] > 2
    done = await shell("plan", "-c", "gateway.yaml")
    assert "cannot keep up: raise intervals, or read fewer tags" in done.out


def test_messages_are_measured_with_the_real_encoder(shell: Shell) -> None:
    """What is said of a day is the size of the message that such a sample really makes, at its rate."""
    device = {**press(), "tags": press()["tags"][:2]}
    document = planned(shell, device)
    config = load(shell.folder / "gateway.yaml")
    section = config.devices[0]
    row = Stored(1, "5f0c2a9e", meta_of(config, section), 1_234_567, (usual_sample(section, (0, 1)),), 2)
    (message,) = messages([row], gateway="hall-3", historical=False, max_bytes=131072)
    size = len(message.payload) + len(f"{message.topic}/data") + 9
    sent = document["devices"][0]["sent_at_most"]
    assert sent["messages_per_day"] == 86_400
    assert sent["mb_per_day"] == pytest.approx(size * 86_400 / 1e6, abs=0.001)
    assert sent["mb_per_month"] == pytest.approx(30 * sent["mb_per_day"], rel=1e-3)


def test_deadbands_and_packing_make_it_less(shell: Shell) -> None:
    quiet = [{**tag, "deadband": 0} for tag in press()["tags"]]
    (device,) = (planned(shell, press(tags=quiet, heartbeat="1h")))["devices"]
    assert device["sent_at_least"]["messages_per_day"] == 24
    assert device["sent_at_most"]["messages_per_day"] == 86_400
    packed = planned(shell, press(), mqtt={"host": "broker.example.com", "flush_interval": "10s"})
    assert packed["devices"][0]["sent_at_most"]["messages_per_day"] == 8640
    assert packed["devices"][0]["sent_at_most"]["mb_per_day"] < device["sent_at_most"]["mb_per_day"]


async def test_alike_devices_are_told_once_and_one_can_be_asked_for(shell: Shell) -> None:
    name = write(shell.folder, *(press(f"press-{number}", host=f"192.0.2.{number}") for number in range(1, 6)))
    done = await shell("plan", "-c", name)
    assert "press-1 and 4 alike: modbus-tcp 192.0.2.1:502, unit 1, 5 tags" in done.out.splitlines()
    one = await shell("plan", "-c", name, "press-3")
    assert "press-3: modbus-tcp 192.0.2.3:502, unit 1, 5 tags" in one.out.splitlines()
    assert one.err.startswith("Bus time is an estimate")


async def test_a_config_of_many_machines_is_planned_in_seconds(shell: Shell) -> None:
    tags = [{"name": f"t{at}", "address": f"holding:{3 * at}", "type": "uint16"} for at in range(2000)]
    name = write(shell.folder, *(press(f"press-{number}", tags=tags) for number in range(5)))
    done = await shell("plan", "-c", name)
    assert done.code == 0
    assert "press-0 and 4 alike" in done.out


Polls = tuple[tuple[tuple[int, ...], float], ...]


@pytest.mark.parametrize(
    ("intervals", "polls"),
    [
        ((), ()),
        ((1.0, 1.0), (((0, 1), 1.0),)),
        ((1.0, 10.0), (((0,), 0.9), ((0, 1), 0.1))),
        ((2.0, 3.0), (((0,), 1 / 3), ((0, 1), 1 / 6), ((1,), 1 / 6))),
    ],
)
def test_tags_that_are_due_together(
    intervals: tuple[float, ...], polls: tuple[tuple[tuple[int, ...], float], ...]
) -> None:
    found = dict(due_together(intervals))
    assert found == {columns: pytest.approx(rate, rel=0.06) for columns, rate in polls}


async def test_wrong_use_and_a_wrong_config_are_exit_2(shell: Shell) -> None:
    name = write(shell.folder, press())
    done = await shell("plan", "-c", name, "press-9")
    assert (done.code, done.err) == (
        2,
        "edge-gateway plan: the config has no device press-9. See edge-gateway plan --help.\n",
    )
    done = await shell("plan", "-c", write(shell.folder, press(max_gap="x")))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("gateway.yaml:")
    assert "Example: edge-gateway plan -c" in (await shell("plan", "--help")).out
