"""What an open device with `browse` reads: its section with a tag for each variable that was found."""

from collections.abc import Iterable, MutableMapping
from typing import Any, Final

from gateway.drivers.opcua.browse import Bounds, Browser, Choice, Node, Walk
from gateway.drivers.opcua.nodes import resolve
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.subtree import MOST_TAGS, Subtree, named
from gateway.drivers.opcua.survey import Server
from gateway.drivers.opcua.tag import OpcuaTag, parse_node
from gateway.errors import DeviceError
from gateway.model import DeviceState

MISSING: Final = "missing"
"""Where a device's memory has the names of tags that an earlier connect found and the latest did not."""
_KEY: Final = "browsed"
_MOST_NODES: Final = 500_000
_ONLY_THERE: Final = frozenset({"", "BadNodeIdUnknown", "BadNodeIdInvalid", "BadUserAccessDenied"})
"""Nodes below which there is nothing for us; any other fault would make tags vanish that are there."""


async def completed(
    section: OpcuaDevice, session: Session, server: Server, memory: MutableMapping[str, Any]
) -> OpcuaDevice:
    """Walk what `browse` names. Configured tags win over found ones of the same node or name. Raises DeviceError.

    Nodes that appear later are found at the next connect. What an earlier connect found and this one does not stays a
    tag: it is bad for as long as the node is missing, and a server that fills its address space slowly loses nothing.
    """
    if not section.browse:
        return section
    found: list[OpcuaTag] = []
    for subtree in section.browse:
        found += await _found(section, subtree, Browser(session, server))
        if len(found) > MOST_TAGS:
            raise _too_many()
    known: dict[str, OpcuaTag] = memory.setdefault(_KEY, {})
    tags = list(section.tags)
    new = _others(found, tags, server)
    missing = _others(known.values(), [*tags, *new], server)[: MOST_TAGS - len(new)]
    tags += [*new, *missing]
    if not tags:
        raise _nothing(section)
    memory[_KEY] = {tag.name: tag for tag in (*new, *missing)}
    memory[MISSING] = tuple(tag.name for tag in missing)
    return section.model_copy(update={"tags": tuple(tags)})


def _others(found: Iterable[OpcuaTag], tags: Iterable[OpcuaTag], server: Server) -> list[OpcuaTag]:
    """Give those that are no tags yet, by node or name."""
    nodes = {resolve(tag.node, server.namespaces) for tag in tags}
    names = {tag.name for tag in tags}
    others = []
    for tag in found:
        node = resolve(tag.node, server.namespaces)
        if (node is None or node not in nodes) and tag.name not in names:
            nodes.add(node)
            names.add(tag.name)
            others.append(tag)
    return others


async def _found(section: OpcuaDevice, subtree: Subtree, browser: Browser) -> list[OpcuaTag]:
    choice = Choice(subtree.include, subtree.exclude)
    walk = Walk(browser, subtree.from_, bounds=Bounds(most=_MOST_NODES), choice=choice)
    found = []
    async for node in walk.nodes():
        if node.fault not in _ONLY_THERE:
            text = f"{section.address} did not tell what is below {node.path}: {node.fault}"
            raise DeviceError(text, reason=node.fault, do="It is browsed again at the next attempt.")
        if node.is_variable and choice.takes(node.path) and _can_be_written(node):
            found.append((node.path, node.node))
            if len(found) > MOST_TAGS:
                raise _too_many()
    return [subtree.make(name, node) for name, node in named(found)]


def _can_be_written(node: Node) -> bool:
    """Whether a config could name the node: one with an empty or endless identifier cannot be read either."""
    try:
        parse_node(node.node)
    except ValueError:
        return False
    return True


def _nothing(section: OpcuaDevice) -> DeviceError:
    return DeviceError(
        f"browsing {section.address} found no variable that `browse` takes",
        reason="nothing-found",
        state=DeviceState.CONFIG_ERROR,
        do="Look at the paths with edge-gateway browse, and check from, include and exclude.",
    )


def _too_many() -> DeviceError:
    return DeviceError(
        f"`browse` takes more than {MOST_TAGS:,} variables, and a device has room for so many found tags",
        reason="too-many-tags",
        state=DeviceState.CONFIG_ERROR,
        do="Take less with from, include or exclude, or split the device in two.",
    )
