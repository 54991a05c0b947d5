"""The nodes of an OPC UA server as a tree, printed when all of them are known."""

from collections.abc import Iterator, Sequence
from typing import Final

import click

from gateway.cli.browse_forms import value_of
from gateway.drivers.opcua.browse import Node
from gateway.drivers.opcua.exploring import View
from gateway.logs import printable

NAMESPACES: Final = "i=2255"
"""The variable Server_NamespaceArray (OPC 10000-5 section 6.3.1)."""
_VALUE: Final = 32
"""Characters of a value; the other forms show more."""
_TEE, _LAST, _BAR, _NONE = "├── ", "└── ", "│   ", "    "


class Tree:
    """Each node beside its siblings, with value, type and node id as far as a line has room."""

    def __init__(self, start: str, depth: int) -> None:
        self._start = start
        self._depth = depth
        self._children: dict[str, list[Node]] = {}
        self._parent: dict[str, str] = {}
        self._wanted: dict[str, View | None] = {}
        self.closed = 0
        """Objects at the last level: what is below them was not looked at."""

    def meet(self, node: Node) -> None:
        """Take a node, wanted or on the way to one."""
        self._children.setdefault(node.parent, []).append(node)
        self._parent[node.node] = node.parent
        self.closed += node.depth == self._depth and not node.is_variable

    def add(self, nodes: Sequence[tuple[Node, View | None]]) -> str:
        """Take nodes that are wanted; nothing can be printed before the last."""
        self._wanted |= {node.node: view for node, view in nodes}
        return ""

    def lines(self, namespaces: Sequence[str], width: int) -> Iterator[str]:
        """Write the tree; node ids have the server's namespace indexes, which are told at the end."""
        kept = self._kept()
        numbers = {_escaped(uri): number for number, uri in enumerate(namespaces)}
        used = set()
        stack = [(self._start, "", iter(self._below(self._start, kept)))]
        while stack:
            _, lead, rest = stack[-1]
            node, is_last = next(rest, (None, False))
            if node is None:
                stack.pop()
                continue
            uri = node.node.removeprefix("nsu=").partition(";")[0] if node.node.startswith("nsu=") else ""
            used |= {numbers[uri]} if uri in numbers else set()
            short = f"ns={numbers[uri]};{node.node.partition(';')[2]}" if uri in numbers else node.node
            yield lead + (_LAST if is_last else _TEE) + self._text(node, short, width - len(lead) - len(_TEE))
            stack.append((node.node, lead + (_NONE if is_last else _BAR), iter(self._below(node.node, kept))))
        yield from (f"ns={number} is nsu={_escaped(namespaces[number])}" for number in sorted(used))

    def _kept(self) -> set[str]:
        """Give what is wanted, and what lies between it and the start."""
        kept: set[str] = set()
        for wanted in self._wanted:
            node = wanted
            while node != self._start and node not in kept:
                kept.add(node)
                node = self._parent[node]
        return kept

    def _below(self, parent: str, kept: set[str]) -> list[tuple[Node, bool]]:
        nodes = [node for node in self._children.get(parent, ()) if node.node in kept]
        return [(node, number == len(nodes)) for number, node in enumerate(nodes, 1)]

    def _text(self, node: Node, short: str, room: int) -> str:
        """Write a node: its name always, then what there is room for."""
        view = self._wanted.get(node.node)
        words = [printable(node.name)]
        if view is not None:
            value = printable(value_of(view))
            value = value if len(value) <= _VALUE else f"{value[: _VALUE - 1]}…"
            words += [f"{value} {printable(view.unit)}".rstrip(), printable(view.type)]
        words += [printable(short)] + ([f"({node.fault})"] if node.fault else [])
        while len(words) > 1 and len("  ".join(words)) > room:
            words.pop()
        return "  ".join([words[0], *(click.style(word, dim=word == printable(short)) for word in words[1:])])


def _escaped(uri: str) -> str:
    return uri.replace("%", "%25").replace(";", "%3B")
