"""What the tree itself shows, whatever else is wrong with it: names given twice, and lists left empty."""

from collections.abc import Container, Iterator

from gateway.config.keys import SECTIONS
from gateway.config.nodes import Complaint, Node, join
from gateway.config.tags import same_names


def complaints(root: Node, incomplete: Container[int], *, whole: bool) -> Iterator[Complaint]:
    """Give what is wrong with the lists of devices and tags.

    What `incomplete` devices lack is known already; so is a lack of devices where the config is not `whole`.
    """
    devices = root.get("devices")
    if devices is None or devices.value == []:
        if whole:
            yield Complaint((devices or root).place, "devices", "holds no device; write at least one")
        return
    yield from same_names(devices.elements, "devices")
    for position, device in enumerate(devices.elements):
        tags = device.get("tags")
        if device.get("browse") is not None:  # the server tells the tags
            continue
        if position not in incomplete and _knows_its_protocol(device) and (tags is None or tags.value == []):
            at = join("devices", position) if device.origin is None else device.origin
            yield Complaint((tags or device).place, join(at, "tags"), "holds no tag; write at least one")


def _knows_its_protocol(device: Node) -> bool:
    protocol = device.get("protocol")
    return protocol is not None and protocol.raw in SECTIONS
