"""All devices and links of a config: its own, those of the files that it includes, and the rows of its devices_file."""

import glob
import os.path
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.config import rows
from gateway.config.keys import DEVICES_FILE, INCLUDE, LINKS
from gateway.config.nodes import Complaint, Entry, Node, join, moved, read
from gateway.config.sources import file_named, text_named_at
from gateway.config.templates import Templates

_MOST_FILES: Final = 1000
_WILDCARDS: Final = frozenset("*?[")


@dataclass(slots=True)
class Gathered:
    """Devices, each with the folder of the file it is written in, and links by their names."""

    devices: list[tuple[Node, Path]] = field(default_factory=list)
    links: dict[str, Entry] = field(default_factory=dict)
    complaints: list[Complaint] = field(default_factory=list)


def gather(root: Node, path: Path, templates: Templates, standard: Entry | None) -> Gathered:
    """Collect what a config is written in. `standard` is the template that `defaults` names, if it does."""
    gathered = Gathered()
    _take(root, path.parent, gathered, inside=False)
    for file, node, at in _included(root, path, gathered.complaints):
        _read(file, node, at, gathered)
    entry = root.entries.get(DEVICES_FILE)
    if entry is not None:
        file_path, complaints = file_named(entry.node, path.parent, DEVICES_FILE)
        gathered.complaints += complaints
        if file_path is not None:
            devices, complaints = rows.devices(entry.node, file_path, templates, standard)
            gathered.devices += [(device, file_path.parent) for device in devices]
            gathered.complaints += complaints
    return gathered


def _take(root: Node, folder: Path, gathered: Gathered, *, inside: bool) -> None:
    """Take the devices and links of one file; `inside`: of an included one."""
    devices = root.get("devices")
    if devices is not None and isinstance(devices.value, list):
        elements = enumerate(devices.elements)
        gathered.devices += [(moved(each, join("devices", n)) if inside else each, folder) for n, each in elements]
    elif devices is not None and inside and devices.value is not None:
        gathered.complaints.append(Complaint(devices.place, "devices", "must be a list"))
    links = root.get(LINKS)
    if links is not None and not isinstance(links.value, dict) and links.value is not None:
        gathered.complaints.append(Complaint(links.place, LINKS, "must be keys and values"))
    for name, entry in links.entries.items() if links is not None else ():
        if name in gathered.links:
            taken = gathered.links[name].place.seen_from(entry.place)
            text = f"the name {name} is taken by {taken}; write another"
            gathered.complaints.append(Complaint(entry.place, join(LINKS, name), text))
        else:
            gathered.links[name] = entry


def _included(root: Node, path: Path, complaints: list[Complaint]) -> Iterator[tuple[Path, Node, str]]:
    """Give each file that a pattern names, once, and where the pattern is written."""
    include = root.get(INCLUDE)
    if include is None:
        return
    if not isinstance(include.value, list):
        if include.value is not None:
            text = "must be a list of files, such as [conf.d/*.yaml]"
            complaints.append(Complaint(include.place, INCLUDE, text))
        return
    seen = {path.absolute()}
    for number, node in enumerate(include.elements):
        at = join(INCLUDE, number)
        named, found = file_named(node, path.parent, at)
        complaints += found
        for file in () if named is None else _matching(str(node.value), named, path.parent):
            if file.absolute() in seen:
                continue
            if len(seen) > _MOST_FILES:
                complaints.append(Complaint(node.place, at, f"names more than {_MOST_FILES} files"))
                return
            seen.add(file.absolute())
            yield file, node, at


def _matching(pattern: str, named: Path, folder: Path) -> list[Path]:
    if _WILDCARDS.isdisjoint(pattern):
        return [named]
    start = pattern if Path(pattern).is_absolute() else f"{glob.escape(str(folder))}/{pattern}"
    found = (Path(file) for file in sorted(glob.glob(start, recursive=True)))  # noqa: PTH207 -- takes any pattern
    return [file for file in found if not os.path.isdir(file)]  # noqa: PTH112 -- false, not an error, if it may not look


def _read(file: Path, node: Node, at: str, gathered: Gathered) -> None:
    text, complaints = text_named_at(node, file, at)
    gathered.complaints += complaints
    if text is None:
        return
    root, complaints = read(str(file), text)
    gathered.complaints += complaints
    if root is None:
        return
    if not isinstance(root.value, dict):
        gathered.complaints.append(Complaint(root.place, "", "an included file must hold devices: and links:"))
        return
    for key, entry in root.entries.items():
        if key not in {"devices", LINKS}:
            text = "an included file holds devices: and links: only; write it in the main file"
            gathered.complaints.append(Complaint(entry.place, join("", key), text))
    _take(root, file.parent, gathered, inside=True)
