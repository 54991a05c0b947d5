"""From what was written to what is meant: includes, rows, templates, links and defaults put into each device."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gateway.config import defaults, links
from gateway.config.assemble import Assembly, Sources, assemble
from gateway.config.gather import gather
from gateway.config.keys import BESIDE_DEVICES, DEFAULTS, TEMPLATE
from gateway.config.nodes import Complaint, Entry, Node, join
from gateway.config.tags import TagFiles
from gateway.config.templates import Template, Templates

_MOST_TAGS: Final = 1_000_000


@dataclass(slots=True)
class Resolved:
    """The tree that is to be validated, and what is known of it beyond.

    `templates` go by devices' names. `users` are the names of the devices that use a file which several may share.
    `incomplete` are the positions of devices of which something that they name could not be used; `whole` tells
    whether all files with devices could be.
    """

    root: Node
    complaints: list[Complaint]
    templates: dict[str, Template] = field(default_factory=dict)
    users: dict[str, list[str]] = field(default_factory=dict)
    incomplete: set[int] = field(default_factory=set)
    whole: bool = True
    newer: dict[str, int] = field(default_factory=dict)

    def add(self, position: int, device: Assembly, main: str) -> None:
        """Note what is known of a device; `main` is the main file."""
        node = device.node
        name = node.get("name")
        named = name.raw if name is not None else ""
        self.complaints += [complaint._replace(device=named) for complaint in device.complaints]
        if device.incomplete:
            self.incomplete.add(position)
        files = {tag.place.file for tag in device.tags} | {complaint.place.file for complaint in device.complaints}
        if device.template is not None:
            self.templates[named] = device.template
            files.add(device.template.file)
        for file in files - {node.place.file, main}:
            self.users.setdefault(file, []).append(named)


def resolve(root: Node, path: Path) -> Resolved:
    """Resolve the config at `path`, whose own tree is `root`."""
    written = root.entries.get(DEFAULTS)
    standard = written.node if written is not None else Node({}, root.place)
    found = Resolved(root, list(defaults.complaints(standard)))
    tag_files = TagFiles()
    templates = Templates(path.parent, tag_files)
    gathered = gather(root, path, templates, standard.entries.get(TEMPLATE))
    found.complaints += [*gathered.complaints, *links.complaints(gathered.links)]
    found.whole = not gathered.complaints
    sources = Sources(path.parent, standard.entries, gathered.links, templates, tag_files)
    devices: list[Node] = []
    tags = 0
    for position, (device, folder) in enumerate(gathered.devices):
        at = join("devices", position) if device.origin is None else device.origin
        assembly = assemble(device, at, folder, sources)
        tags += len(assembly.tags)
        if tags > _MOST_TAGS:
            found.complaints.append(Complaint(device.place, at, f"makes more than {_MOST_TAGS} tags in all"))
            break
        found.add(position, assembly, root.place.file)
        devices.append(assembly.node)
    found.newer = {name: newest for name, each in found.templates.items() if (newest := templates.newer(each))}
    found.root = _with_devices(root, devices)
    return found


def _with_devices(root: Node, devices: list[Node]) -> Node:
    entries = {key: entry for key, entry in root.entries.items() if key not in BESIDE_DEVICES}
    written = entries.get("devices")
    if written is None and devices:
        entries["devices"] = Entry(root.place, Node(devices, root.place))
    elif written is not None and isinstance(written.node.value, list):
        entries["devices"] = Entry(written.place, replace(written.node, value=devices))
    return replace(root, value=entries)
