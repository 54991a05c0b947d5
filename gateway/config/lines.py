"""What devices on one line must agree on: a serial port or an endpoint is opened once, with one set of settings."""

import os.path
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Final

from gateway.checked import Fault
from gateway.drivers.base import DeviceSection, Section
from gateway.drivers.modbus.section import ModbusDevice
from gateway.quantities import format_duration

At = tuple[str | int, ...]

_SETTINGS: Final = ("serial", "tls", "connect_delay", "close_after_cycle")
_DATAGRAMS: Final = frozenset({"modbus-udp"})


def faults(devices: Sequence[DeviceSection]) -> Iterator[Fault]:
    """Give the settings in which devices on one line differ, and the lines that are named or spoken to in two ways."""
    first: dict[Hashable, ModbusDevice] = {}
    for position, device in enumerate(devices):
        if not isinstance(device, ModbusDevice):
            continue
        other = first.setdefault(device.link_key, device)
        for key in _SETTINGS:
            ours, theirs = getattr(device, key, None), getattr(other, key, None)
            yield from _different(("devices", position, key), ours, theirs, other)
    yield from _two_protocols(devices)
    yield from _two_names(devices)


def _different(at: At, ours: Any, theirs: Any, other: ModbusDevice) -> Iterator[Fault]:
    if isinstance(ours, Section) and isinstance(theirs, Section):
        for key in type(ours).model_fields:
            yield from _different((*at, key), getattr(ours, key), getattr(theirs, key), other)
    elif ours != theirs:
        text = f"is {_shown(ours)} here and {_shown(theirs)} in {other.name}, on the same line ({other.address})"
        yield Fault(at, f"{text}; write the same in both, or a link for both")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return format_duration(value) if isinstance(value, float) else str(value)


def _two_protocols(devices: Sequence[DeviceSection]) -> Iterator[Fault]:
    """A port answers in one protocol; one of UDP and one of TCP may have the same number."""
    first: dict[tuple[bool, str], DeviceSection] = {}
    for position, device in enumerate(devices):
        protocol: str = getattr(device, "protocol", "")
        endpoints = getattr(device, "endpoints", None)
        at = "host" if getattr(device, "host", None) is not None else "hosts"
        if endpoints is None:
            endpoints, at = [device.address], "endpoint"
        for endpoint in endpoints:
            address = endpoint if isinstance(endpoint, str) else f"{endpoint[0]}:{endpoint[1]}"
            other = first.setdefault((protocol in _DATAGRAMS, address.lower()), device)
            theirs = getattr(other, "protocol", "")
            if theirs != protocol:
                text = f"{address} is {theirs} in {other.name} and {protocol} here; a port speaks one protocol"
                yield Fault(("devices", position, at), text)


def _two_names(devices: Sequence[DeviceSection]) -> Iterator[Fault]:
    """Two names of one serial port would be two lines that disturb each other."""
    first: dict[str, DeviceSection] = {}
    for position, device in enumerate(devices):
        if getattr(device, "serial", None) is None:
            continue
        other = first.setdefault(os.path.realpath(device.address), device)
        if other.address != device.address:
            text = f"is the port that {other.name} calls {other.address}; write the same name"
            yield Fault(("devices", position, "serial", "port"), text)
