"""A CSV file as rows whose cells know where they are written, and stand for what the same text would in YAML."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from gateway.config.nodes import Complaint, Entry, Node, Place, read
from gateway.config.scalars import resolve

MOST_ROWS: Final = 100_000
MOST_COLUMNS: Final = 200
_FLOW: Final = ("[", "{")
_AS_EXCEL_WRITES_IT: Final = {"TRUE": "true", "FALSE": "false"}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_LINE: Final = re.compile(r"\r\n?|\n")


@dataclass(frozen=True, slots=True)
class Table:
    """The names of the columns, and of each row the cells that are not empty, by their column's number from 0."""

    columns: tuple[Node, ...]
    rows: tuple["Row", ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where it begins, and its cells as text."""

    place: Place
    cells: dict[int, str]

    def cell_place(self, column: int) -> Place:
        """Give the place of a cell."""
        return self.place._replace(column=column + 1)


class _Lines:
    """Hands lines to the CSV parser; between two rows it leaves out blank lines and those that begin with #."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self.number = 0
        self.first = 0  # line of the row that is being read
        self.delimiter = ","

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        for line in self._lines:
            self.number += 1
            if self.first:
                return line
            if line.strip() and not line.startswith("#"):
                self.first = self.number
                return line
        raise StopIteration


def read_table(file: str, text: str) -> tuple[Table | None, list[Complaint]]:
    """Read a CSV file's text. Gives its table, None if there is none, and all that is wrong with it."""
    complaints: list[Complaint] = []
    control = _CONTROL.search(text)
    if control is not None:
        line = len(_LINE.findall(text, 0, control.start())) + 1
        return None, [Complaint(Place(file, line, 1), "", "holds a control character; a table is plain UTF-8 text")]
    rows = _rows(file, text, complaints)
    header = next(rows, None)
    if header is None or not header.cells:
        if not complaints:
            place = Place(file, 1, 1) if header is None else header.place
            complaints.append(Complaint(place, "", "is empty; its first row names the columns"))
        return None, complaints
    columns = _columns(header, complaints)
    body: list[Row] = []
    for row in rows:
        if len(body) == MOST_ROWS:
            complaints.append(Complaint(row.place, "", f"more than {MOST_ROWS} rows; split the file"))
            break
        if row.cells and max(row.cells) >= len(columns):
            text = f"has more cells than the {len(columns)} columns; put cells that hold the separator in quotes"
            complaints.append(Complaint(row.place, "", text))
        elif row.cells:
            body.append(row)
    return Table(columns, tuple(body)), complaints


def _rows(file: str, text: str, complaints: list[Complaint]) -> Iterator[Row]:
    lines = _Lines(text)
    reader = csv.reader(lines, delimiter=_delimiter(text), strict=True)
    while True:
        lines.first = 0
        try:
            cells = next(reader, None)
        except csv.Error as error:
            complaints.append(Complaint(Place(file, lines.first or 1, 1), "", _sentence(error)))
            return
        if cells is None:
            return
        stripped = {column: cell.strip() for column, cell in enumerate(cells)}
        yield Row(Place(file, lines.first, 1), {column: cell for column, cell in stripped.items() if cell})


def _delimiter(text: str) -> str:
    """Tell from the header whether a comma or, as Excel writes it in many countries, a semicolon parts the cells."""
    header = next(_Lines(text), "")
    return ";" if header.count(";") > header.count(",") else ","


def _sentence(error: csv.Error) -> str:
    told = str(error)
    if "end of data" in told:
        return "a quote is opened and never closed"
    if "field larger" in told:
        return "has a cell with more than 100,000 characters; is a quote never closed?"
    if "expected after" in told:
        return 'a quote (") stands inside a quoted cell; write it twice'
    return "is not CSV; look at the quotes"


def _columns(header: Row, complaints: list[Complaint]) -> tuple[Node, ...]:
    count = max(header.cells) + 1
    if count > MOST_COLUMNS:
        complaints.append(Complaint(header.place, "", f"has more than {MOST_COLUMNS} columns"))
    names: dict[str, int] = {}
    columns: list[Node] = []
    for column in range(min(count, MOST_COLUMNS)):
        name, place = header.cells.get(column, ""), header.cell_place(column)
        if name in names and name:
            complaints.append(Complaint(place, name, f"is written twice; the first is column {names[name] + 1}"))
        elif not name:
            complaints.append(Complaint(place, "", "this column has no name; write one, or remove the column"))
        names.setdefault(name, column)
        columns.append(Node(name, place, raw=name))
    return tuple(columns)


def cell_node(text: str, place: Place, column: str, as_text: bool, complaints: list[Complaint]) -> Node:
    """Give what a cell stands for: what the same text would without quotes in YAML, lists and mappings in brackets too.

    `as_text`: the cell's key holds text, so that 007 and true are text too.
    """
    if as_text:
        return Node(text, place, raw=text, origin=column)
    if text.startswith(_FLOW):
        root, found = read(place.file, text)
        complaints += [Complaint(place, column, complaint.text) for complaint in found]
        return _placed(root, place, column)
    try:
        return Node(resolve(_AS_EXCEL_WRITES_IT.get(text, text)), place, raw=text, origin=column)
    except ValueError as error:
        complaints.append(Complaint(place, column, str(error)))
        return Node(None, place, raw=text, origin=column)


def _placed(root: Node | None, place: Place, column: str) -> Node:
    """Give a tree that was read from a cell with all of it standing in that cell."""
    if root is None:
        return Node(None, place, origin=column)

    def moved(node: Node) -> Node:
        if isinstance(node.value, dict):
            entries = {key: Entry(place, moved(entry.node)) for key, entry in node.value.items()}
            return replace(node, value=entries, place=place)
        if isinstance(node.value, list):
            return replace(node, value=[moved(element) for element in node.value], place=place)
        return replace(node, place=place)

    return replace(moved(root), origin=column)
