"""What the file itself shows, whatever else is wrong with it: names given twice, and lists left empty."""

from collections.abc import Iterator

from gateway.config.nodes import Node, Place, join
from gateway.config.sentences import SECTIONS
from gateway.errors import Problem

_OTHER_TAGS = ("tags", "tags_file", "template")


def problems(file: str, root: Node) -> Iterator[Problem]:
    """Give the problems of all devices and tags."""
    devices = root.get("devices")
    if devices is None or devices.value == []:
        yield Problem(file, *(devices or root).place, "devices", "holds no device; write at least one")
        return
    yield from _same_names(file, devices, "devices")
    for position, device in enumerate(devices.elements):
        path = join("devices", position)
        tags = device.get("tags")
        if tags is not None:
            yield from _same_names(file, tags, tags.origin or join(path, "tags"))
        if _no_tags(device):
            yield Problem(file, *(tags or device).place, join(path, "tags"), "holds no tag; write at least one")


def _no_tags(device: Node) -> bool:
    protocol = device.get("protocol")
    if protocol is None or protocol.raw not in SECTIONS:
        return False
    return all(key not in device.entries or device.entries[key].node.value == [] for key in _OTHER_TAGS)


def _same_names(file: str, nodes: Node, path: str) -> Iterator[Problem]:
    first: dict[str, Place] = {}
    for position, node in enumerate(nodes.elements):
        name = node.get("name")
        if name is None or not isinstance(name.value, str):
            continue
        if name.value in first:
            text = f"the name {name.value} is taken by line {first[name.value].line}; write another"
            yield Problem(file, *name.place, f"{path}[{position}].name", text)
        else:
            first[name.value] = name.place
