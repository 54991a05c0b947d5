"""Targets: a Modbus device as one word."""

from typing import Any

import pytest

from gateway.commissioning.target import WrongTarget, parse_tags, parse_target


@pytest.mark.parametrize(
    ("text", "unit", "wanted"),
    [
        ("modbus-tcp://192.0.2.10:1502/7", 7, {"host": "192.0.2.10", "port": 1502, "unit_id": 7}),
        ("modbus-tcp://plc-1.example.com", None, {"host": "plc-1.example.com", "port": 502, "unit_id": 1}),
        ("modbus-tcp://[2001:db8::1]:502/1", 1, {"host": "2001:db8::1", "port": 502}),
        ("modbus-tcp://192.0.2.10/1?timeout=2s&request_delay=20ms", 1, {"timeout": 2.0, "request_delay": 0.02}),
        ("modbus-udp://192.0.2.10/0", 0, {"protocol": "modbus-udp", "unit_id": 0}),
        ("modbus-rtu-over-tcp://192.0.2.10:4001/3", 3, {"protocol": "modbus-rtu-over-tcp", "port": 4001}),
        ("modbus-rtu:///dev/ttyUSB0?baudrate=9600&parity=N/7", 7, {"protocol": "modbus-rtu", "unit_id": 7}),
        ("modbus-rtu:///dev/ttyUSB0/7?baudrate=9600&parity=N", 7, {"protocol": "modbus-rtu", "unit_id": 7}),
        ("modbus-rtu:///dev/ttyUSB0/7", 7, {"protocol": "modbus-rtu", "unit_id": 7}),
    ],
)  # fmt: skip
def test_a_target_is_a_device(text: str, unit: int | None, wanted: dict[str, Any]) -> None:
    section, found = parse_target(text)
    assert found == unit
    assert {key: getattr(section, key) for key in wanted} == wanted


def test_a_serial_target_has_a_port_and_its_settings() -> None:
    section, _ = parse_target(
        "modbus-rtu:///dev/serial/by-id/usb-FTDI_X-if00-port0?baudrate=9600&parity=N&stopbits=2/7"
    )
    serial = section.serial  # type: ignore[attr-defined]
    assert serial.port == "/dev/serial/by-id/usb-FTDI_X-if00-port0"
    assert (serial.baudrate, serial.parity, serial.stopbits) == (9600, "N", 2)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("opc.tcp://192.0.2.20:4840", "'opc.tcp://192.0.2.20:4840' is no target; write modbus-tcp://"),
        ("modbus-tcp:///1", "'modbus-tcp:///1' names no host; write modbus-tcp://"),
        ("modbus-tcp://192.0.2.10:x/1", "'x' is no port; write modbus-tcp://"),
        ("modbus-tcp://192.0.2.10/one", "'one' is no unit id; write modbus-tcp://"),
        ("modbus-tcp://192.0.2.10/999", "unit_id: must be at most 255"),
        ("modbus-tcp://192.0.2.10:99999/1", "port: must be at most 65535"),
        ("modbus-tcp://192.0.2.10/1?baudrate=9600", "there is no 'baudrate' in a modbus-tcp target; it may have"),
        ("modbus-tcp://192.0.2.10/1?timeout=2", "timeout: 2 has no unit; write a duration such as"),
        ("modbus-rtu://ttyUSB0/7", "serial.port: must begin with /"),
        ("modbus-rtu:///dev/ttyUSB0?parity=X/7", "serial.parity: must be E, O or N"),
        ("modbus-rtu:///dev/ttyUSB0/0", "unit_id: must be at least 1"),
        ("modbus-tls://192.0.2.10/1", "tls.cert_file: is missing"),
    ],
)  # fmt: skip
def test_what_is_no_target_is_told(text: str, why: str) -> None:
    with pytest.raises(WrongTarget) as told:
        parse_target(text)
    assert str(told.value).startswith(why)


def test_pairs_of_address_and_type_are_tags() -> None:
    assert parse_tags(
        ["holding:0", "float32", "input:10", "string:16", "40021", "uint16:4", "coil:3", "bool"], "CDAB"
    ) == [
        {"name": "holding:0 float32", "address": "holding:0", "type": "float32", "byte_order": "CDAB"},
        {"name": "input:10 string:16", "address": "input:10", "type": "string", "length": 16, "byte_order": "CDAB"},
        {"name": "40021 uint16:4", "address": "40021", "type": "uint16", "count": 4, "byte_order": "CDAB"},
        {"name": "coil:3 bool", "address": "coil:3", "type": "bool"},
    ]
    with pytest.raises(WrongTarget):
        parse_tags(["holding:0"], None)
