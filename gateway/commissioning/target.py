"""A Modbus device as one word: `modbus-tcp://192.0.2.10:502/1`, `modbus-rtu:///dev/ttyUSB0?baudrate=9600/7`."""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from pydantic import TypeAdapter, ValidationError

from gateway.commissioning.refusal import refusal
from gateway.drivers import Device
from gateway.drivers.modbus.section import ModbusDevice

SCHEMES: Final = ("modbus-tcp", "modbus-udp", "modbus-tls", "modbus-rtu-over-tcp", "modbus-rtu")
EXAMPLES: Final = "modbus-tcp://192.0.2.10:502/1 or modbus-rtu:///dev/ttyUSB0?baudrate=9600&parity=N/7"
_SERIAL: Final = ("baudrate", "parity", "stopbits", "rs485")
_TLS: Final = ("cert_file", "key_file", "ca_file", "server_name")
_COMMON: Final = ("timeout", "request_delay", "connect_delay", "max_registers", "max_bits", "max_gap")
_TAG_TYPE: Final = re.compile(r"([a-z0-9]+?)(?::([0-9]{1,4}))?", re.IGNORECASE)
_DEVICE: Final[TypeAdapter[Any]] = TypeAdapter(Device)


class WrongTarget(Exception):  # noqa: N818 -- it is what was written, not what failed
    """A word names no device. Says how to write it."""


def is_target(text: str) -> bool:
    """Whether a word is meant as a target rather than as a device's name."""
    return "://" in text


def parse_target(text: str, tags: Sequence[dict[str, Any]] = ()) -> tuple[ModbusDevice, int | None]:
    """Give the section of a device, and the unit that the text names, if any. Raises WrongTarget."""
    scheme, colon, rest = text.partition("://")
    if scheme not in SCHEMES or not colon:
        raise WrongTarget(f"{text!r} is no target; write {EXAMPLES}")
    place, unit, query = _unit_of(scheme, rest)
    keys = dict(parse_qsl(query, keep_blank_values=True))
    found: dict[str, Any] = {"name": "target", "protocol": scheme, "tags": list(tags)}
    if unit is not None:
        found["unit_id"] = unit
    if scheme == "modbus-rtu":
        found["serial"] = {"port": unquote(place)} | _take(keys, _SERIAL)
    else:
        netloc, _, path = place.partition("/")
        found |= _endpoint(netloc, text)
        if path:
            raise WrongTarget(f"{path!r} is no unit id; write {EXAMPLES}")
    if scheme == "modbus-tls":
        found["tls"] = _take(keys, _TLS)
    found |= _take(keys, _COMMON)
    if keys:
        known = {"modbus-rtu": _SERIAL, "modbus-tls": _TLS}.get(scheme, ()) + _COMMON
        raise WrongTarget(f"there is no {next(iter(keys))!r} in a {scheme} target; it may have {', '.join(known)}")
    return build(found), unit


def build(found: dict[str, Any]) -> ModbusDevice:
    """Make a device's section. Raises WrongTarget with the first thing that is wrong with it."""
    try:
        section = _DEVICE.validate_python(found)
    except ValidationError as error:
        raise WrongTarget(refusal(error)) from error
    if not isinstance(section, ModbusDevice):
        raise WrongTarget("it is no Modbus device")
    return section


def parse_tags(words: Sequence[str], byte_order: str | None) -> list[dict[str, Any]]:
    """Read pairs of address and type as tags: `holding:0 float32`, `holding:10 string:16`, `input:4 uint16:8`.

    Behind a type stand the bytes of a string, or how many values an array has. Raises WrongTarget.
    """
    if not words or len(words) % 2:
        raise WrongTarget("what is to be read are pairs of address and type, such as holding:0 float32")
    return [_tag(address, kind, byte_order) for address, kind in zip(words[::2], words[1::2], strict=True)]


def _tag(address: str, written: str, byte_order: str | None) -> dict[str, Any]:
    match = _TAG_TYPE.fullmatch(written)
    kind, number = (match[1].lower(), match[2]) if match else (written, None)
    found: dict[str, Any] = {"name": f"{address} {written}", "address": address, "type": kind}
    if number is not None:
        found["length" if kind == "string" else "count"] = int(number)
    if byte_order is not None and kind != "bool":
        found["byte_order"] = byte_order
    return found


def _unit_of(scheme: str, rest: str) -> tuple[str, int | None, str]:
    """Take a target apart: where it is, the unit, which stands behind that or behind all, and the settings."""
    place, _, query = rest.partition("?")
    if match := re.fullmatch(r"(.*)/([0-9]{1,3})", place):
        return match[1], int(match[2]), query
    if scheme == "modbus-rtu" and (match := re.fullmatch(r"(.*)/([0-9]{1,3})", query)):
        return place, int(match[2]), match[1]
    return place, None, query


def _endpoint(netloc: str, text: str) -> dict[str, Any]:
    head, colon, port = netloc.rpartition(":")
    if not colon or netloc.endswith("]"):
        return {"host": netloc} if netloc else _no_host(text)
    if not port.isdecimal():
        raise WrongTarget(f"{port!r} is no port; write {EXAMPLES}")
    return {"host": head, "port": int(port)}


def _no_host(text: str) -> dict[str, Any]:
    raise WrongTarget(f"{text!r} names no host; write {EXAMPLES}")


def _take(keys: dict[str, str], wanted: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {key: keys.pop(key) for key in wanted if key in keys}
    for key, value in found.items():
        if value.isdecimal():
            found[key] = int(value)
        elif value in {"true", "false"}:
            found[key] = value == "true"
    return found
