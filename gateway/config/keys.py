"""Which keys devices, tags and links have, and which of them hold text."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.checked import Later
from gateway.drivers import Device
from gateway.drivers.base import DeviceSection, Tag

SECTIONS: Final[dict[str, type[DeviceSection]]] = {
    get_args(section.model_fields["protocol"].annotation)[0]: section for section in get_args(get_args(Device)[0])
}
"""The section of each protocol."""

DEFAULTS: Final = "defaults"
INCLUDE: Final = "include"
DEVICES_FILE: Final = "devices_file"
LINKS: Final = "links"
BESIDE_DEVICES: Final = frozenset({DEFAULTS, INCLUDE, DEVICES_FILE, LINKS})
"""Keys at the top of a config that are resolved before it is validated: no field holds them."""

LINK: Final = "link"
TEMPLATE: Final = "template"
VARS: Final = "vars"
TAGS_FILE: Final = "tags_file"
BESIDE_TAGS: Final = frozenset({LINK, TEMPLATE, VARS, TAGS_FILE})
"""Keys of a device that are resolved before it is validated."""

OWN: Final = frozenset({"name"})
"""Keys that every device writes itself."""
NOT_OF_A_LINK: Final = OWN | {
    "tags", "unit_id", "interval", "enabled", "critical", "labels", "topic", "heartbeat", "guard",
}  # fmt: skip
"""Keys that belong to a device, not to the way to it."""
PLACE: Final = frozenset(
    {"protocol", "host", "hosts", "port", "serial", "tls", "endpoint", "security", "username", "password"}
)
"""Keys that say where the line is; a device that names a link has them from there."""


def tag_section(section: type[DeviceSection]) -> type[Tag]:
    """Give the section of a device's tags."""
    found: type[Tag] = get_args(section.model_fields["tags"].annotation)[0]
    return found


def fields(sections: Iterator[type[BaseModel]]) -> Mapping[str, list[FieldInfo]]:
    """Give the fields of several sections, by their key, without those that this version refuses."""
    found: dict[str, list[FieldInfo]] = {}
    for section in sections:
        for key, field in section.model_fields.items():
            if not is_later(field):
                found.setdefault(key, []).append(field)
    return found


def is_later(field: FieldInfo) -> bool:
    """Whether this version refuses the key."""
    return any(isinstance(mark, Later) for mark in field.metadata)


def beside(section: type[BaseModel]) -> frozenset[str]:
    """Give the keys that may be written in a section and are resolved before it is validated."""
    if issubclass(section, DeviceSection):
        return BESIDE_TAGS
    return BESIDE_DEVICES if "devices" in section.model_fields else frozenset()


def _is_text(field: FieldInfo) -> bool:
    choices = [choice for choice in _choices(field.annotation) if choice is not type(None)]
    return all(choice is str or choice is Path or isinstance(choice, str) for choice in choices)


def _choices(annotation: Any) -> Iterator[Any]:
    """Give what an annotation allows: of `Literal["a"] | None` "a" and NoneType."""
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif hasattr(annotation, "__metadata__"):
        yield from _choices(get_args(annotation)[0])
    elif get_origin(annotation) is None or not (arguments := get_args(annotation)):
        yield annotation
    elif get_origin(annotation) in {Union, UnionType}:
        for argument in arguments:
            yield from _choices(argument)
    else:
        yield annotation


_DEVICE_FIELDS: Final = fields(iter(SECTIONS.values()))
_TAG_FIELDS: Final = fields(map(tag_section, SECTIONS.values()))

DEVICE_KEYS: Final = (frozenset(_DEVICE_FIELDS) | BESIDE_TAGS) - {"tags"}
"""What a device may hold beside its tags, whatever its protocol."""
TAG_KEYS: Final = frozenset(_TAG_FIELDS)
LINK_KEYS: Final = frozenset(_DEVICE_FIELDS) - NOT_OF_A_LINK
TEXT_KEYS: Final = frozenset(
    key for every in (_DEVICE_FIELDS, _TAG_FIELDS) for key, found in every.items() if all(map(_is_text, found))
) | {LINK, TEMPLATE, TAGS_FILE}
"""Keys whose value is text, even where it looks like a number."""
