"""A devices_file: a row for each device, whose columns are keys of the device and variables of its template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.config.keys import DEVICE_KEYS, TEMPLATE, TEXT_KEYS, VARS
from gateway.config.nodes import Complaint, Entry, Node
from gateway.config.sentences import did_you_mean, unknown_key
from gateway.config.sources import text_named_at
from gateway.config.table import Row, Table, cell_node, read_table
from gateway.config.templates import Template, Templates

_LABEL: Final = "labels."


def devices(node: Node, path: Path, templates: Templates, standard: Entry | None) -> tuple[list[Node], list[Complaint]]:
    """Give the devices of the file that is named at `node`, and what is wrong with the file.

    `standard` is the template of the rows that name none.
    """
    text, complaints = text_named_at(node, path, "devices_file")
    if text is None:
        return [], complaints
    table, complaints = read_table(str(path), text)
    if table is None:
        return [], complaints
    return _Reading(table, templates, standard, complaints).devices(), complaints


class _Reading:
    """One file, column by column: a column that no row's template knows is told once, in the header."""

    def __init__(self, table: Table, templates: Templates, standard: Entry | None, complaints: list[Complaint]) -> None:
        self._table = table
        self._complaints = complaints
        self._keys = [column.raw for column in table.columns]
        self._templates = [self._template(row, templates, standard) for row in table.rows]

    def devices(self) -> list[Node]:
        if "name" not in self._keys:
            place = self._table.columns[0].place
            self._complaints.append(Complaint(place, "name", "is missing; one column must be called name"))
            return []
        known = frozenset[str]().union(*(template.vars for template, _ in self._templates if template is not None))
        unknown = {key for key in self._keys if key and not _is_key(key) and key not in known}
        for column in self._table.columns:
            certain = all(found for _, found in self._templates) or did_you_mean(column.raw, DEVICE_KEYS)
            if column.raw in unknown and certain:
                text = unknown_key(column.raw, DEVICE_KEYS | known | {"labels.NAME"})
                self._complaints.append(Complaint(column.place, column.raw, text))
        rows = zip(self._table.rows, self._templates, strict=True)
        return [self._device(row, template, unknown, found) for row, (template, found) in rows]

    def _template(self, row: Row, templates: Templates, standard: Entry | None) -> tuple[Template | None, bool]:
        """Give a row's template, and whether that is certain: not if the row names one that cannot be used."""
        column = self._keys.index(TEMPLATE) if TEMPLATE in self._keys else -1
        if column in row.cells:
            node: Node | None = Node(row.cells[column], row.cell_place(column), raw=row.cells[column])
        else:
            node = standard.node if standard is not None else None
        if node is None:
            return None, True
        template, _ = templates.get(node, TEMPLATE)
        return template, template is not None

    def _device(self, row: Row, template: Template | None, unknown: set[str], certain: bool) -> Node:
        entries: dict[str, Entry] = {}
        labels: dict[str, Entry] = {}
        values: dict[str, Entry] = {}
        for column, text in row.cells.items():
            key, place = self._keys[column], row.cell_place(column)
            if not key or key in unknown or key in entries:
                continue
            if key.startswith(_LABEL):
                labels[key.removeprefix(_LABEL)] = Entry(place, self._cell(text, row, column, as_text=True))
            elif key in DEVICE_KEYS:
                entries[key] = Entry(place, self._cell(text, row, column, as_text=key in TEXT_KEYS))
            elif template is not None and key in template.vars:
                values[key] = Entry(place, self._cell(text, row, column, as_text=False))
            elif certain:
                known = DEVICE_KEYS | (template.vars if template is not None else frozenset())
                told = unknown_key(key, known) if template is None else f"template {template.name} has no var {key}"
                self._complaints.append(Complaint(place, key, told))
        return _row_node(row, entries | _mapping("labels", labels, row) | _mapping(VARS, values, row))

    def _cell(self, text: str, row: Row, column: int, *, as_text: bool) -> Node:
        return cell_node(text, row.cell_place(column), self._keys[column], as_text, self._complaints)


def _is_key(key: str) -> bool:
    return key in DEVICE_KEYS or key.startswith(_LABEL)


def _mapping(key: str, entries: Mapping[str, Entry], row: Row) -> dict[str, Entry]:
    return {key: Entry(row.place, Node(dict(entries), row.place, height=1))} if entries else {}


def _row_node(row: Row, entries: dict[str, Entry]) -> Node:
    return Node(entries, row.place, weight=1 + len(entries), height=2, origin="")
