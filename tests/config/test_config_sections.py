"""What a config says is what its sections hold."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from gateway.config import Config
from gateway.drivers import ModbusTcpDevice, OpcuaDevice
from gateway.drivers.base import Percent
from gateway.drivers.modbus.address import Address, parse_address
from gateway.drivers.modbus.section import ModbusTag
from gateway.drivers.opcua.section import parse_endpoint
from gateway.drivers.opcua.tag import OpcuaTag, parse_node
from gateway.hosts import is_loopback, join, parse_host

Load = Callable[[str], Config]


def modbus_tag(**keys: object) -> ModbusTag:
    return ModbusTag.model_validate({"name": "a", "address": "holding:0", "type": "uint16"} | keys)


@pytest.mark.parametrize(
    ("written", "table", "register", "bit"),
    [
        ("coil:3", "coil", 3, None),
        ("discrete:0", "discrete", 0, None),
        ("holding:2", "holding", 2, None),
        ("holding:65535", "holding", 65535, None),
        ("holding:10.5", "holding", 10, 5),
        ("input:0.15", "input", 0, 15),
        ("input:100", "input", 100, None),
        (40001, "holding", 0, None),
        (40021, "holding", 20, None),
        (49999, "holding", 9998, None),
        (400001, "holding", 0, None),
        (465536, "holding", 65535, None),
        (30001, "input", 0, None),
        (365536, "input", 65535, None),
        (10001, "discrete", 0, None),
        (100001, "discrete", 0, None),
        ("00001", "coil", 0, None),
        ("000001", "coil", 0, None),
        ("065536", "coil", 65535, None),
        ("40021", "holding", 20, None),
    ],
)
def test_an_address_names_a_table_and_a_zero_based_number(
    written: object, table: str, register: int, bit: int | None
) -> None:
    address = parse_address(written)
    assert (address.table, address.register, address.bit) == (table, register, bit)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "written",
    [0, 1, 9999, 1000000, 40000, 400000, 465537, 20001, 50001, 90001, -40001, True, 40021.0, None, "", "holding:",
     "holding:1.16", "holding:1.", "holding:01", "holding: 1", "holding:1 ", "HOLDING:1", "holding:65536", "coil:1.0",
     "00000", "200001", "holding:-1", "holding:1.5.2", "holding:0x10", "４0021"],
)  # fmt: skip
def test_what_is_no_address_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match=r"address|table|Modicon|exist|bit"):
        parse_address(written)


@pytest.mark.parametrize(
    ("keys", "registers", "code"),
    [
        ({"address": "coil:0", "type": "bool"}, 1, "?"),
        ({"address": "holding:0.3", "type": "bool"}, 1, "?"),
        ({"type": "int16"}, 1, "h"),
        ({"type": "uint16"}, 1, "H"),
        ({"type": "int32"}, 2, "i"),
        ({"type": "uint32"}, 2, "I"),
        ({"type": "int64"}, 4, "q"),
        ({"type": "uint64"}, 4, "Q"),
        ({"type": "float32"}, 2, "f"),
        ({"type": "float64"}, 4, "d"),
        ({"type": "string", "length": 1}, 1, "j"),
        ({"type": "string", "length": 16}, 8, "j"),
        ({"type": "string", "length": 17}, 9, "j"),
        ({"type": "uint16", "scale": 0.1}, 1, "d"),
        ({"type": "float32", "offset": 1}, 2, "d"),
    ],
)
def test_a_tag_knows_its_registers_and_how_its_value_is_packed(
    keys: dict[str, object], registers: int, code: str
) -> None:
    tag = modbus_tag(**keys)
    assert (tag.registers, tag.code, tag.value_type) == (registers, code, keys["type"])


def test_a_modicon_address_has_the_protocols_address_as_its_source() -> None:
    assert modbus_tag(address=40021).source == "holding:20"
    assert modbus_tag(address="holding:10.5", type="bool").source == "holding:10.5"


def test_decimals_keep_the_digits_that_were_written(load_text: Load, good: str) -> None:
    text = good.replace("scale: 0.1, deadband: 0.2", "scale: 0.1, offset: 1e-7, deadband: '2.5%', range: [-0.10, 1e3]")
    tag = load_text(text).devices[0].tags[0]
    assert (tag.scale, tag.offset) == (Decimal("0.1"), Decimal("1e-7"))
    assert tag.deadband == Percent(share=Decimal("0.025"))
    assert tag.range == (Decimal("-0.1"), Decimal(1000))


def test_a_decimal_longer_than_a_float_keeps_every_digit(load_text: Load, good: str) -> None:
    tag = load_text(good.replace("scale: 0.1", "scale: 0.12345678901234567890123")).devices[0].tags[0]
    assert tag.scale == Decimal("0.12345678901234567890123")


@pytest.mark.parametrize(
    "node",
    ["i=2258", "i=0", "i=4294967295", "ns=0;i=85", "ns=65535;s=a", "ns=2;s=a;b=c", "nsu=urn:acme:robot;s=Axis1.Speed",
     "nsu=http://acme.example/a%3Bb;i=1", "ns=3;g=09087e75-8e5e-499b-954f-f2a9603db28a",
     "ns=1;b=M/RbKBsRVkePCePcx24oRA==", 's="DB_1"."Value"', "s= "],
)  # fmt: skip
def test_a_node_id_is_taken_as_it_is_written(node: str) -> None:
    tag = OpcuaTag.model_validate({"name": "a", "node": node})
    assert (tag.source, tag.value_type, tag.code) == (node, None, "*")


@pytest.mark.parametrize(
    "node", ["", "2258", "i=", "i=-1", "i=01", "ns=2", "ns=2;", "ns=-1;i=1", "ns=65536;i=1", "nsu=;i=1", "s=", "g=1",
             "b=", "svr=1;i=1", "ns=2;x=1", "I=1", "i=1 ", "i=99999999999"],
)  # fmt: skip
def test_what_is_no_node_id_is_refused(node: str) -> None:
    with pytest.raises(ValueError, match="is not a node id"):
        parse_node(node)


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("opc.tcp://192.0.2.20:4840", "192.0.2.20:4840"),
        ("opc.tcp://plc-1", "plc-1:4840"),
        ("opc.tcp://plc-1:48010/UA/Server?x", "plc-1:48010"),
        ("opc.tcp://[2001:db8::1]:4841/", "[2001:db8::1]:4841"),
    ],
)
def test_an_endpoint_has_an_address(endpoint: str, address: str) -> None:
    device = OpcuaDevice.model_validate({"name": "a", "protocol": "opcua", "endpoint": endpoint})
    assert device.address == address


@pytest.mark.parametrize("endpoint", ["", "plc-1", "http://plc-1", "opc.tcp://", "opc.tcp://a:0", "opc.tcp://a b:1"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        parse_endpoint(endpoint)


@pytest.mark.parametrize(
    ("host", "parsed"),
    [("plc-1", "plc-1"), ("a.b.example.", "a.b.example."), ("192.0.2.1", "192.0.2.1"), ("::1", "::1"),
     ("[2001:db8::1]", "2001:db8::1"), ("_mqtt.local", "_mqtt.local")],
)  # fmt: skip
def test_a_host_is_a_name_or_an_address(host: str, parsed: str) -> None:
    assert parse_host(host) == parsed


@pytest.mark.parametrize(
    "host", ["", " ", "a b", "a..b", "-a", "a/b", "mqtts://a", "a:502", "1.2.3", "1.2.3.400", "a@b", "x" * 64, "ä"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match=r"host|port"):
        parse_host(host)


def test_an_ipv6_address_gets_brackets_before_a_port() -> None:
    assert join("2001:db8::1", 502) == "[2001:db8::1]:502"
    assert join("plc-1", 502) == "plc-1:502"


@pytest.mark.parametrize(
    ("host", "is_so"),
    [("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("0.0.0.0", False), ("::", False),
     ("192.0.2.1", False), ("localhost.example.com", False)],
)  # fmt: skip
def test_loopback_is_what_only_this_machine_reaches(host: str, is_so: bool) -> None:
    assert is_loopback(host) is is_so


def test_topics_and_labels_are_resolved(load_text: Load, good: str) -> None:
    config = load_text(
        good.replace("  host: broker", '  topic: "{labels.site}/{gateway}/{labels.site}-x/{device}"\n  host: broker')
    )
    press, robot = config.devices
    assert config.labels_of(press) == {"site": "oslo", "line": "2"}
    assert config.topic_of(press) == "oslo/hall-3/oslo-x/press-1"
    assert config.topic_of(robot) == "oslo/hall-3/oslo-x/robot-2"
    assert config.status_topic == "oslo/hall-3/oslo-x/status"
    assert config.health_topic == "oslo/hall-3/oslo-x/health"


def test_a_devices_own_label_comes_before_the_gateways(load_text: Load, good: str) -> None:
    text = good.replace('line: "2"', "site: bergen").replace(
        "    host: 192", '    topic: "{labels.site}/{gateway}"\n    host: 192'
    )
    config = load_text(text)
    assert config.topic_of(config.devices[0]) == "bergen/hall-3"


@pytest.mark.parametrize(
    ("topic", "status", "resolved", "health"),
    [
        ("factory/{gateway}/{device}", None, "factory/hall-3/status", "factory/hall-3/health"),
        ("{gateway}/a/x-{device}/{device}", None, "hall-3/a/status", "hall-3/a/health"),
        ("{device}", "s/{gateway}/{labels.site}", "s/hall-3/oslo", "s/hall-3/health"),
        ("/{gateway}/{device}", None, "/hall-3/status", "/hall-3/health"),
    ],
)
def test_the_status_topic_stands_before_the_devices(
    load_text: Load, good: str, topic: str, status: str | None, resolved: str, health: str
) -> None:
    lines = f'  topic: "{topic}"\n' + (f'  status_topic: "{status}"\n' if status else "")
    config = load_text(good.replace("  host: broker", lines + "  host: broker"))
    assert (config.status_topic, config.health_topic) == (resolved, health)


def test_devices_may_all_have_topics_of_their_own(load_text: Load, good: str) -> None:
    text = good.replace("  host: broker", '  topic: "x"\n  status_topic: "{gateway}/status"\n  host: broker')
    text = text.replace("    protocol: modbus", '    topic: "a"\n    protocol: modbus')
    text = text.replace("    protocol: opcua", '    topic: "b/{device}"\n    protocol: opcua')
    config = load_text(text)
    assert [config.topic_of(device) for device in config.devices] == ["a", "b/robot-2"]


def test_the_hash_changes_with_any_setting_and_with_nothing_else(load_text: Load, good: str) -> None:
    first = load_text(good)
    assert len(first.hash) == 8
    assert load_text("# a remark\n" + good + "buffer: {max_bytes: 1024MiB}\n").hash == first.hash
    assert load_text(good.replace("192.0.2.10", "192.0.2.11")).hash != first.hash


def test_two_units_behind_one_address_are_two_devices(load_text: Load, good: str) -> None:
    text = good.replace("  - name: robot-2", "  - {name: press-2, protocol: modbus-tcp, host: 192.0.2.10, unit_id: 2,\n"
                        '     tags: [{name: a, address: "coil:0", type: bool}]}\n  - name: robot-2')  # fmt: skip
    press, other, _ = load_text(text).devices
    assert isinstance(press, ModbusTcpDevice)
    assert press.address == other.address == "192.0.2.10:502"


def test_defaults_are_for_the_devices_that_write_nothing_else(load_text: Load, good: str) -> None:
    text = good + 'defaults: {interval: 5s, max_gap: 4, mode: poll, labels: {line: "9"}}\n'
    press, robot = load_text(text).devices
    assert isinstance(press, ModbusTcpDevice)
    assert isinstance(robot, OpcuaDevice)
    assert (press.interval, press.max_gap, press.labels) == (5.0, 4, {"line": "2"})
    assert (robot.interval, robot.mode, robot.labels) == (5.0, "poll", {"line": "9"})


def test_the_client_id_is_the_gateways_unless_it_is_written(load_text: Load, good: str) -> None:
    assert load_text(good).client_id == "hall-3"
    assert load_text(good.replace("  host: broker", "  client_id: other\n  host: broker")).client_id == "other"


def test_relative_names_start_at_the_configs_folder(load_text: Load, good: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    text = (
        good.replace("  host: broker", "  tls: {ca_file: ca.pem}\n  host: broker") + "buffer: {path: data/buffer.db}\n"
    )
    config = load_text(text)
    assert config.mqtt.tls.ca_file == tmp_path / "ca.pem"
    assert config.buffer.path == tmp_path / "data" / "buffer.db"


def test_a_config_cannot_be_changed_once_it_is_loaded(load_text: Load, good: str) -> None:
    config = load_text(good)
    for section, key in ((config, "mqtt"), (config.mqtt, "host"), (config.devices[0].tags[0], "name")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(section, key, None)


def test_an_http_endpoint_may_be_open_with_certificate_and_token(load_text: Load, good: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    (tmp_path / "x").chmod(0o600)
    config = load_text(good + 'http: {listen: "[::]:8443", tls: {cert_file: x, key_file: x}, token: {file: x}}\n')
    assert (config.http.host, config.http.port) == ("::", 8443)
    assert config.warnings == ()


def test_an_address_is_equal_to_itself_written_otherwise() -> None:
    assert parse_address(40003) == parse_address("holding:2") == Address("holding", 2)


def test_an_opcua_device_names_its_certificate_or_that_it_has_none(load_text: Load, good: str, tmp_path: Path) -> None:
    secure = load_text(good.replace("    endpoint:", "    security: {pki_dir: pki}\n    endpoint:")).devices[1]
    assert not secure.is_insecure
    pki = tmp_path / "pki"
    assert [file.path for file in secure.certificate_files.values()] == [pki / "own" / "cert.der", pki / "trusted"]
    text = good.replace("    endpoint:", "    security: {policy: None, insecure: true}\n    endpoint:")
    insecure = load_text(text).devices[1]
    assert insecure.is_insecure
    assert insecure.certificate_files == {}


@pytest.mark.parametrize("name", ["a b", "a/b", "", "ä", "a\n", "a" * 129])
def test_a_devices_name_can_be_a_level_of_a_topic(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        OpcuaDevice.model_validate({"name": name, "protocol": "opcua", "endpoint": "opc.tcp://plc-1"})
