"""How the nodes of an OPC UA server are printed: a tree for the eye, lines for tools, JSON, or tags for a config."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from gateway.cli.output import shown
from gateway.drivers.opcua.browse import Node
from gateway.drivers.opcua.exploring import View
from gateway.drivers.opcua.subtree import marked, named
from gateway.drivers.opcua.tag import parse_node
from gateway.logs import printable

_WIDEST: Final = 200
"""Characters of a value that are shown; JSON has all of it."""
_INDENT: Final = " " * 6
"""Where the tags of a device stand in a config that is indented by two."""


class Form(Protocol):
    """Turns nodes into text as they are found."""

    def add(self, nodes: Sequence[tuple[Node, View | None]]) -> str:
        """Give what can be printed of some nodes now; a view is what a variable holds."""


class Lines:
    """A line a node, with tabs between path, node id, value, type, unit and description."""

    def add(self, nodes: Sequence[tuple[Node, View | None]]) -> str:
        """Write each node."""
        return "".join(f"{self._line(*each)}\n" for each in nodes)

    def _line(self, node: Node, view: View | None) -> str:
        words = [node.path, node.node]
        if view is not None:
            description = view.description if view.description != node.name else ""
            words += [value_of(view), view.type, view.unit, description]
        elif node.fault:
            words += [node.fault]
        return "\t".join(map(printable, words)).rstrip("\t")


class Json:
    """A JSON object a node and line."""

    def add(self, nodes: Sequence[tuple[Node, View | None]]) -> str:
        """Write each node."""
        return "".join(f"{self._line(*each)}\n" for each in nodes)

    def _line(self, node: Node, view: View | None) -> str:
        found: dict[str, Any] = {"path": node.path, "node": node.node, "kind": "variable" if view else "object"}
        if view is not None:
            found |= view._asdict()
        if node.fault:
            found["fault"] = node.fault
        return json.dumps(found, ensure_ascii=False)


class Tags:
    """Variables as a config's tags, with names of their own, indented to be pasted below `tags:`."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def add(self, nodes: Sequence[tuple[Node, View | None]]) -> str:
        """Write each variable that a config can name."""
        return "".join(f"{_INDENT}{self._tag(node, view)}\n" for node, view in nodes if view is not None)

    def _tag(self, node: Node, view: View) -> str:
        kind = printable(view.type) + ("" if view.quality == "good" else f", {printable(view.quality)}")
        try:
            parse_node(node.node)
        except ValueError:
            return f"# {printable(node.path)}: no config can name the node id {printable(node.node)}"
        ((name, _),) = named([(node.path, node.node)])
        if name in self._names:
            name = marked(name, node.node)
        self._names.add(name)
        keys = {"name": name, "node": node.node} | ({"unit": view.unit} if view.unit else {})
        pairs = ", ".join(f"{key}: {_quoted(text)}" for key, text in keys.items())
        return f"- {{{pairs}}}  # {kind}"


def _quoted(text: str) -> str:
    """Write a text so that no version of YAML takes it for a number or a yes, nor a terminal for a command."""
    written = json.dumps(text, ensure_ascii=False)
    return written if written.isprintable() else json.dumps(text)


def value_of(view: View) -> str:
    """Write a value for a person, or why there is none: times as text, long ones cut."""
    if view.value is None and view.quality != "good":
        return view.quality
    text = shown(view.value)
    if view.type in {"DateTime", "UtcTime"} and isinstance(view.value, int):
        text = instant(view.value)
    elif isinstance(view.value, dict):
        text = json.dumps(view.value, ensure_ascii=False)
    text = text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
    return text if view.quality == "good" else f"{text} ({view.quality})"


def instant(ms: int) -> str:
    """Write ms since 1970 as a time in UTC; those beyond the year 9999 stay a number."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(ms)
