"""`edge-gateway check` and `edge-gateway schema`, the shipped config, and the shipped schema."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from gateway.cli.check import check
from gateway.cli.schema import schema
from gateway.config import load
from gateway.config.document import json_schema
from gateway.config.nodes import read

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = CONFIG / "gateway.yaml"
BROKEN = Path(__file__).parent / "broken"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(check, arguments)


def plain(path: Path) -> Any:
    root, problems = read(str(path), path.read_text(encoding="utf-8"))
    assert root is not None
    assert not problems
    return root.plain()


def errors(document: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(json_schema()).iter_errors(document)]


def test_a_good_config_is_one_line_and_exit_0() -> None:
    outcome = run("-c", str(SHIPPED))
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert outcome.stdout == f"{SHIPPED}: ok, 4 devices, 74 tags, hash {load(SHIPPED).hash}\n"


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ([], "1 device, tags that browse finds at connect (robot-1), hash"),
        ([{"name": "a", "node": "i=1"}], "1 device, 1 tag and tags that browse finds at connect (robot-1), hash"),
    ],
)
def test_tags_that_are_found_at_connect_are_not_counted_as_none(tmp_path: Path, tags: list[Any], told: str) -> None:
    robot = {"name": "robot-1", "protocol": "opcua", "endpoint": "opc.tcp://192.0.2.20", "browse": {}, "tags": tags}
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({"gateway": {"id": "a"}, "mqtt": {"host": "b.example.com"}, "devices": [robot]}))
    assert told in run("-c", str(path)).stdout
    summary = json.loads(run("-c", str(path), "--json").stdout)
    assert (summary["tags"], summary["found_at_connect"]) == (len(tags), ["robot-1"])


def test_a_broken_config_is_exit_2_and_every_problem_on_stderr() -> None:
    path = BROKEN / "everything-at-once.yaml"
    outcome = run("-c", str(path))
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    expected = path.with_suffix(".expected").read_text(encoding="utf-8")
    assert outcome.stderr.replace(f"{BROKEN}/", "") == expected


def test_problems_can_be_had_as_json() -> None:
    outcome = run("-c", str(BROKEN / "duplicate-key.yaml"), "--json")
    assert outcome.exit_code == 2
    told = json.loads(outcome.stdout)
    assert not told["ok"]
    [problem] = told["problems"]
    assert (problem["line"], problem["column"], problem["path"]) == (6, 3, "mqtt.port")
    assert json.loads(run("-c", str(SHIPPED), "--json").stdout)["ok"]


@pytest.mark.parametrize(
    ("name", "text"), [("no-such.yaml", "there is no such file"), (".", "it is a folder")], ids=["missing", "folder"]
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    outcome = run("-c", str(tmp_path / name))
    assert (outcome.exit_code, outcome.stderr) == (2, f"{tmp_path / name}: cannot be read: {text}\n")


def test_a_file_larger_than_any_config_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(b"#" * (9 << 20))
    assert run("-c", str(path)).stderr == f"{path}: is larger than 8 MiB\n"


def test_a_secret_that_others_can_read_is_a_warning_and_exit_0(tmp_path: Path, good: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o644)
    path = tmp_path / "gateway.yaml"
    path.write_text(good + "http: {token: {file: secret}}\n")
    outcome = run("-c", str(path))
    assert outcome.exit_code == 0
    assert outcome.stderr == (
        f"warning: {tmp_path}/secret can be read by other users (mode 644); chmod 600 {tmp_path}/secret\n"
    )


def test_what_goes_in_clear_is_a_warning(tmp_path: Path, good: str) -> None:
    text = good.replace("  host: broker", "  tls: {insecure_plaintext: true}\n  host: broker")
    path = tmp_path / "gateway.yaml"
    path.write_text(text.replace("    endpoint:", "    security: {policy: None, insecure: true}\n    endpoint:"))
    outcome = run("-c", str(path))
    assert outcome.exit_code == 0
    assert outcome.stderr.splitlines() == [
        "warning: broker.example.com:8883: messages are sent in clear",
        "warning: robot-2: 192.0.2.20:4840 is read in clear",
    ]


def test_what_expand_prints_loads_to_the_same_config(tmp_path: Path) -> None:
    outcome = run("-c", str(SHIPPED), "--expand")
    assert outcome.exit_code == 0
    path = tmp_path / "expanded.yaml"
    path.write_text(outcome.stdout, encoding="utf-8")
    assert load(path) == load(SHIPPED)
    assert errors(plain(path)) == []


def test_help_has_an_example() -> None:
    for command in (check, schema):
        assert "Example: edge-gateway" in CliRunner().invoke(command, ["--help"]).output


def test_the_shipped_schema_is_the_one_that_the_program_prints() -> None:
    """If this fails: `make schema`."""
    outcome = CliRunner().invoke(schema, [])
    assert outcome.exit_code == 0
    assert (CONFIG / "gateway.schema.json").read_text(encoding="utf-8") == outcome.output


def test_the_schema_is_a_schema_and_takes_the_shipped_config() -> None:
    Draft202012Validator.check_schema(json_schema())
    assert errors(plain(SHIPPED)) == []


@pytest.mark.parametrize(
    "name",
    ["unknown-keys", "missing-sections", "duration-without-unit", "size-with-wrong-unit", "wrong-choice", "bad-names",
     "secret-in-clear", "keys-of-later-versions", "names-that-nothing-has", "keys-of-a-tag", "byte-order", "links",
     "unknown-protocol", "text-for-number", "number-for-text", "max-registers", "no-devices", "range"],
)  # fmt: skip
def test_the_schema_shows_an_editor_what_the_loader_would_refuse(name: str) -> None:
    document = yaml.safe_load((BROKEN / f"{name}.yaml").read_text(encoding="utf-8"))
    assert errors(document)


MANY: dict[str, Any] = {
    "gateway": {"id": "hall-3"},
    "mqtt": {"host": "broker.example.com"},
    "include": ["conf.d/*.yaml"],
    "devices_file": "presses.csv",
    "defaults": {"template": "press", "interval": "1s"},
    "links": {"bus-a": {"protocol": "modbus-rtu", "serial": {"port": "/dev/ttyUSB0"}, "request_delay": "5ms"}},
    "devices": [
        {"name": "a", "link": "bus-a", "unit_id": 7, "template": "sdm630", "vars": {"base": 0, "order": "CDAB"}},
        {"name": "b", "link": "bus-a", "tags": [{"name": "x", "address": 40001, "type": "uint16", "map": {"0": "on"}}]},
        {"name": "c", "template": "press", "host": "192.0.2.1", "tags": [{"name": "x", "deadband": 1}]},
        {"name": "d", "protocol": "modbus-tcp", "host": "192.0.2.1", "tags_file": "press.csv"},
    ],
}


def test_the_schema_takes_links_templates_and_files() -> None:
    assert errors(MANY) == []
    assert errors({key: value for key, value in MANY.items() if key != "devices"}) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"links": {"bus-a": {"unit_id": 5}}}, {"links": {"bus-a": {"prot": "modbus-rtu"}}}, {"include": "a.yaml"},
        {"devices_file": 5}, {"devices": [{"template": "press"}]}, {"devices": [{"name": "a", "link": 5}]},
        {"devices": [{"name": "a", "template": "press", "vars": {"base": [1]}}]},
        {"devices": [{"name": "a", "template": "press", "tags": [{"deadband": 1}]}]},
        {"devices": [{"name": "a", "template": "press", "hots": "192.0.2.1"}]},
        {"devices": [{"name": "a", "protocol": "modbus-tcp", "host": "192.0.2.1", "tags": [{"name": "x"}]}]},
    ],
    ids=repr,
)  # fmt: skip
def test_the_schema_shows_what_is_wrong_with_links_templates_and_files(wrong: dict[str, Any]) -> None:
    assert errors(MANY | wrong)


def test_the_schema_describes_what_a_reader_cannot_guess() -> None:
    shape = json_schema()["$defs"]
    assert shape["ModbusTcpDevice"]["properties"]["interval"]["pattern"].endswith("(ms|s|m|h|d)$")
    assert shape["ModbusTcpDevice"]["properties"]["interval"]["default"] == "1s"
    assert set(shape["Secret"]["properties"]) == {"file", "env", "credential"}
    assert "zero-based" in shape["ModbusTag"]["properties"]["address"]["description"]


def test_the_shipped_config_names_every_key_that_this_version_takes() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    sections = {
        "gateway": "GatewaySection", "mqtt": "MqttSection", "tls": "MqttTls", "proxy": "MqttProxy",
        "buffer": "BufferSection", "http": "HttpSection", "device": "ModbusTcpDevice", "server": "OpcuaDevice",
        "security": "Security",
        "register": "ModbusTag", "node": "OpcuaTag", "line": "ModbusRtuDevice", "serial": "Serial",
        "secure device": "ModbusTlsDevice", "both sides": "ModbusTls", "guard": "Guard", "link": "Link",
    }  # fmt: skip
    shape = json_schema()["$defs"]
    said_in_words = {"insecure_plaintext", "insecure"}
    for section in sections.values():
        for key in set(shape[section]["properties"]) - said_in_words:
            assert f"{key}:" in text, f"{section}.{key}"
    for key in said_in_words:
        assert key in text
