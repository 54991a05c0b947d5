"""CSV files as vendors and spreadsheets write them: any usual encoding and separator, the headings somewhere on top."""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.errors import GatewayError

_SEPARATORS: Final = ",;\t|"
_TOP: Final = 30
"""Rows among which the headings are looked for."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line: its number in the file, from 1, and its cells by heading, which is lower case and bare."""

    number: int
    cells: dict[str, str]

    def get(self, heading: str) -> str:
        """Give a cell, or nothing where there is none."""
        return self.cells.get(heading, "")


@dataclass(frozen=True, slots=True)
class Sheet:
    """The headings, bare and in their order, and the rows below them that hold anything."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    decimal_comma: bool


def read_sheet(content: bytes, is_heading: Callable[[Sequence[str]], bool]) -> Sheet:
    """Find the headings, and what is below them. Raises GatewayError if no row `is_heading`."""
    text = decode(content)
    separator = _separator(text)
    lines = list(_numbered(text, separator))
    for position, (_, cells) in enumerate(lines[:_TOP]):
        headings = tuple(bare(cell) for cell in cells)
        if is_heading(headings):
            rows = (Row(number, _by_heading(headings, below)) for number, below in lines[position + 1 :])
            found = tuple(row for row in rows if any(row.cells.values()))
            return Sheet(headings, found, decimal_comma=separator in ";\t")
    raise GatewayError(
        "no row of it has headings that are known", do="It needs at least a column Address (or Register, Adresse, …)."
    )


def decode(content: bytes) -> str:
    """Read text in the encoding that its first bytes tell, else UTF-8, else Windows-1252."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def bare(heading: str) -> str:
    """Give a heading without case, units in brackets, and signs: `Register-Adresse (dez.)` is `register adresse`."""
    without = re.sub(r"[(\[].*?[)\]]", " ", heading.casefold())
    return " ".join(re.sub(r"[^\w/%]+|_", " ", without).split())


def _separator(text: str) -> str:
    """Take the sign that most of the first lines have equally often, quotes apart."""
    lines = [re.sub(r'"[^"]*"', "", line) for line in text.splitlines()[:_TOP] if line.strip()]
    return max(_SEPARATORS, key=lambda sign: sum(line.count(sign) > 0 for line in lines) * 1000 + text.count(sign))


def _numbered(text: str, separator: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(text.splitlines(keepends=True), delimiter=separator)
    found: list[tuple[int, list[str]]] = []
    before = 0
    try:
        for cells in reader:
            found.append((before + 1, [cell.strip() for cell in cells]))
            before = reader.line_num
    except csv.Error as error:
        raise GatewayError(f"line {before + 1} is no CSV: {error}") from error
    return found


def _by_heading(headings: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    """Give a row's cells by heading; where two columns have the same one, the first counts."""
    found: dict[str, str] = {}
    for heading, cell in zip(headings, cells, strict=False):
        if heading:
            found.setdefault(heading, cell)
    return found
