"""Tags that devices share are validated once, and are the same objects in each of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from gateway.config.keys import SECTIONS
from gateway.config.nodes import Node
from gateway.drivers.base import Tag

Tags = tuple[Tag, ...]


@dataclass(slots=True)
class Validated:
    """The lists of tags that could be validated; `numbers` says which is whose, by the device's position."""

    lists: list[Tags] = field(default_factory=lambda: [()])
    numbers: dict[int, int] = field(default_factory=dict)
    errors: list[ErrorDetails] = field(default_factory=list)


@dataclass(slots=True)
class _Kind:
    """The different tags of one protocol, and where each is used first: the device's position and the tag's."""

    protocol: str
    nodes: list[Node] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    def add(self, node: Node, place: tuple[int, int]) -> int:
        """Give the number of a tag."""
        number = self.numbers.setdefault(id(node), len(self.nodes))
        if number == len(self.nodes):
            self.nodes.append(node)
            self.places.append(place)
        return number


def validate(devices: list[Node], context: Mapping[str, Any]) -> Validated:
    """Validate the tags of all devices. Of a device with a broken tag no list is given, and number 0 is the empty one.

    Nodes that are one object are one tag, and devices whose lists hold the same tags get the same list.
    """
    kinds: dict[str, _Kind] = {}
    wanted: dict[int, tuple[str, tuple[int, ...]]] = {}
    for position, device in enumerate(devices):
        protocol, tags = device.get("protocol"), device.get("tags")
        if protocol is None or protocol.raw not in SECTIONS or tags is None or not isinstance(tags.value, list):
            continue
        kind = kinds.setdefault(protocol.raw, _Kind(protocol.raw))
        numbers = tuple(kind.add(tag, (position, number)) for number, tag in enumerate(tags.value))
        wanted[position] = (protocol.raw, numbers)
    found = Validated()
    known = {protocol: _tags(kind, context, found.errors) for protocol, kind in kinds.items()}
    numbered: dict[tuple[str, tuple[int, ...]], int] = {}
    for position, list_wanted in wanted.items():
        found.numbers[position] = numbered.setdefault(list_wanted, len(found.lists))
        if found.numbers[position] == len(found.lists):
            right = known[list_wanted[0]]
            whole = all(number in right for number in list_wanted[1])
            found.lists.append(tuple(right[number] for number in list_wanted[1]) if whole else ())
    return found


def _tags(kind: _Kind, context: Mapping[str, Any], errors: list[ErrorDetails]) -> dict[int, Tag]:
    """Give the tags that are right by their numbers, and the errors of the others with the place of the first use."""
    listed: Any = SECTIONS[kind.protocol].model_fields["tags"].annotation
    adapter: TypeAdapter[Tags] = TypeAdapter(listed)
    numbers = list(range(len(kind.nodes)))
    try:
        return dict(zip(numbers, _validated(adapter, kind, numbers, context), strict=True))
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
    for each in found:
        position, number = kind.places[int(each["loc"][0])]
        errors.append({**each, "loc": ("devices", position, kind.protocol, "tags", number, *each["loc"][1:])})
    broken = {each["loc"][0] for each in found}
    numbers = [number for number in numbers if number not in broken]
    return dict(zip(numbers, _validated(adapter, kind, numbers, context), strict=True))


def _validated(adapter: TypeAdapter[Tags], kind: _Kind, numbers: list[int], context: Mapping[str, Any]) -> Tags:
    # JSON, not Python objects: in pydantic's strict mode only JSON's lists and texts may become tuples and paths.
    text = json.dumps([kind.nodes[number].plain() for number in numbers], allow_nan=False)
    return adapter.validate_json(text, strict=True, context=dict(context))
