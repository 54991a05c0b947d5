"""Where in the files something is wrong: pydantic's errors as complaints with place and path."""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.checked import FAULTS, Fault
from gateway.config.nodes import Complaint, Node, Place, join
from gateway.config.schema import Config
from gateway.config.sentences import sections_at, sentence
from gateway.errors import Problem
from gateway.secret import FORMS, Secret

Loc = tuple[int | str, ...]

_NUMBER: Final = re.compile(r"[0-9]+")
_KEY: Final = "[key]"
"""What pydantic calls a mapping's key in the place of an error."""


def complaints(
    root: Node, error: ErrorDetails, kept: Sequence[int] | None = None, shape: type[BaseModel] = Config
) -> Iterator[Complaint]:
    """Translate one of pydantic's errors; `kept` are the positions in the tree of the devices that it has seen."""
    loc = error["loc"]
    if error["type"] == FAULTS:
        for fault in error["ctx"][FAULTS]:
            at = _in_file(fault, kept) if not loc else fault.at
            _, path, place = locate(root, (*loc, *at), certain=len(at))
            yield Complaint(place, path, fault.text, _device(root, (*loc, *at)))
        return
    node, path, place = locate(root, loc, certain=1 if error["type"] == "missing" else 0)
    sections = sections_at(shape, loc)
    device = _device(root, loc)
    if loc[-1:] == (_KEY,):
        yield Complaint(_key_place(root, loc[:-1]) or place, path, "must have whole numbers as keys", device)
        return
    if error["type"] == "extra_forbidden":
        place = _key_place(root, loc) or place
        if Secret in sections:  # the key is not repeated: it may be the secret
            text = f"there is no such key in a secret; write {FORMS}"
            yield Complaint(place, locate(root, loc[:-1], certain=0)[1], text, device)
            return
    elif error["type"].startswith("union_tag"):
        path, place = _protocol(node, path)
    elif node.value is None:
        return  # the file's reader has said what is wrong with it
    yield Complaint(place, path, sentence(error, node, sections), device)


def is_known(error: ErrorDetails, incomplete: Container[int]) -> bool:
    """Whether an error only says that a device lacks what could not be taken from where it should come from."""
    loc = error["loc"]
    if loc[:1] != ("devices",) or len(loc) < 2 or loc[1] not in incomplete or "tags" in loc:
        return False
    if error["type"] == FAULTS:
        return all(fault.text.startswith("is missing") for fault in error["ctx"][FAULTS])
    return error["type"] == "missing" or error["type"] == "union_tag_not_found"


def _device(root: Node, loc: Loc) -> str:
    name = locate(root, loc[:2], certain=0)[0].get("name") if loc[:1] == ("devices",) and len(loc) > 1 else None
    return name.raw if name is not None else ""


def _in_file(fault: Fault, kept: Sequence[int] | None) -> Loc:
    match fault.at:
        case ("devices", int(position), *rest) if kept is not None:
            return ("devices", kept[position], *rest)
        case at:
            return at


def locate(root: Node, loc: Loc, certain: int) -> tuple[Node, str, Place]:
    """Follow `loc` through the file as far as it goes; give the node, its path and its place.

    pydantic's locs hold names of union members too, which the file does not; only the last `certain` parts are
    sure to be keys, and belong to the path even where the file does not have them.
    """
    node, path = root, ""
    for position, part in enumerate(loc):
        following = _step(node, part)
        if following is not None:
            node, path = following, join(path, part) if following.origin is None else following.origin
        elif position >= len(loc) - certain:
            path = join(path, part)
    return node, path, node.place


def _step(node: Node, part: int | str) -> Node | None:
    if isinstance(part, str):
        return node.get(part)
    return node.elements[part] if part < len(node.elements) else None


def _key_place(root: Node, loc: Loc) -> Place | None:
    parent, _, _ = locate(root, loc[:-1], certain=0)
    entry = parent.entries.get(str(loc[-1]))
    return entry.place if entry else None


def _protocol(device: Node, path: str) -> tuple[str, Place]:
    protocol = device.get("protocol")
    if protocol is None:
        return join(path, "protocol"), device.place
    return join(path, "protocol") if protocol.origin is None else protocol.origin, protocol.place


def ordered(found: Iterable[Complaint], file: str, users: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Order by place, those in the main `file` first; what several devices share is said once.

    `users` are the devices that use a file which several may share.
    """
    unique: dict[tuple[Place, str], Complaint] = {}
    for complaint in found:
        text = _NUMBER.sub("0", complaint.text) if complaint.place.file in users else complaint.text
        unique.setdefault((complaint.place, text), complaint)
    first = sorted(unique.values(), key=lambda each: (each.place.file != file, each.place, each.path))
    return [Problem(*each.place, _shown(each.path), _shown(each.text) + _used_by(each, users)) for each in first]


def _shown(text: str) -> str:
    """Write out what a terminal would not show, or would obey."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _used_by(complaint: Complaint, users: Mapping[str, Sequence[str]]) -> str:
    sharing = users.get(complaint.place.file, ())
    if not sharing or complaint.place.line == 0:
        return ""
    more = f" and {len(sharing) - 1} more" if len(sharing) > 1 else ""
    return f" (used by {_shown(complaint.device or sharing[0])}{more})"
