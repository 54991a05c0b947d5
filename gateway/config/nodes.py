"""A YAML file as a tree in which every value knows its line and column."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any, Final, NamedTuple, cast

import yaml

from gateway.config.scalars import Plain, resolve
from gateway.config.syntax import explain

_MOST_VALUES: Final = 1_000_000
_DEEPEST: Final = 40
_TEXT_TAGS: Final = ("!", "tag:yaml.org,2002:str")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Place(NamedTuple):
    """File, line and column, from 1; of a CSV file the line in which the row begins, and the number of the column."""

    file: str
    line: int
    column: int

    def seen_from(self, other: "Place") -> str:
        """Name the place to a reader who is at another: by its line where the file is the same."""
        return f"line {self.line}" if self.file == other.file else f"{self.file}:{self.line}"


class Complaint(NamedTuple):
    """One thing that is wrong: where, the path of the value there, a sentence, and the device that it was found in."""

    place: Place
    path: str
    text: str
    device: str = ""


@dataclass(slots=True)
class Node:
    """A value of the file: a scalar, a list of nodes, or a mapping of keys to entries; None if it is refused already.

    `raw` is a scalar's own text. `weight` counts the values in it and `height` its levels, with what aliases stand
    for: neither is known from the file's size. `origin` is the path under which the value was written, where that
    is not the path at which it counts (`defaults`, templates, other files).
    """

    value: "Plain | list[Node] | dict[str, Entry] | None"
    place: Place
    raw: str = ""
    weight: int = 1
    height: int = 0
    origin: str | None = None

    @property
    def entries(self) -> "dict[str, Entry]":
        """A mapping's entries; of anything else none."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def elements(self) -> "list[Node]":
        """A list's elements; of anything else none."""
        return self.value if isinstance(self.value, list) else []

    def get(self, key: str) -> "Node | None":
        """Give the value of a key, if it is there."""
        entry = self.entries.get(key)
        return entry.node if entry else None

    def plain(self) -> Any:
        """Give the value as lists, dictionaries and scalars."""
        if isinstance(self.value, dict):
            return {key: entry.node.plain() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [element.plain() for element in self.value]
        return self.value


class Entry(NamedTuple):
    """One key of a mapping: where the key stands, and its value."""

    place: Place
    node: Node


class Stop(Exception):  # noqa: N818 -- it ends the reading of a file; it is no error of the program's own family
    """Nothing that follows can be understood."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


def read(file: str, text: str) -> tuple[Node | None, list[Complaint]]:
    """Read a file's text. Gives its tree, None if there is none, and all that is wrong with its YAML."""
    reader = _Reader(file)
    try:
        root = reader.document(text)
    except Stop as stop:
        reader.add(stop.place, str(stop))
        root = None
    except yaml.YAMLError as error:
        line, column, sentence = explain(error, text)
        reader.complaints.append(Complaint(Place(file, line, column), "", sentence))
        root = None
    return root, reader.complaints


class _Reader:
    """Builds the tree from PyYAML's events; its own nodes would lose which scalars were in quotes."""

    def __init__(self, file: str) -> None:
        self._place = partial(_place, file)
        self._anchors: dict[str, Node] = {}
        self._events: Iterator[Any] = iter(())
        self._path: list[str | int] = []  # of the value that is being read
        self.complaints: list[Complaint] = []

    def document(self, text: str) -> Node | None:
        self._events = cast("Iterator[Any]", yaml.parse(text, Loader=_LOADER))
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise Stop(self._place(event), "a second document begins here; a config is one, so remove the ---")
                root = self._node(next(self._events))
        return root

    def add(self, place: Place, text: str) -> None:
        self.complaints.append(Complaint(place, reduce(join, self._path, ""), text))

    def _node(self, event: Any) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if len(self._path) > _DEEPEST:
            raise Stop(self._place(event), f"is nested more than {_DEEPEST} levels deep")
        if event.tag is not None and event.tag not in _TEXT_TAGS:
            self.add(self._place(event), "tags (!name) are not used here; text that begins with ! needs quotes")
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event)
        else:
            node = self._mapping(event)
        if node.weight > _MOST_VALUES:
            raise Stop(node.place, f"stands for more than {_MOST_VALUES} values; write fewer aliases (*name)")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        # The name is not repeated: an unquoted password may begin with a *.
        node = self._anchors.get(event.anchor)
        if node is None:
            text = "no anchor (&name) comes before this alias; text that begins with * needs quotes"
            raise Stop(self._place(event), text)
        if len(self._path) + node.height > _DEEPEST:
            raise Stop(self._place(event), f"is nested more than {_DEEPEST} levels deep")
        return node

    def _scalar(self, event: Any) -> Node:
        text: str = event.value
        place = self._place(event)
        value: Plain | None = None
        try:
            if not text.isascii():
                text.encode("utf-8")
            value = resolve(text) if event.implicit[0] else text
        except UnicodeEncodeError:
            self.add(place, "holds half of a character (a lone surrogate)")
        except ValueError as error:
            self.add(place, str(error))
        return Node(value, place, raw=text)

    def _list(self, event: Any) -> Node:
        elements: list[Node] = []
        while not isinstance(following := next(self._events), yaml.SequenceEndEvent):
            elements.append(self._below(len(elements), following))
        return _collection(elements, self._place(event), elements)

    def _mapping(self, event: Any) -> Node:
        entries: dict[str, Entry] = {}
        while not isinstance(following := next(self._events), yaml.MappingEndEvent):
            key, place, written = self._key(following), self._place(following), next(self._events)
            first = entries.get(key)
            if first is not None:
                self._twice(key, place, first, written)
            elif event.flow_style and _is_omitted(written):
                # The key is not repeated: it may be a secret in curly brackets.
                self.add(place, "a key without a value in curly brackets; write {key: value}")
                entries[key] = Entry(place, Node(None, place))
            else:
                entries[key] = Entry(place, self._below(key, written))
        return _collection(entries, self._place(event), [entry.node for entry in entries.values()])

    def _twice(self, key: str, place: Place, first: Entry, written: Any) -> None:
        self._path.append(key)
        self.add(place, f"is written twice; the first is in line {first.place.line}")
        self._node(written)
        self._path.pop()

    def _below(self, part: str | int, event: Any) -> Node:
        self._path.append(part)
        node = self._node(event)
        self._path.pop()
        return node

    def _key(self, event: Any) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise Stop(self._place(event), "a key must be a word")
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            text = "merge keys (<<) are not part of YAML 1.2; write the keys out, or use defaults:"
            raise Stop(self._place(event), text)
        return key if key.isascii() else key.encode("utf-8", "replace").decode("utf-8")


def _collection(value: list[Node] | dict[str, Entry], place: Place, inner: list[Node]) -> Node:
    weight = 1 + sum(node.weight for node in inner)
    return Node(value, place, weight=weight, height=1 + max((node.height for node in inner), default=0))


def _is_omitted(event: Any) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.implicit[0] and not event.value


def _place(file: str, event: Any) -> Place:
    mark = event.start_mark
    return Place(file, mark.line + 1, mark.column + 1)


def join(path: str, part: str | int) -> str:
    """Give the path of a key or an element below `path`: `devices[0].tags[2].address`."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    word = part if part.isprintable() else ascii(part)
    return f"{path}.{word}" if path else word


def moved(node: Node, origin: str) -> Node:
    """Give a node that counts elsewhere than where it was written, unless it has been moved already."""
    return node if node.origin is not None else replace(node, origin=origin)
