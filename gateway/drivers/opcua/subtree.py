"""How a whole subtree of a server is configured: the key `browse` of a device, and the tags that it leads to."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, WithJsonSchema

from gateway.checked import Checked, Fault
from gateway.drivers.base import Section
from gateway.drivers.opcua.tag import OpcuaTag, parse_node

OBJECTS: Final = "i=85"
MOST_TAGS: Final = 10_000
"""Of a device, that are found: a glob that is too wide must not put the whole of a PLC on the line."""
_LONGEST: Final = 256
_OF_ONE_NODE: Final = ("name", "node")

Glob = Annotated[str, Field(min_length=1, max_length=1024)]
Globs = Annotated[tuple[Glob, ...], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]


class Subtree(Checked, Section):
    """Takes each variable below a node as a tag, as the server shows them at each connect."""

    from_: Annotated[str, AfterValidator(parse_node), WithJsonSchema({"type": "string", "pattern": "[isgb]="})] = Field(
        default=OBJECTS, alias="from", description="the node below which variables are taken; default: Objects"
    )
    include: Globs = Field(
        default=(), description='only variables whose path below `from` matches one of these, such as "*.Speed"'
    )
    exclude: Globs = Field(default=(), description="leaves out what matches, and all that is below it")
    tag: dict[str, Any] = Field(
        default_factory=dict, description="keys of each tag that is found, such as {interval: 5s, deadband: 0.1}"
    )

    def faults(self) -> Iterator[Fault]:
        """Give what is wrong with the keys that all tags found get."""
        yield from super().faults()
        for key in _OF_ONE_NODE:
            if key in self.tag:
                yield Fault(("tag", key), "comes from the server; remove it")
        if not any(key in self.tag for key in _OF_ONE_NODE):
            yield from self._faults_of_tag()

    def _faults_of_tag(self) -> Iterator[Fault]:
        try:
            self.make("x", "i=1")
        except ValidationError as error:
            for each in error.errors():
                found = each.get("ctx", {}).get("faults")
                if found:
                    yield from (Fault(("tag", *fault.at), fault.text) for fault in found)
                else:
                    yield Fault(("tag", *each["loc"]), _sentence(each))

    def make(self, name: str, node: str) -> OpcuaTag:
        """Make the tag of a variable."""
        return OpcuaTag.model_validate({**self.tag, "name": name, "node": node})


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "is not a key of a tag"
    return str(error["msg"]).removeprefix("Value error, ")


def named(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Give each (path, node) the name that its tag has: the path, if it is a valid name and no other node has it.

    Else a mark made of the node id is added, which stays the same at every connect. Sorted by path, then by node.
    """
    nodes = sorted(found)
    cleaned = [_cleaned(path) for path, _ in nodes]
    times: dict[str, int] = {}
    for name in cleaned:
        times[name] = times.get(name, 0) + 1
    return [
        (name if name == path and times[name] == 1 else marked(name, node), node)
        for name, (path, node) in zip(cleaned, nodes, strict=True)
    ]


def _cleaned(path: str) -> str:
    name = "".join(char if char.isprintable() else "_" for char in path).strip()
    return "_" if name in {"", "*"} else name[:_LONGEST]


def marked(name: str, node: str) -> str:
    """Add a mark made of the node id to a name that is not its alone."""
    mark = hashlib.sha256(node.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - len(mark) - 1]}~{mark}"
