"""`edge-gateway import`: a tag list of another system as tags of this gateway."""

import csv
import io
import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import click

from gateway.commissioning.kepserver import import_kepserver, is_kepserver
from gateway.commissioning.register_list import import_register_list, is_register_list
from gateway.commissioning.spreadsheet import read_sheet
from gateway.commissioning.tag_list import Keys, TagList
from gateway.drivers.modbus.address import TABLES, Table
from gateway.errors import GatewayError
from gateway.files import reason
from gateway.logs import printable

_LARGEST: Final = 32 << 20
_BARE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ ./%:-]?[A-Za-z0-9_]+)*")
_RESERVED: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@click.command("import", epilog="Example: edge-gateway import press-1.csv > tags.yaml")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Print a tags_file instead of YAML.")
@click.option("--json", "as_json", is_flag=True, help="Print tags, rows left out and notes as JSON.")
@click.option(
    "--byte-order",
    type=click.Choice(["ABCD", "CDAB", "BADC", "DCBA"], case_sensitive=False),
    help="Of 32- and 64-bit values, where the list does not say. Default: CDAB for KEPServerEX, else ABCD.",
)
@click.option(
    "--first",
    type=click.Choice(["0", "1"]),
    help="The number that the list gives to the first register. Default: 1 for KEPServerEX, 0 for plain numbers.",
)
@click.option(
    "--table", type=click.Choice(TABLES), default="holding", help="Of plain numbers, where no column says it."
)
@click.option("--intervals", is_flag=True, help="Take KEPServerEX's scan rates over as intervals.")
def import_(
    file: Path, as_csv: bool, as_json: bool, byte_order: str | None, first: str | None, table: Table, intervals: bool
) -> None:
    """Turn a tag list into tags of a device's config.

    FILE is KEPServerEX's tag CSV, or a register list with headings that are known: name, address (or register), type,
    unit, scale (or factor), description and others, in some languages.

    What could not be placed is told on stderr with its row and the reason. Exits with 0 if every row was placed; with
    1 if some were not: the others are printed all the same.
    """
    content = _read(file)
    try:
        sheet = read_sheet(content, lambda headings: is_kepserver(tuple(headings)) or is_register_list(headings))
    except GatewayError as error:
        raise GatewayError(f"{file}: {error}", do=error.do) from error
    if is_kepserver(sheet.headings):
        found = import_kepserver(sheet, byte_order, int(first or 1), intervals)
    else:
        found = import_register_list(sheet, byte_order, int(first or 0), table)
    click.echo(_json(found) if as_json else to_csv(found.tags) if as_csv else to_yaml(found.tags), nl=as_json)
    _report(found)
    sys.exit(1 if found.left else 0)


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _LARGEST:
            raise click.UsageError(f"{file} is larger than 32 MiB; split it.")
        return file.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {reason(error)}") from error


def _report(found: TagList) -> None:
    for left in found.left:
        named = f"{printable(left.name)}: " if left.name else ""
        click.echo(f"row {left.row}: {named}{printable(left.reason)}", err=True)
    for note, count in found.notes.items():
        click.echo(f"note: {printable(note)}" + (f" ({count} rows)" if count > 1 else ""), err=True)
    click.echo(f"{len(found.tags)} placed, {len(found.left)} not; read as {printable(found.origin)}", err=True)


def _json(found: TagList) -> str:
    left = [{"row": one.row, "name": one.name, "reason": one.reason} for one in found.left]
    return json.dumps({"tags": found.tags, "left": left, "notes": list(found.notes)}, default=_plain)


def _plain(value: Decimal) -> int | float | str:
    text = f"{value:f}"
    return int(text) if "." not in text else float(text) if Decimal(repr(float(value))) == value else text


def to_yaml(tags: list[Keys]) -> str:
    """Write tags as the config has them, one a line."""
    lines = ["  - {" + ", ".join(f"{key}: {yaml_scalar(value)}" for key, value in tag.items()) + "}" for tag in tags]
    return "\n".join(["tags:" if lines else "tags: []", *lines]) + "\n"


def yaml_scalar(value: Any) -> str:
    """Write a value so that YAML reads it as what it is, whatever its characters."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, list):
        return "[" + ", ".join(map(yaml_scalar, value)) + "]"
    if not isinstance(value, str):
        return str(value)
    if _BARE.fullmatch(value) and value.lower() not in _RESERVED and ": " not in value:
        return value
    return json.dumps(value, ensure_ascii=False)


def to_csv(tags: list[Keys]) -> str:
    """Write tags as a tags_file: a column for each key that any of them has."""
    columns = list(dict.fromkeys(key for tag in tags for key in tag))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for tag in tags:
        writer.writerow([_cell(tag.get(key, "")) for key in columns])
    return out.getvalue()


def _cell(value: Any) -> str:
    return yaml_scalar(value) if isinstance(value, Decimal | list) else str(value)
