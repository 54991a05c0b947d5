"""A YAML file as a tree in which every value knows its line and column."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, cast

import yaml

from gateway.config.scalars import Plain, resolve
from gateway.config.syntax import explain
from gateway.errors import Problem

LARGEST_FILE: Final = 8 << 20
"""Bytes that a config file may have."""
_MOST_VALUES: Final = 1_000_000
_DEEPEST: Final = 40
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Place(NamedTuple):
    """Line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the file: a scalar, a list of nodes, or a mapping of keys to entries; None if it is refused already.

    `raw` is a scalar's own text. `weight` counts the values in it and `height` its levels, with what aliases stand
    for: neither is known from the file's size. `origin` is the path under which the value was written, where that
    is not the path at which it counts (`defaults`).
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


def read(file: str, text: str) -> tuple[Node | None, list[Problem]]:
    """Read a file's text. Gives its tree, None if there is none, and all that is wrong with its YAML."""
    reader = _Reader(file)
    try:
        root = reader.document(text)
    except Stop as stop:
        reader.add(stop.place, "", str(stop))
        root = None
    except yaml.YAMLError as error:
        line, column, sentence = explain(error, text)
        reader.add(Place(line, column), "", sentence)
        root = None
    return root, reader.problems


class _Reader:
    """Builds the tree from PyYAML's events; its own nodes would lose which scalars were in quotes."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._events: Iterator[Any] = iter(())
        self.problems: list[Problem] = []

    def add(self, place: Place, path: str, text: str) -> None:
        self.problems.append(Problem(self._file, place.line, place.column, path, text))

    def document(self, text: str) -> Node | None:
        self._events = cast("Iterator[Any]", yaml.parse(text, Loader=_LOADER))
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise Stop(_place(event), "a second document begins here; a config is one, so remove the ---")
                root = self._node(next(self._events), "", 0)
        return root

    def _node(self, event: Any, path: str, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        if depth > _DEEPEST:
            raise Stop(_place(event), f"is nested more than {_DEEPEST} levels deep")
        if event.tag is not None and event.tag not in {"!", "tag:yaml.org,2002:str"}:
            self.add(_place(event), path, "tags (!name) are not used here; text that begins with ! needs quotes")
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event, path)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, path, depth)
        else:
            node = self._mapping(event, path, depth)
        if node.weight > _MOST_VALUES:
            raise Stop(node.place, f"stands for more than {_MOST_VALUES} values; write fewer aliases (*name)")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, depth: int) -> Node:
        # The name is not repeated: an unquoted password may begin with a *.
        node = self._anchors.get(event.anchor)
        if node is None:
            raise Stop(_place(event), "no anchor (&name) comes before this alias; text that begins with * needs quotes")
        if depth + node.height > _DEEPEST:
            raise Stop(_place(event), f"is nested more than {_DEEPEST} levels deep")
        return node

    def _scalar(self, event: Any, path: str) -> Node:
        text: str = event.value
        value: Plain | None = text
        try:
            if event.implicit[0]:
                value = resolve(text)
            text.encode("utf-8")
        except UnicodeEncodeError:
            self.add(_place(event), path, "holds half of a character (a lone surrogate)")
            value = None
        except ValueError as error:
            self.add(_place(event), path, str(error))
            value = None
        return Node(value, _place(event), raw=text)

    def _list(self, event: Any, path: str, depth: int) -> Node:
        elements: list[Node] = []
        while not isinstance(following := next(self._events), yaml.SequenceEndEvent):
            elements.append(self._node(following, f"{path}[{len(elements)}]", depth + 1))
        return _collection(elements, event, elements)

    def _mapping(self, event: Any, path: str, depth: int) -> Node:
        entries: dict[str, Entry] = {}
        while not isinstance(following := next(self._events), yaml.MappingEndEvent):
            key, place = self._key(following, path), _place(following)
            node = self._node(next(self._events), join(path, key), depth + 1)
            if key in entries:
                first = entries[key].place.line
                self.add(place, join(path, key), f"is written twice; the first is in line {first}")
            else:
                entries[key] = Entry(place, node)
        return _collection(entries, event, [entry.node for entry in entries.values()])

    def _key(self, event: Any, path: str) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise Stop(_place(event), f"{path}: a key must be a word" if path else "a key must be a word")
        if event.value == "<<" and event.implicit[0]:
            raise Stop(_place(event), "merge keys (<<) are not part of YAML 1.2; write the keys out, or use defaults:")
        key: str = event.value
        return key.encode("utf-8", "replace").decode("utf-8")


def _collection(value: list[Node] | dict[str, Entry], event: Any, inner: list[Node]) -> Node:
    weight = 1 + sum(node.weight for node in inner)
    return Node(value, _place(event), weight=weight, height=1 + max((node.height for node in inner), default=0))


def _place(event: Any) -> Place:
    mark = event.start_mark
    return Place(mark.line + 1, mark.column + 1)


def join(path: str, part: str | int) -> str:
    """Give the path of a key or an element below `path`: `devices[0].tags[2].address`."""
    if isinstance(part, int):
        return f"{path}[{part}]"
    return f"{path}.{part}" if path else part


def moved(node: Node, origin: str) -> Node:
    """Give a node that counts elsewhere than where it was written."""
    return replace(node, origin=origin)
