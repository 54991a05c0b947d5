"""What an open device with `browse` reads: its section with a tag for each variable that was found."""

from typing import Final

from gateway.drivers.opcua.browse import Bounds, Browser, Choice, Node, Walk
from gateway.drivers.opcua.nodes import resolve
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.subtree import MOST_TAGS, Subtree, named
from gateway.drivers.opcua.survey import Server
from gateway.drivers.opcua.tag import OpcuaTag, parse_node
from gateway.errors import DeviceError
from gateway.model import DeviceState

_MOST_NODES: Final = 500_000
_ONLY_THERE: Final = frozenset({"", "BadNodeIdUnknown", "BadNodeIdInvalid", "BadUserAccessDenied"})
"""Nodes below which there is nothing for us; any other fault would make tags vanish that are there."""


async def completed(section: OpcuaDevice, session: Session, server: Server) -> OpcuaDevice:
    """Walk what `browse` names. Configured tags win over found ones of the same node or name. Raises DeviceError.

    Nodes that appear later are found at the next connect.
    """
    if not section.browse:
        return section
    tags = list(section.tags)
    taken = {resolve(tag.node, server.namespaces) for tag in tags}
    names = {tag.name for tag in tags}
    for subtree in section.browse:
        for tag in await _found(section, subtree, Browser(session, server)):
            node = resolve(tag.node, server.namespaces)
            if node not in taken and tag.name not in names:
                taken.add(node)
                names.add(tag.name)
                tags.append(tag)
    if not tags:
        raise _nothing(section)
    if len(tags) > MOST_TAGS:
        raise _too_many(len(tags))
    return section.model_copy(update={"tags": tuple(tags)})


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


def _too_many(found: int) -> DeviceError:
    return DeviceError(
        f"browsing found {found} tags, and a device has {MOST_TAGS} at most",
        reason="too-many-tags",
        state=DeviceState.CONFIG_ERROR,
        do="Take less with include or exclude, or split the device in two.",
    )
