"""The config's JSON Schema, for editors: what this version takes, key by key."""

from collections.abc import Collection, Iterable
from typing import Any, Final

from gateway.config.keys import (
    DEFAULTS,
    DEVICES_FILE,
    INCLUDE,
    LINK,
    LINK_KEYS,
    LINKS,
    OWN,
    SECTIONS,
    TAGS_FILE,
    TEMPLATE,
    VARS,
    tag_section,
)
from gateway.config.schema import Config
from gateway.quantities import DURATION_PATTERN, format_duration

Shape = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FILE: Final[Shape] = {"type": "string", "minLength": 1}
_SCALAR: Final[Shape] = {"type": ["string", "number", "boolean"]}
_BESIDE_TAGS: Final[Shape] = {
    LINK: {"type": "string", "description": "one of links: the way to the device"},
    TEMPLATE: {
        "type": "string",
        "description": "devices/NAME.yaml beside this file, or a shipped one; NAME@2 is its version 2",
    },
    VARS: {"type": "object", "additionalProperties": _SCALAR, "description": "values for the template's variables"},
    TAGS_FILE: {**_FILE, "description": "a CSV file whose columns are keys of tags"},
}
_BESIDE_DEVICES: Final[Shape] = {
    INCLUDE: {
        "type": "array",
        "items": _FILE,
        "description": "files with more devices: and links:, such as conf.d/*.yaml",
    },
    DEVICES_FILE: {
        **_FILE,
        "description": "a CSV file with a row for each device; columns are keys of devices and vars of their template",
    },
}


def json_schema() -> Shape:
    """Give the JSON Schema (draft 2020-12) of a config file."""
    shape = Config.model_json_schema()
    definitions, top = shape["$defs"], shape["properties"]
    for section in SECTIONS.values():
        definitions[section.__name__]["properties"] |= _BESIDE_TAGS
    definitions |= {
        "Defaults": _any_of(
            definitions, "Keys that every device has which does not write them itself.", _keys(definitions) - OWN
        ),
        "Link": _any_of(definitions, "The way to devices that share a line or a gateway.", LINK_KEYS),
        "PartOfATag": _tag(definitions),
    }
    definitions["PartOfADevice"] = _device(definitions)
    top[DEFAULTS] = {"$ref": "#/$defs/Defaults"}
    top[LINKS] = {
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/Link"},
        "description": "lines and gateways that several devices share, by names that they refer to",
    }
    top |= _BESIDE_DEVICES
    devices = top["devices"]
    devices["items"] = {
        "if": {"anyOf": [{"required": [key]} for key in (LINK, TEMPLATE)]},
        "then": {"$ref": "#/$defs/PartOfADevice"},
        "else": devices["items"],
    }
    devices["minItems"] = 1
    shape["anyOf"] = [{"required": [key]} for key in ("devices", DEVICES_FILE, INCLUDE)]
    return {"$schema": _DIALECT, "title": "edge-gateway configuration", **_as_written(shape)}


def _keys(definitions: Shape) -> set[str]:
    return {key for section in SECTIONS.values() for key in definitions[section.__name__]["properties"]}


def _any_of(definitions: Shape, description: str, wanted: Collection[str]) -> Shape:
    """Some keys of any device; a key that two protocols have may be what either takes."""
    sections = [definitions[section.__name__] for section in SECTIONS.values()]
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "properties": {key: shape for key, shape in _united(sections).items() if key in wanted},
    }


def _device(definitions: Shape) -> Shape:
    """A device that has the rest of its keys from a template or a link: any key of any protocol."""
    shape = _any_of(definitions, "A device with a template or a link.", _keys(definitions))
    shape["properties"]["tags"] = {"type": "array", "items": {"$ref": "#/$defs/PartOfATag"}}
    return {**shape, "required": sorted(OWN)}


def _tag(definitions: Shape) -> Shape:
    """A tag that may have the rest of its keys from a template's tag of the same name."""
    sections = [definitions[tag_section(section).__name__] for section in SECTIONS.values()]
    return {
        "description": "A tag, or what is different in the template's tag of the same name.",
        "type": "object",
        "additionalProperties": False,
        "required": ["name"],
        "properties": _united(sections),
    }


def _united(sections: Iterable[Shape]) -> Shape:
    found: dict[str, list[Shape]] = {}
    for section in sections:
        for key, shape in section["properties"].items():
            shapes = found.setdefault(key, [])
            if shape not in shapes:
                shapes.append(shape)
    return {key: shapes[0] if len(shapes) == 1 else {"anyOf": shapes} for key, shapes in found.items()}


def _as_written(shape: Any) -> Any:
    """Remove what pydantic adds and no config writes: null for a key that is left out, numbers as text, titles."""
    if isinstance(shape, list):
        return [_as_written(element) for element in shape]
    if not isinstance(shape, dict):
        return shape
    kept = {key: _as_written(value) for key, value in shape.items() if value is not None and key != "title"}
    if kept.get("pattern") == DURATION_PATTERN and "default" in kept:
        kept["default"] = format_duration(kept["default"])
    if "const" in kept and "default" in kept:
        kept["default"] = kept["const"]
    choices = [choice for choice in kept.get("anyOf", ()) if choice.get("type") != "null"]
    if [choice.get("type") for choice in choices] == ["number", "string"] and "pattern" not in shape["anyOf"][-1]:
        choices.pop()
    if len(choices) == 1:
        return {**choices[0], **{key: value for key, value in kept.items() if key != "anyOf"}}
    return {**kept, "anyOf": choices} if choices else kept
