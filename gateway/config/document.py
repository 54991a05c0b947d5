"""The config's JSON Schema, for editors: what this version takes, key by key."""

from typing import Any, Final

from gateway.config import defaults
from gateway.config.schema import Config
from gateway.config.sentences import SECTIONS
from gateway.quantities import DURATION_PATTERN, format_duration

Shape = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DEFAULTS: Final = "Defaults"


def json_schema() -> Shape:
    """Give the JSON Schema (draft 2020-12) of a config file."""
    shape = Config.model_json_schema()
    shape["$defs"][_DEFAULTS] = _defaults(shape["$defs"])
    shape["properties"][defaults.KEY] = {"$ref": f"#/$defs/{_DEFAULTS}"}
    shape["required"] = [*shape["required"], "devices"]
    shape["properties"]["devices"]["minItems"] = 1
    return {"$schema": _DIALECT, "title": "edge-gateway configuration", **_as_written(shape)}


def _defaults(definitions: Shape) -> Shape:
    """Any key of any device but its name; a key that two protocols have may be what either takes."""
    properties: dict[str, list[Shape]] = {}
    for section in SECTIONS.values():
        for key, shape in definitions[section.__name__]["properties"].items():
            shapes = properties.setdefault(key, [])
            if key not in defaults.OWN and shape not in shapes:
                shapes.append(shape)
    return {
        "description": "Keys that every device has which does not write them itself.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            key: shapes[0] if len(shapes) == 1 else {"anyOf": shapes} for key, shapes in properties.items() if shapes
        },
    }


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
