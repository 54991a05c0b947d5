"""What the config's own models find wrong with a device or tag that a command makes, as one sentence."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gateway.checked import FAULTS

_Section = TypeVar("_Section", bound=BaseModel)

_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "missing": lambda _: "is missing",
    "literal_error": lambda context: f"must be {str(context['expected']).replace(chr(39), '')}",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "int_parsing": lambda _: "must be a whole number",
    "string_pattern_mismatch": lambda _: "must begin with /, such as /dev/ttyUSB0",
    "string_too_short": lambda _: "cannot be empty",
}


def refusal(error: ValidationError) -> str:
    """Give the first thing that is wrong, with its key: `serial.parity: must be E, O or N`."""
    first = error.errors()[0]
    context = first.get("ctx", {})
    found = context.get(FAULTS) if first["type"] == FAULTS else None
    at, text = (found[0].at, found[0].text) if found else (first["loc"], first["msg"])
    if first["type"] == "value_error":
        text = str(context["error"])
    elif first["type"] in _SENTENCES:
        text = _SENTENCES[first["type"]](context)
    key = ".".join(part for part in at if isinstance(part, str) and part != "tags" and not part.startswith("modbus-"))
    return f"{key}: {text}" if key else text


def section_of(kind: type[_Section], document: Mapping[str, object]) -> _Section:
    """Make a section of what a command line says. Raises ValueError with a sentence."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ValueError(refusal(error)) from error
