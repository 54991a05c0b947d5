"""The tags of a device: those written in it, those of its tags_file, and those of its template."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from gateway.config.keys import TAG_KEYS, TAGS_FILE, TEXT_KEYS
from gateway.config.nodes import Complaint, Entry, Node, Place, join, moved
from gateway.config.sentences import unknown_key
from gateway.config.sources import file_named, text_named_at
from gateway.config.table import Row, Table, cell_node, read_table


class TagFiles:
    """Reads each tags_file once, however many devices name it."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[list[Node] | None, list[Complaint]]] = {}

    def layer(
        self, own: Entry | None, file: Entry | None, folder: Path, path: str = ""
    ) -> tuple[list[Node] | None, list[Complaint]]:
        """Give the tags of `tags` and `tags_file` of one device or template, and what is wrong with them.

        `folder` is where the tags_file's name starts, `path` that of the device. None: they cannot be read at all.
        """
        at = join(path, "tags")
        if own is not None and not isinstance(own.node.value, list):
            wrong = [] if own.node.value is None else [Complaint(own.node.place, at, "must be a list")]
            return None, wrong
        elements = own.node.elements if own is not None else []
        written = [moved(tag, join(at, number)) for number, tag in enumerate(elements)]
        if file is None:
            return written, list(same_names(written, at))
        rows, complaints = self._rows(file.node, folder, join(path, TAGS_FILE))
        together = [*written, *(rows or ())]
        return (None if rows is None else together), [*complaints, *same_names(together, at)]

    def _rows(self, node: Node, folder: Path, at: str) -> tuple[list[Node] | None, list[Complaint]]:
        path, complaints = file_named(node, folder, at if node.origin is None else node.origin)
        if path is None:
            return None, complaints
        if path not in self._known:
            text, complaints = text_named_at(node, path, at)
            if text is None:
                return None, complaints
            table, complaints = read_table(str(path), text)
            rows = [] if table is None else list(_tags(table, complaints))
            self._known[path] = (rows if rows or not complaints else None), complaints
        return self._known[path]


def _tags(table: Table, complaints: list[Complaint]) -> Iterator[Node]:
    keys = {number: column.raw for number, column in enumerate(table.columns)}
    complaints += [
        Complaint(column.place, column.raw, unknown_key(column.raw, TAG_KEYS))
        for column in table.columns
        if column.raw and column.raw not in TAG_KEYS
    ]
    if "name" not in keys.values():
        complaints.append(Complaint(table.columns[0].place, "name", "is missing; one column must be called name"))
        return
    for row in table.rows:
        yield _tag(row, keys, complaints)


def _tag(row: Row, keys: dict[int, str], complaints: list[Complaint]) -> Node:
    entries: dict[str, Entry] = {}
    for column, text in row.cells.items():
        key, place = keys[column], row.cell_place(column)
        if key in TAG_KEYS and key not in entries:
            entries[key] = Entry(place, cell_node(text, place, key, key in TEXT_KEYS, complaints))
    return Node(entries, row.place, weight=1 + len(entries), height=1, origin="")


def same_names(nodes: Sequence[Node], path: str) -> Iterator[Complaint]:
    """Give the names that are given twice; `path` is that of the list."""
    first: dict[str, Place] = {}
    for number, node in enumerate(nodes):
        name = node.get("name")
        if name is None or not isinstance(name.value, str):
            continue
        if name.value in first:
            text = f"the name {name.value} is taken by {first[name.value].seen_from(name.place)}; write another"
            above = join(path, number) if node.origin is None else node.origin
            yield Complaint(name.place, join(above, "name") if name.origin is None else name.origin, text)
        else:
            first[name.value] = name.place


def overridden(below: Sequence[Node], own: Sequence[Node]) -> list[Node]:
    """Give a template's tags with a device's own keys in those of the same name, and its other tags after them."""
    if not own:
        return list(below)
    merged = list(below)
    position = {_name(tag): number for number, tag in enumerate(below)}
    for tag in own:
        number = position.get(_name(tag)) if _name(tag) else None
        if number is None:
            merged.append(tag)
        else:
            merged[number] = _over(below[number], tag)
    return merged


def _name(tag: Node) -> str:
    name = tag.get("name")
    return name.value if name is not None and isinstance(name.value, str) else ""


def _over(below: Node, tag: Node) -> Node:
    inherited = {
        key: Entry(entry.place, moved(entry.node, join(below.origin or "", key)))
        for key, entry in below.entries.items()
    }
    return replace(tag, value=inherited | tag.entries)
