"""`links`: the way to devices that share a line or a gateway, written once and named by each of them."""

from collections.abc import Iterator, Mapping

from gateway.config.keys import LINK, LINK_KEYS, LINKS, NOT_OF_A_LINK, PLACE
from gateway.config.nodes import Complaint, Entry, Node, join, moved
from gateway.config.sentences import did_you_mean, unknown_key
from gateway.config.templates import Template


def complaints(links: Mapping[str, Entry]) -> Iterator[Complaint]:
    """Give what is no setting of a link."""
    for name, link in links.items():
        at = join(LINKS, name)
        if not isinstance(link.node.value, dict):
            if link.node.value is not None:
                yield Complaint(link.node.place, at, "must be keys and values, such as {protocol: modbus-tcp, host: …}")
            continue
        for key, entry in link.node.entries.items():
            if key in NOT_OF_A_LINK:
                yield Complaint(entry.place, join(at, key), "belongs to a device, not to the way to it; write it there")
            elif key not in LINK_KEYS:
                yield Complaint(entry.place, join(at, key), unknown_key(key, LINK_KEYS))


def find(node: Node, links: Mapping[str, Entry], path: str) -> tuple[dict[str, Entry] | None, list[Complaint]]:
    """Give the settings of the link that a device names at `node`; None if there is no such link."""
    if not isinstance(node.value, str):
        wrong = [] if node.value is None else [Complaint(node.place, path, "must be the name of a link")]
        return None, wrong
    link = links.get(node.value)
    if link is None:
        hint = did_you_mean(node.value, links) or f"; write it in {LINKS}:"
        return None, [Complaint(node.place, path, f"there is no link {node.value}{hint}")]
    if not isinstance(link.node.value, dict):
        return None, []
    at = join(LINKS, node.value)
    entries = link.node.entries.items()
    return {key: Entry(place, moved(inner, join(at, key))) for key, (place, inner) in entries if key in LINK_KEYS}, []


def contradictions(
    own: Mapping[str, Entry], template: Template | None, link: Mapping[str, Entry], named: Node, path: str
) -> Iterator[Complaint]:
    """Give the keys that say where a device is although its link, named at `named`, says so."""
    below = template.entries if template is not None else {}
    for key in PLACE & (own.keys() | below.keys()):
        entry = own.get(key)
        node = entry.node if entry is not None else below[key].node
        ours = link.get(key)
        if key == "protocol" and ours is not None:
            if node.value == ours.node.value or node.value is None:
                continue
            text = f"is {node.raw}, but link {named.raw} is {ours.node.raw}; write it in one of the two"
        else:
            text = f"is a matter of link {named.raw}; write it there, or remove link:"
        if entry is not None:
            yield Complaint(entry.place, join(path, key) if node.origin is None else node.origin, text)
        elif template is not None:
            where = f"{template.file}:{below[key].place.line}"
            told = f"{key} of template {template.name} ({where}) {text}"
            yield Complaint(named.place, join(path, LINK) if named.origin is None else named.origin, told)
