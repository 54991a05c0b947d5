"""`edge-gateway decode`: what raw registers may mean, the plausible readings first."""

import json
import re
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.output import keys_line, shown
from gateway.commissioning.expected import rank_by
from gateway.commissioning.interpretations import MOST, Interpretation, interpret, interpret_windows
from gateway.logs import printable

_SHOWN: Final = 8
_WIDTH_WITHOUT_TERMINAL: Final = 120
_HEX: Final = re.compile(r"0[xX]([0-9A-Fa-f]{1,4}|([0-9A-Fa-f]{4})+)")
_BARE_HEX: Final = re.compile(r"([0-9A-Fa-f]{4})+")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,5}")


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Example: edge-gateway decode 0x0000 0x41ac --expect 21.5",
)
@click.argument("registers", nargs=-1, required=True)
@click.option("--expect", metavar="VALUE", help="What the device's own display shows: what agrees comes first.")
@click.option("--all", "everything", is_flag=True, help="Print every reading, not only the best.")
@click.option("--json", "as_json", is_flag=True, help="Print the readings as JSON.")
def decode(registers: tuple[str, ...], expect: str | None, everything: bool, as_json: bool) -> None:
    """Rank the types and byte orders in which raw registers make sense.

    REGISTERS are hexadecimal (0x41c8, or 41C8) or decimal (16840), in the order of their addresses. Words of four
    characters are all hexadecimal if one of them holds a letter.

    The plausibility is an estimate: registers that hold what people and plants choose (few digits, usual sizes,
    words) beat chance, and usual types and byte orders beat rare ones. Compare with the device's display (--expect).
    """
    found = parse_registers(registers)
    ranked = interpret(found) if expect is None else rank_by(_expected(expect), interpret_windows(found))
    if as_json:
        click.echo(json.dumps(_document(found, ranked)))
    elif not ranked:
        click.echo("No reading gives it, in whatever type, byte order or scale. Was it read at the same time?")
    else:
        _show(found, ranked if everything else ranked[:_SHOWN], len(ranked), by_share=expect is None)
    sys.exit(0 if ranked else 1)


def parse_registers(words: Sequence[str]) -> list[int]:
    """Read registers as people paste them: apart or with commas, with or without 0x. Raises UsageError."""
    bare = [word for word in re.split(r"[\s,;\[\]]+", " ".join(words)) if word]
    is_hex = any(re.search("[A-Fa-f]", word) for word in bare if _BARE_HEX.fullmatch(word))
    registers = [register for word in bare for register in _registers(word, is_hex)]
    if not 0 < len(registers) <= MOST:
        raise click.UsageError(f"{len(registers)} registers were given; give 1 to {MOST}, such as 0x0000 0x41ac.")
    return registers


def _registers(word: str, is_hex: bool) -> list[int]:
    if _HEX.fullmatch(word):
        digits = word[2:].rjust(4, "0")
        return [int(digits[at : at + 4], 16) for at in range(0, len(digits), 4)]
    if is_hex and _BARE_HEX.fullmatch(word):
        return [int(word[at : at + 4], 16) for at in range(0, len(word), 4)]
    if _DECIMAL.fullmatch(word) and -32768 <= int(word) <= 65535:
        return [int(word) & 0xFFFF]
    raise click.UsageError(f"{printable(word)} is no register; write hexadecimal such as 0x41c8, or 0 to 65535.")


def _expected(text: str) -> Decimal:
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or abs(value) > Decimal("1e30"):
        raise click.BadParameter("write the number on the display, such as 21.5.", param_hint="--expect")
    return value


def _document(registers: Sequence[int], ranked: Sequence[Interpretation]) -> dict[str, Any]:
    return {
        "registers": [f"0x{register:04x}" for register in registers],
        "readings": [
            {
                "tag": one.keys, "offset": one.offset, "value": one.values[0] if len(one.values) == 1 else one.values,
                "plausibility": round(one.share, 4) if not one.match else None, "match": one.match or None,
            }
            for one in ranked
        ],
    }  # fmt: skip


def _show(registers: Sequence[int], ranked: Sequence[Interpretation], of: int, *, by_share: bool) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("value", overflow="fold", max_width=44)
    table.add_column("plausible" if by_share else "agrees", justify="right")
    if not by_share and len(registers) > 1:
        table.add_column("at", justify="right")
    table.add_column("keys of the tag", overflow="fold")
    table.add_column("")
    for one in ranked:
        row: list[str | Text] = [Text(_value(one)), _percent(one.share) if by_share else one.match]
        if not by_share and len(registers) > 1:
            row.append(f"+{one.offset}")
        table.add_row(*row, Text(keys_line(one.keys)), Text(one.note, "dim"))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    console.print(table)
    if len(ranked) < of:
        console.print(Text(f"{of - len(ranked)} more with --all", "dim"))
    if not any(registers):
        console.print(Text("All are 0, which every type can be: read again when there is a value."))
    elif len(set(registers)) == 1 and registers[0] in {0xFFFF, 0x8000, 0x7FFF}:
        console.print(Text("Devices often say with these registers that there is no value (see `invalid`)."))


def _value(one: Interpretation) -> str:
    if one.type == "bool":
        found = ", ".join(str(bit) for bit, is_set in enumerate(one.values) if is_set)
        return f"bits set: {found or 'none'}"
    text = ", ".join(shown(value, one.type) for value in one.values)
    return text if one.scale is None else f"{text} * {one.scale}"


def _percent(share: float) -> str:
    return "<1 %" if share < 0.01 else f"{share * 100:.0f} %"
