"""`${name}` in the texts of a template, and the sums that may stand beside it in an address."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from gateway.config.keys import TEXT_KEYS
from gateway.config.nodes import Entry, Node

_NAMED: Final = re.compile(r"(?<!\$)\$\{([^{}]*)\}")
_ESCAPED: Final = "$${"
_ADDRESSES: Final = frozenset({"address", "scale_register"})
_NUMBER: Final = r"-?[0-9]{1,9}"
_SUM: Final = re.compile(rf"((?:[A-Za-z]+:)?(?:[0-9]+:)?)({_NUMBER}(?: *[-+*] *{_NUMBER}){{1,8}})((?:\.[0-9-]+)?)")
_TERM: Final = re.compile(rf"([-+*]?) *({_NUMBER})")


def names(node: Node) -> Iterator[str]:
    """Give the names for which a tree has a `${name}`; one that is used twice, twice."""
    if isinstance(node.value, str):
        yield from _NAMED.findall(node.value)
    for element in node.elements:
        yield from names(element)
    for entry in node.entries.values():
        yield from names(entry.node)


def substituted(node: Node, values: Mapping[str, Node], key: str = "", path: str = "") -> Node:
    """Give a tree with the values put in; what holds no `${name}` is the same node as before.

    A text that is one `${name}` and nothing else becomes the value itself, with its place if it has one outside the
    template. `key` is the key under which the node stands, `path` that of the mapping above.
    """
    if isinstance(node.value, str):
        return _text(node, values, key, as_text=key in TEXT_KEYS or path == "labels") if "$" in node.value else node
    if isinstance(node.value, list):
        elements = [substituted(element, values, key) for element in node.value]
        same = all(new is old for new, old in zip(elements, node.value, strict=True))
        return node if same else replace(node, value=elements)
    if isinstance(node.value, dict):
        changed = {
            name: Entry(entry.place, new)
            for name, entry in node.value.items()
            if (new := substituted(entry.node, values, name, key)) is not entry.node
        }
        return replace(node, value=node.value | changed) if changed else node
    return node


def _text(node: Node, values: Mapping[str, Node], key: str, *, as_text: bool) -> Node:
    text = str(node.value)
    alone = _NAMED.fullmatch(text)
    if alone is not None:
        value = values[alone[1]]
        return replace(value, value=value.raw) if as_text and value.value is not None else value
    if any(values[name].value is None for name in _NAMED.findall(text)):
        return replace(node, value=None)  # what is wrong with the value has been said
    replaced = _NAMED.sub(lambda match: values[match[1]].raw, text).replace(_ESCAPED, "${")
    if key in _ADDRESSES and replaced != text:
        return replace(node, value=_calculated(replaced), raw=replaced)
    return replace(node, value=replaced, raw=replaced)


def _calculated(text: str) -> str | int:
    """Give an address with its sum worked out: `holding:100+2.5` is holding:102.5."""
    match = _SUM.fullmatch(text)
    if match is None:
        return text
    products: list[int] = []
    for sign, number in _TERM.findall(match[2]):
        if sign == "*":
            products[-1] *= int(number)
        else:
            products.append(-int(number) if sign == "-" else int(number))
    total = sum(products)
    return f"{match[1]}{total}{match[3]}" if match[1] or match[3] else total
