"""`defaults`: keys that every device has which does not write them itself."""

from dataclasses import replace
from typing import Final

from gateway.config.nodes import Entry, Node, Place, join, moved
from gateway.config.sentences import SECTIONS, keys, unknown_key

KEY: Final = "defaults"
OWN: Final = frozenset({"name"})
"""Keys that every device writes itself."""

Complaint = tuple[Place, str, str]
"""Place, path and sentence of a problem."""


def apply(root: Node) -> tuple[Node, list[Complaint]]:
    """Give the tree with `defaults` put into the devices, and what is wrong with `defaults`."""
    entry = root.entries.get(KEY)
    if entry is None:
        return root, []
    complaints = list(_complaints(entry.node))
    entries = {key: value for key, value in root.entries.items() if key != KEY}
    if "devices" in entries and isinstance(entries["devices"].node.value, list):
        place, devices = entries["devices"]
        filled = [_filled(device, entry.node) for device in devices.elements]
        entries["devices"] = Entry(place, replace(devices, value=filled))
    return replace(root, value=entries), complaints


def _complaints(defaults: Node) -> list[Complaint]:
    if not isinstance(defaults.value, dict):
        return [] if defaults.value is None else [(defaults.place, KEY, "must be keys and values, not a list or text")]
    known = set(keys(SECTIONS.values())) - OWN
    found: list[Complaint] = []
    for key, entry in defaults.entries.items():
        if key in OWN:
            found.append((entry.place, join(KEY, key), "every device needs its own; remove it from defaults"))
        elif not any(key in section.model_fields for section in SECTIONS.values()):
            found.append((entry.place, join(KEY, key), unknown_key(key, known)))
    return found


def _filled(device: Node, defaults: Node) -> Node:
    if not isinstance(device.value, dict):
        return device
    protocol = device.get("protocol") or defaults.get("protocol")
    section = SECTIONS.get(protocol.value) if protocol is not None and isinstance(protocol.value, str) else None
    inherited = {
        key: Entry(entry.place, moved(entry.node, join(KEY, key)))
        for key, entry in defaults.entries.items()
        if key not in OWN and (key == "protocol" or (section is not None and key in section.model_fields))
    }
    return replace(device, value=inherited | device.entries)
