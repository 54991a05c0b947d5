"""`defaults`: keys that every device has which does not write them itself."""

from collections.abc import Iterator

from gateway.config.keys import BESIDE_TAGS, DEFAULTS, OWN, SECTIONS
from gateway.config.nodes import Complaint, Node, join
from gateway.config.sentences import keys, unknown_key


def complaints(defaults: Node) -> Iterator[Complaint]:
    """Give what is no key of any device, and what every device has of its own."""
    if not isinstance(defaults.value, dict):
        if defaults.value is not None:
            yield Complaint(defaults.place, DEFAULTS, "must be keys and values, not a list or text")
        return
    known = set(keys(SECTIONS.values())) - OWN
    fields = BESIDE_TAGS.union(*(section.model_fields for section in SECTIONS.values()))
    for key, entry in defaults.entries.items():
        if key in OWN:
            yield Complaint(entry.place, join(DEFAULTS, key), "every device needs its own; remove it from defaults")
        elif key not in fields:
            yield Complaint(entry.place, join(DEFAULTS, key), unknown_key(key, known))
