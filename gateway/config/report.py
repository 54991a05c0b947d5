"""Where in the file something is wrong: pydantic's errors as problems with path, line and column."""

from collections.abc import Iterable, Iterator, Sequence

from pydantic_core import ErrorDetails

from gateway.checked import FAULTS, Fault
from gateway.config.nodes import Node, Place, join
from gateway.config.schema import Config
from gateway.config.sentences import sections_at, sentence
from gateway.errors import Problem
from gateway.secret import FORMS, Secret

Loc = tuple[int | str, ...]


def problems(file: str, root: Node, error: ErrorDetails, kept: Sequence[int] | None = None) -> Iterator[Problem]:
    """Translate one of pydantic's errors; `kept` are the positions in the file of the devices that it has seen."""
    loc = error["loc"]
    if error["type"] == FAULTS:
        for fault in error["ctx"][FAULTS]:
            at = _in_file(fault, kept) if not loc else fault.at
            _, path, place = locate(root, (*loc, *at), certain=len(at))
            yield Problem(file, *place, path, fault.text)
        return
    node, path, place = locate(root, loc, certain=1 if error["type"] == "missing" else 0)
    sections = sections_at(Config, loc)
    if error["type"] == "extra_forbidden":
        place = _key_place(root, loc) or place
        if Secret in sections:  # the key is not repeated: it may be the secret
            text = f"there is no such key in a secret; write {FORMS}"
            yield Problem(file, *place, locate(root, loc[:-1], certain=0)[1], text)
            return
    elif error["type"].startswith("union_tag"):
        path, place = _protocol(node, path)
    elif node.value is None:
        return  # the file's reader has said what is wrong with it
    yield Problem(file, *place, path, sentence(error, node, sections))


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
            node, path = following, following.origin or join(path, part)
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
    return protocol.origin or join(path, "protocol"), protocol.place


def ordered(found: Iterable[Problem]) -> list[Problem]:
    """Order by place; what `defaults` or an alias brings into several devices is said once."""
    unique: dict[tuple[int, int, str], Problem] = {}
    for problem in found:
        unique.setdefault((problem.line, problem.column, problem.text), problem)
    return sorted(unique.values(), key=lambda problem: (problem.line, problem.column, problem.path))
