"""The meta message: what consumers learn of a device's tags, and the hash that ties its data to it."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from gateway import config as configuration
from gateway.config.schema import Config
from gateway.meta import meta_of
from gateway.model import Meta

CONFIG: dict[str, Any] = {
    "gateway": {"id": "hall-3", "labels": {"site": "oslo", "area": "pressing"}},
    "mqtt": {
        "host": "broker.example.com",
        "topic": "factory/{gateway}/{labels.area}/{device}",
        "include_labels": ["site", "line"],
        "tls": {"insecure_plaintext": True},
    },
    "devices": [
        {
            "name": "press-1",
            "protocol": "modbus-tcp",
            "host": "192.0.2.10",
            "interval": "2s",
            "heartbeat": "10m",
            "labels": {"line": "2", "area": "east"},
            "tags": [
                {
                    "name": "temperature",
                    "address": "holding:2",
                    "type": "float32",
                    "unit": "Cel",
                    "description": "oil",
                    "scale": 0.1,
                    "offset": -40,
                    "deadband": "2.5%",
                    "range": [0, 120.5],
                    "interval": "500ms",
                    "heartbeat": "1m",
                },
                {"name": "running", "address": "coil:3", "type": "bool"},
            ],
        },
        {
            "name": "robot-2",
            "protocol": "opcua",
            "endpoint": "opc.tcp://192.0.2.20:4840",
            "tags": [{"name": "speed", "node": "ns=2;i=1042", "deadband": 0.5}],
        },
    ],
}


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    """Give the config with one thing changed."""
    config: dict[str, Any] = copy.deepcopy(CONFIG)
    section: Any = config
    for step in path[:-1]:
        section = section[step]
    section[path[-1]] = to
    return config


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load_(config: dict[str, Any]) -> Config:
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        return configuration.load(path)

    return load_


@pytest.fixture
def meta(load: Any) -> Any:
    def meta_(config: dict[str, Any] = CONFIG, device: int = 0) -> Meta:
        loaded = load(config)
        return meta_of(loaded, loaded.devices[device])

    return meta_


def test_the_document_says_all_that_a_consumer_needs_to_read_the_data(meta: Any) -> None:
    found = meta()
    assert orjson.loads(found.document) == {
        "v": 1,
        "meta": found.id,
        "gateway": "hall-3",
        "device": "press-1",
        "protocol": "modbus-tcp",
        "labels": {"site": "oslo", "area": "east", "line": "2"},
        "tags": {
            "temperature": {
                "type": "float32",
                "unit": "Cel",
                "description": "oil",
                "source": "holding:2",
                "interval_s": 0.5,
                "scale": 0.1,
                "offset": -40.0,
                "deadband": "2.5%",
                "heartbeat_s": 60.0,
                "range": [0.0, 120.5],
            },
            "running": {
                "type": "bool",
                "unit": None,
                "description": None,
                "source": "coil:3",
                "interval_s": 2.0,
                "scale": None,
                "offset": None,
                "deadband": None,
                "heartbeat_s": 600.0,
                "range": None,
            },
        },
    }


def test_a_type_that_only_the_plc_knows_is_null(meta: Any) -> None:
    tags = orjson.loads(meta(device=1).document)["tags"]
    assert tags["speed"] | {"heartbeat_s": 900.0} == {
        "type": None, "unit": None, "description": None, "source": "ns=2;i=1042", "interval_s": 1.0, "scale": None,
        "offset": None, "deadband": 0.5, "heartbeat_s": 900.0, "range": None,
    }  # fmt: skip


def test_limits_names_and_the_length_of_an_array_are_told_where_there_are_some(meta: Any) -> None:
    tags = [
        {
            "name": "level",
            "address": "holding:0",
            "type": "int16",
            "scale_register": "holding:9",
            "min": -0.5,
            "max": 9,
        },
        {"name": "state", "address": "holding:1", "type": "uint16", "map": {0: "stopped", 1: "running"}},
        {"name": "curve", "address": "holding:2", "type": "uint16", "count": 4},
    ]
    found = orjson.loads(meta(changed("devices", 0, "tags", to=tags)).document)["tags"]
    usual = set(orjson.loads(meta().document)["tags"]["running"])
    assert {name: {key: tag[key] for key in tag.keys() - usual} for name, tag in found.items()} == {
        "level": {"min": -0.5, "max": 9.0, "scale_register": "holding:9"},
        "state": {"map": {"0": "stopped", "1": "running"}},
        "curve": {"count": 4},
    }
    assert meta(changed("devices", 0, "tags", to=tags)).codes == ("d", "j", "j")


def test_the_columns_stand_in_the_order_of_the_tags(meta: Any) -> None:
    assert meta().names == ("temperature", "running")
    assert meta().codes == ("d", "?")
    assert meta(device=1).codes == ("*",)


def test_the_topic_and_the_labels_that_every_message_carries_are_resolved(meta: Any) -> None:
    assert meta().topic == "factory/hall-3/east/press-1"
    assert meta().labels == {"site": "oslo", "line": "2"}
    assert meta(device=1).labels == {"site": "oslo"}


TAG = ("devices", 0, "tags", 0)


@pytest.mark.parametrize(
    "change",
    [
        (*TAG, "name", "oil"),
        (*TAG, "address", "holding:4"),
        (*TAG, "type", "float64"),
        (*TAG, "unit", "K"),
        (*TAG, "unit", None),
        (*TAG, "description", "water"),
        (*TAG, "scale", 0.01),
        (*TAG, "scale", None),
        (*TAG, "offset", 0),
        (*TAG, "deadband", "2.6%"),
        (*TAG, "deadband", 2.5),
        (*TAG, "deadband", None),
        (*TAG, "range", [0, 121]),
        (*TAG, "min", -10),
        (*TAG, "max", 130),
        (*TAG, "interval", "1s"),
        (*TAG, "heartbeat", "2m"),
        ("devices", 0, "interval", "1s"),
        ("devices", 0, "heartbeat", "11m"),
        ("devices", 0, "labels", {"line": "3", "area": "east"}),
        ("devices", 0, "name", "press-2"),
        ("devices", 0, "tags", [CONFIG["devices"][0]["tags"][0]]),
        ("devices", 0, "tags", CONFIG["devices"][0]["tags"][::-1]),
        ("gateway", "labels", {"site": "bergen", "area": "pressing"}),
        ("gateway", "id", "hall-4"),
    ],
    ids=lambda change: "-".join(map(str, change[-2:]))[:40],
)
def test_p5_whatever_changes_the_meaning_of_a_value_changes_the_hash(meta: Any, change: tuple[Any, ...]) -> None:
    *path, value = change
    other = changed(*path, to=value)
    if value is None:
        section: Any = other
        for step in path[:-1]:
            section = section[step]
        del section[path[-1]]
    assert meta(other).id != meta().id


@pytest.mark.parametrize(
    "change",
    [
        ("devices", 0, "host", "192.0.2.99"),
        ("devices", 0, "timeout", "3s"),
        ("devices", 1, "tags", 0, "unit", "m/s"),
        ("mqtt", "host", "other.example.com"),
    ],
    ids=lambda change: str(change[-2]),
)
def test_what_does_not_touch_the_values_leaves_the_hash(meta: Any, change: tuple[Any, ...]) -> None:
    *path, value = change
    assert meta(changed(*path, to=value)).id == meta().id


def test_the_order_in_which_labels_and_keys_are_written_does_not_matter(meta: Any) -> None:
    tag = CONFIG["devices"][0]["tags"][0]
    other = changed(*TAG, to=dict(reversed(tag.items())))
    other["gateway"]["labels"] = dict(reversed(CONFIG["gateway"]["labels"].items()))
    assert meta(other).id == meta().id


def test_the_hash_is_the_same_in_every_run(load: Any, tmp_path: Path) -> None:
    config = load(CONFIG)
    program = (
        "import sys; from pathlib import Path; from gateway import config; from gateway.meta import meta_of;"
        "loaded = config.load(Path(sys.argv[1])); print(*(meta_of(loaded, each).id for each in loaded.devices))"
    )
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "gateway.yaml")],
            env={"PYTHONHASHSEED": seed}, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip
        assert run.stdout.split() == [meta_of(config, section).id for section in config.devices]
