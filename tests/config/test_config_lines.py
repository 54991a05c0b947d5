"""Devices on one serial line, or behind one address: what they must agree on, and what each may have for itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

Complaints = Callable[[str], list[str]]
HEAD = "gateway: {id: hall-3}\nmqtt: {host: broker.example.com}\ndevices:\n"
TAGS = "tags: [{name: level, address: 40001, type: uint16}]"


def devices(*written: str) -> str:
    lines = (f"  - {{name: d{number}, {text}, {TAGS}}}\n" for number, text in enumerate(written))
    return HEAD + "".join(lines)


@pytest.mark.parametrize(
    "written",
    [
        ("protocol: modbus-tcp, host: a, unit_id: 1", "protocol: modbus-tcp, host: a, unit_id: 2"),
        ("protocol: modbus-tcp, host: a, interval: 1s", "protocol: modbus-tcp, host: a, interval: 1m, timeout: 3s"),
        ("protocol: modbus-tcp, host: a", "protocol: modbus-udp, host: a"),
        ("protocol: modbus-tcp, host: a, connect_delay: 1s", "protocol: modbus-tcp, host: a, port: 503"),
        ("protocol: modbus-rtu, serial: {port: /x}", "protocol: modbus-rtu, serial: {port: /x, baudrate: 19200}"),
        ("protocol: modbus-rtu, serial: {port: /x}", "protocol: modbus-rtu, serial: {port: /y, baudrate: 9600}"),
    ],
    ids=["units", "intervals", "datagrams", "ports", "a default that is written", "two lines"],
)  # fmt: skip
def test_devices_that_get_on_with_each_other(complaints: Complaints, written: tuple[str, ...]) -> None:
    assert complaints(devices(*written)) == []


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (
            "protocol: modbus-rtu, serial: {port: /dev/x}",
            "protocol: modbus-rtu, serial: {port: /dev/x, parity: N, stopbits: 2}",
            [
                "devices[1].serial.parity: is N here and E in d0, on the same line (/dev/x)",
                "devices[1].serial.stopbits: is 2 here and 1 in d0, on the same line (/dev/x)",
            ],
        ),
        (
            "protocol: modbus-tcp, host: a, close_after_cycle: true",
            "protocol: modbus-tcp, host: a, connect_delay: 250ms",
            [
                "devices[1].close_after_cycle: is false here and true in d0, on the same line (a:502)",
                "devices[1].connect_delay: is 250ms here and 0s in d0, on the same line (a:502)",
            ],
        ),
    ],
    ids=["serial", "tcp"],
)
def test_devices_that_would_open_their_line_differently(
    complaints: Complaints, first: str, second: str, told: list[str]
) -> None:
    assert complaints(devices(first, second)) == [
        f"{line}; write the same in both, or a link for both" for line in told
    ]


def test_a_port_speaks_one_protocol(complaints: Complaints) -> None:
    text = devices("protocol: modbus-tcp, host: PLC", "protocol: modbus-rtu-over-tcp, hosts: [b, 'plc:502']")
    opcua = "  - {name: x, protocol: opcua, endpoint: 'opc.tcp://plc:502', tags: [{name: y, node: i=1}]}\n"
    assert complaints(text + opcua) == [
        "devices[1].hosts: plc:502 is modbus-tcp in d0 and modbus-rtu-over-tcp here; a port speaks one protocol",
        "devices[2].endpoint: plc:502 is modbus-tcp in d0 and opcua here; a port speaks one protocol",
    ]


def test_two_names_of_one_serial_port_are_one_line(complaints: Complaints, tmp_path: Path) -> None:
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "by-id").symlink_to(tmp_path / "ttyUSB0")
    first, second = (f"protocol: modbus-rtu, serial: {{port: {tmp_path}/{name}}}" for name in ("ttyUSB0", "by-id"))
    assert complaints(devices(first, second)) == [
        f"devices[1].serial.port: is the port that d0 calls {tmp_path}/ttyUSB0; write the same name"
    ]
