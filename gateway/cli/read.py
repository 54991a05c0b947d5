"""`edge-gateway read`: one read of a device now, values beside raw registers."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.output import shown, words
from gateway.commissioning.spot_read import Look, look_at_modbus, look_with, looks
from gateway.commissioning.target import WrongTarget, is_target, parse_tags, parse_target
from gateway.commissioning.way import way_to
from gateway.config import load
from gateway.config.local import ControlSection
from gateway.control.client import reach
from gateway.drivers.base import DeviceSection, Shared
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.opcua.tag import OpcuaTag
from gateway.errors import DeviceError
from gateway.logs import printable
from gateway.model import Sample

_WIDTH_WITHOUT_TERMINAL: Final = 140
_MOST_RAW: Final = 8

Found = tuple[list[Look], str]
"""What was read, and over which way."""


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="DEVICE [TAG…] | TARGET ADDRESS TYPE…")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The config that DEVICE is in.")
@click.option(
    "--byte-order",
    type=click.Choice(["ABCD", "CDAB", "BADC", "DCBA"], case_sensitive=False),
    help="Of what is read of a TARGET. Default: ABCD.",
)
@click.option("--direct", is_flag=True, help="Connect to the device, past a running gateway.")
@click.option("--json", "as_json", is_flag=True, help="Print the readings as JSON.")
def read(what: tuple[str, ...], path: Path | None, byte_order: str | None, direct: bool, as_json: bool) -> None:
    """Read tags of a device once, now.

    With a config, DEVICE is one of its devices; without TAG all its tags are read. Without a config, TARGET names a
    device, and pairs of ADDRESS and TYPE what to read; types may have a length or count: string:16, uint16:8.

    Where a gateway runs and reads over the same line, it asks the device, since many PLCs take one client only.
    Exits with 1 if nothing good was read.

    \b
    Example:
      edge-gateway read -c gateway.yaml press-1 temperature
      edge-gateway read modbus-tcp://192.0.2.10:502/1 holding:0 float32
    """
    if is_target(what[0]):
        section, columns, socket = _one_off(what, path, byte_order)
        found, way = asyncio.run(_read_modbus(section, columns, None if direct else socket))
    else:
        found, way = _of_config(what, path, byte_order, direct)
    if as_json:
        click.echo(json.dumps({"device": what[0], "way": way, "readings": [_document(look) for look in found]}))
    else:
        _show(found)
        click.echo(f"read {way}", err=True)
    sys.exit(0 if any(look.is_good for look in found) else 1)


def _one_off(
    what: Sequence[str], path: Path | None, byte_order: str | None
) -> tuple[ModbusDevice, tuple[int, ...], Path]:
    try:
        section, _ = parse_target(what[0], parse_tags(what[1:], byte_order and byte_order.upper()))
    except WrongTarget as wrong:
        raise click.UsageError(printable(str(wrong))) from wrong
    socket = ControlSection().socket if path is None else load(path, elsewhere=True).control.socket
    return section, tuple(range(len(section.tags))), socket


def _of_config(what: Sequence[str], path: Path | None, byte_order: str | None, direct: bool) -> Found:
    if path is None:
        raise click.UsageError(f"{printable(what[0])} is the name of a device: give the config that it is in (-c).")
    if byte_order is not None:
        raise click.UsageError("--byte-order goes with a TARGET; a config's tags have their own.")
    config = load(path, elsewhere=True)
    section = device_named(config.devices, what[0])
    socket = None if direct else config.control.socket
    if isinstance(section, ModbusDevice):
        return asyncio.run(_read_modbus(section, _columns(section, what[1:]), socket))
    return asyncio.run(_read_opcua(path, section, what[1:], socket))


def device_named(devices: Sequence[DeviceSection], name: str) -> DeviceSection:
    """Find a device of a config. Raises UsageError."""
    section = next((device for device in devices if device.name == name), None)
    if section is None:
        known = ", ".join(device.name for device in devices[:10])
        raise click.UsageError(f"the config has no device {printable(name)}; it has {known}.")
    return section


def _columns(section: DeviceSection, names: Sequence[str]) -> tuple[int, ...]:
    positions = {tag.name: position for position, tag in enumerate(section.tags)}
    for name in names:
        if name not in positions:
            raise click.UsageError(f"{section.name} has no tag {printable(name)}.")
    return tuple(sorted({positions[name] for name in names})) if names else tuple(range(len(section.tags)))


async def _read_modbus(section: ModbusDevice, columns: tuple[int, ...], socket: Path | None) -> Found:
    async with way_to(section, socket) as way:
        return await look_at_modbus(section, way.line, columns), str(way)


async def _read_opcua(path: Path, section: DeviceSection, names: Sequence[str], socket: Path | None) -> Found:
    """Let the running gateway's open driver read; else connect, for which the config's files have to be readable.

    Which tags there are, the open driver knows: some may have been found by browsing.
    """
    if not getattr(section, "browse", ()):
        _columns(section, names)
    if socket is not None:
        async with reach(socket) as daemon:
            if daemon is not None and any(device["name"] == section.name for device in daemon.devices):
                answer = await daemon.ask({"do": "sample", "device": section.name, "tags": list(names)})
                if not answer["ok"]:
                    raise DeviceError(answer["text"], reason=answer["code"], do=answer["do"])
                tags = tuple(OpcuaTag.model_validate(tag) for tag in answer["tags"])
                section = section.model_copy(update={"tags": tags})
                samples = [_sample(section, each) for each in answer["samples"]]
                return looks(section, samples, range(len(tags))), f"through the running gateway {daemon.gateway}"
    section = device_named(load(path).devices, section.name)
    async with section.open(Shared("command")) as driver:
        section = driver.section or section
        return await look_with(section, driver, _columns(section, names)), "over a connection of its own"


def _sample(section: DeviceSection, found: dict[str, Any]) -> Sample:
    column_of = {tag.name: column for column, tag in enumerate(section.tags)}
    columns = tuple(column_of[name] for name in found["tags"])
    return Sample(found["ts"], columns, tuple(found["values"]), found["readings"], found["quality"], found["rx"])


def _document(look: Look) -> dict[str, Any]:
    raw = look.raw if look.raw is None or look.is_bits else [f"0x{register:04x}" for register in look.raw]
    value = float(shown(look.value, look.kind)) if look.kind and isinstance(look.value, float) else look.value
    return {
        "tag": look.name, "value": value, "unit": look.unit, "quality": look.quality, "ts": look.ts, "raw": raw
    }  # fmt: skip


def _show(found: Sequence[Look]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("tag", "value", "unit", "quality", "time (UTC)", "raw"):
        table.add_column(heading, overflow="fold")
    for look in found:
        table.add_row(
            Text(printable(look.name)),
            Text("–" if look.value is None else shown(look.value, look.kind)),
            Text(printable(look.unit or "")),
            Text(printable(look.quality), "green" if look.is_good else "bold red"),
            Text("" if look.ts is None else _instant(look.ts)),
            Text(_raw(look), "dim"),
        )
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL).print(table)


def _raw(look: Look) -> str:
    if look.raw is None:
        return ""
    more = "" if len(look.raw) <= _MOST_RAW else f" … {len(look.raw)} in all"
    first = look.raw[:_MOST_RAW]
    return (" ".join(map(str, first)) if look.is_bits else words(first)) + more


def _instant(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.") + f"{ms % 1000:03d}"
