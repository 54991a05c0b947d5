"""`edge-gateway scan`: which units answer on a Modbus line, what they are, and which registers they have."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.status import Status

from gateway.cli.findings import as_document, as_lines
from gateway.cli.read import device_named
from gateway.commissioning.scanning import Manner, Scanner, UnitFound, one_device
from gateway.commissioning.search import DEFAULT_LAST
from gateway.commissioning.target import WrongTarget, is_target, parse_target
from gateway.commissioning.way import Way, way_to
from gateway.config import Config, load
from gateway.config.local import ControlSection
from gateway.drivers.modbus.address import TABLES, Table
from gateway.drivers.modbus.section import ModbusDevice
from gateway.errors import DeviceError, told
from gateway.health.reasons import spell_duration
from gateway.logs import printable

_RTU: Final = frozenset({"modbus-rtu", "modbus-rtu-over-tcp"})
_TIMEOUT_S: Final = 0.5
_ALL_UNITS: Final = range(1, 248)
"""Modbus over Serial Line V1.02, section 2.2."""
_NETWORK_UNITS: Final = (1, 255, 0)
"""What a device that is reached by its IP address calls itself: 255 or 0 by Modbus Messaging on TCP/IP V1.0b, section
4.4.2, and most often 1."""


@dataclass(frozen=True, slots=True)
class _Errand:
    """What is to be scanned, and how."""

    section: ModbusDevice
    units: Sequence[int]
    socket: Path | None
    manner: Manner
    only_units: bool
    every_unit: bool


@click.command(epilog="Example: edge-gateway scan modbus-tcp://192.0.2.10:502 --units 1-32")
@click.argument("what", metavar="TARGET|DEVICE")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The config that DEVICE is in.")
@click.option("--units", help="Unit ids, such as 1-32 or 1,7,9. Default: 1-247 on serial lines, else 1, 255 and 0.")
@click.option("--registers", default=f"0-{DEFAULT_LAST}", show_default=True, help="From which to which register.")
@click.option("--tables", default="holding,input,coil,discrete", show_default=True, help="The tables to look into.")
@click.option("--only-units", is_flag=True, help="Find units and ask them what they are; leave their registers.")
@click.option("--rate", type=click.FloatRange(0.1, 1000), default=5.0, show_default=True, help="Requests a second.")
@click.option("--budget", type=click.IntRange(1, 1_000_000), default=600, show_default=True, help="Requests a unit.")
@click.option(
    "--timeout", type=click.FloatRange(0.01, 60), help="Seconds for an answer. Default: 0.5, or the config's."
)
@click.option("--direct", is_flag=True, help="Connect to the device, past a running gateway.")
@click.option("--yes", is_flag=True, help="Begin without asking.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def scan(what: str, path: Path | None, yes: bool, as_json: bool, **options: Any) -> None:
    """Find unit ids and registers, gently: it only reads, a few times a second.

    TARGET is such as modbus-tcp://192.0.2.10:502 or modbus-rtu:///dev/ttyUSB0?baudrate=9600; with a unit behind it
    (…/7) only that one is scanned. With a config, DEVICE is one of its devices.

    q or Ctrl-C ends it with what was found so far. Exits with 1 if no unit answered.
    """
    errand = _errand(what, path, options)
    found, notes = asyncio.run(_run(errand, ask=not yes))
    if as_json:
        click.echo(json.dumps({"target": what, "notes": notes, "units": [as_document(unit) for unit in found]}))
    else:
        for line in as_lines(found):
            click.echo(line)
    for note in notes:
        click.echo(printable(note), err=True)
    sys.exit(0 if found else 1)


def _errand(what: str, path: Path | None, options: dict[str, Any]) -> _Errand:
    config = None if path is None else load(path, elsewhere=True)
    section, unit = _section(what, config)
    is_told = config is not None or "timeout" in section.model_fields_set
    timeout = options["timeout"] or (section.timeout if is_told else _TIMEOUT_S)
    socket = (ControlSection() if config is None else config.control).socket
    first, last = _range(options["registers"])
    manner = Manner(
        rate=options["rate"], timeout=timeout, delay=section.request_delay,
        budget=options["budget"], tables=_tables(options["tables"]), first=first, last=last,
    )  # fmt: skip
    units = _units(options["units"], section, unit)
    every = options["units"] is not None
    return _Errand(section, units, None if options["direct"] else socket, manner, options["only_units"], every)


def _section(what: str, config: Config | None) -> tuple[ModbusDevice, int | None]:
    """Give the device that is meant, and its unit where one is named. Raises UsageError."""
    if is_target(what):
        try:
            return parse_target(what)
        except WrongTarget as wrong:
            raise click.UsageError(printable(str(wrong))) from wrong
    if config is None:
        raise click.UsageError(f"{printable(what)} is the name of a device: give the config that it is in (-c).")
    device = device_named(config.devices, what)
    if not isinstance(device, ModbusDevice):
        raise click.UsageError(f"{device.name} is no Modbus device; only those can be scanned.")
    return device, device.unit_id


def _range(text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not (first.isdecimal() and (last if dash else first).isdecimal()):
        raise click.BadParameter("write a range such as 0-9999.", param_hint="--registers")
    found = int(first), int(last if dash else first)
    if not 0 <= found[0] <= found[1] <= 65535:
        raise click.BadParameter("registers go from 0 to 65535, the lower one first.", param_hint="--registers")
    return found


def _tables(text: str) -> tuple[Table, ...]:
    names = [name.strip() for name in text.split(",")]
    unknown = next((name for name in names if name not in TABLES), None)
    if unknown is not None:
        raise click.BadParameter(
            f"there is no table {printable(unknown)!r}; write {','.join(TABLES)}.", param_hint="--tables"
        )
    return tuple(table for name in names for table in TABLES if table == name)


def _units(text: str | None, section: ModbusDevice, unit: int | None) -> Sequence[int]:
    if text is None and unit is not None:
        return (unit,)
    if text is None:
        return _ALL_UNITS if getattr(section, "protocol", "") in _RTU else _NETWORK_UNITS
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last if dash else first).isdecimal()) or int(last or first) > 255:
            raise click.BadParameter("write unit ids from 0 to 255, such as 1-32 or 1,7,9.", param_hint="--units")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise click.BadParameter("name at least one unit id, the lower end of a range first.", param_hint="--units")
    return tuple(dict.fromkeys(found))


async def _run(errand: _Errand, *, ask: bool) -> tuple[list[UnitFound], list[str]]:
    async with way_to(errand.section, errand.socket) as way:
        await way.line.connect(errand.manner.timeout if errand.manner.timeout > 1 else 1.0)
        for line in _intention(errand, way):
            click.echo(line, err=True)
        if ask:
            _confirm()
        notes: list[str] = []
        with _progress() as tell:
            scanner = Scanner(way.line, errand.manner, tell)
            try:
                async with asyncio.timeout(None) as running:
                    with _stop_key(running):
                        await _scan(errand, scanner, notes)
            except TimeoutError:
                notes.append("stopped: this is what was found so far")
            except DeviceError as error:
                notes.append(f"{told(str(error), error.do)} This is what was found so far.")
        return scanner.found, notes


async def _scan(errand: _Errand, scanner: Scanner, notes: list[str]) -> None:
    await scanner.find_units(errand.units)
    if not scanner.found:
        notes.append("no unit answered: check the wiring, the line's settings and the unit ids (--units)")
    if not errand.every_unit and one_device(scanner.found):
        ignored = ", ".join(str(unit.unit) for unit in scanner.found[1:])
        notes.append(f"units {ignored} answer as unit {scanner.found[0].unit} does: the device ignores the unit id")
        del scanner.found[1:]
    for unit in scanner.found:
        if unit.first is not None:
            await scanner.identify(unit)
    for unit in () if errand.only_units else scanner.found:
        if unit.first is not None:
            await scanner.survey(unit)


def _intention(errand: _Errand, way: Way) -> Iterator[str]:
    """Say what will be done, and how long it takes."""
    manner = errand.manner
    seconds = len(errand.units) * max(manner.timeout, 1 / manner.rate)
    named = _spell(errand.units)
    yield f"Scans {errand.section.address} {way}."
    yield f"Asks for unit {named}: at most {spell_duration(seconds)}. Only reads: function codes 1 to 4, and 43/14."
    if not errand.only_units:
        tables, most = ", ".join(manner.tables), manner.budget / manner.rate
        yield (
            f"Then {tables} {manner.first} to {manner.last} of each unit found: at most {manner.budget} requests, "
            f"{manner.rate:g} a second: {spell_duration(most)} or less each."
        )


def _spell(units: Sequence[int]) -> str:
    if len(units) > 4 and list(units) == list(range(units[0], units[-1] + 1)):
        return f"{units[0]} to {units[-1]}"
    return ", ".join(map(str, units[:20])) + (f" and {len(units) - 20} more" if len(units) > 20 else "")


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("it asks before it begins, and nobody can answer here: give --yes.")
    click.confirm("Begin? (q or Ctrl-C ends it)", abort=True, err=True)


@contextlib.contextmanager
def _stop_key(running: asyncio.Timeout) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and q end the scan at once, not the command."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        running.reschedule(loop.time())

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if not sys.stdin.isatty():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)
    loop.add_reader(keyboard, lambda: stop() if os.read(keyboard, 1) in {b"q", b"Q", b""} else None)
    try:
        yield
    finally:
        loop.remove_reader(keyboard)
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Show what is asked now, where there is a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Status("", console=console) as status:
        yield lambda text: status.update(f"{text}  (q ends)")
