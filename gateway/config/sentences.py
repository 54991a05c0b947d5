"""What pydantic finds wrong, as sentences that say what to write instead and repeat no secret."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from gateway.checked import LaterValues
from gateway.config.keys import SECTIONS, beside, is_later
from gateway.config.nodes import Node
from gateway.drivers.base import DeviceSection

_ALIKE: Final = 0.7
"""How alike two words must be, of 1, for the one to be a misspelling of the other: int8 is none of int64."""
_PATTERNS: Final = {
    r"^[A-Za-z0-9_.-]+$": "may hold letters, digits, '_', '.' and '-' only",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "is not the name of an environment variable",
    r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$": "is not the name of a credential",
    r"^[^\x00]*$": "cannot hold a NUL character",
}


def sentence(error: ErrorDetails, node: Node, sections: tuple[type[BaseModel], ...]) -> str:
    """Say what is wrong at `node`; `sections` are those that may hold the last key of the error's `loc`."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return _missing(str(error["loc"][-1]), sections)
    if kind == "extra_forbidden":
        return unknown_key(str(error["loc"][-1]), keys(sections))
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        return _protocol(context.get("tag"))
    if kind == "literal_error":
        return _choice(node, str(context["expected"]), _later_values(error["loc"], sections))
    limit = _LIMITS.get(kind)
    if limit is not None:
        return limit(context)
    wanted = next((text for prefix, text in _TYPES if kind.startswith(prefix)), None)
    return "is not a valid value here" if wanted is None else _wrong_type(wanted, node)


_LIMITS: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "greater_than": lambda context: f"must be more than {context['gt']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "less_than": lambda context: f"must be less than {context['lt']}",
    "string_too_short": lambda _: "cannot be empty",
    "string_too_long": lambda context: f"is longer than {context['max_length']} characters",
    "string_pattern_mismatch": lambda context: _PATTERNS.get(context["pattern"], "holds characters it cannot hold"),
}
_TYPES: Final = (
    ("model", "keys and values"),
    ("dict", "keys and values"),
    ("tuple", "a list"),
    ("string", "text"),
    ("path", "text"),
    ("int", "a whole number"),
    ("float", "a number"),
    ("bool", "true or false"),
)


def _wrong_type(wanted: str, node: Node) -> str:
    if wanted == "text" and node.raw:
        return f'must be text; write it in quotes: "{node.raw}"'
    if wanted == "a whole number" and node.raw.replace("_", "").isdecimal():
        return f"must be a whole number; write {node.raw.replace('_', '')}"
    hint = {"yes": "; write true", "on": "; write true", "no": "; write false", "off": "; write false"}
    lower = node.raw.lower()
    if wanted == "true or false":
        return f"must be {wanted}" + (f"; write {lower}" if lower in {"true", "false"} else hint.get(lower, ""))
    return f"must be {wanted}"


def _missing(key: str, sections: Iterable[type[BaseModel]]) -> str:
    fields = (section.model_fields.get(key) for section in sections)
    description = next((field.description for field in fields if field is not None and field.description), None)
    brief = re.split(r"[,;] | \(", description or "")[0]
    return f"is missing; write {key}: with {brief}" if brief else f"is missing; write {key}:"


def _protocol(tag: object) -> str:
    choices = listed(SECTIONS)
    if tag is None:
        return f"is missing; write protocol: with {choices}"
    return f"there is no protocol {str(tag)!r}; write {choices}{did_you_mean(str(tag), SECTIONS)}"


def _choice(node: Node, expected: str, refused: set[str]) -> str:
    found = (quoted or bare for quoted, bare in re.findall(r"'([^']*)'|([^\s',]+)", expected) if bare != "or")
    choices = [choice for choice in found if choice not in refused]
    written = f", not {node.raw!r}" if node.raw else ""
    return f"must be {listed(choices)}{written}{did_you_mean(node.raw, choices)}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that there is no such key, and which one was probably meant."""
    keys = sorted(known)
    near = did_you_mean(key, keys)
    return f"there is no such key here{near or '; there are ' + listed(keys, 'and')}"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Give `; did you mean this?` where a word is like the one that was written, else nothing."""
    known = {choice.lower(): choice for choice in words}
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=_ALIKE)
    return f"; did you mean {known[close[0]]}?" if close else ""


def listed(words: Iterable[str], last: str = "or") -> str:
    """Write words as a sentence does: `a, b or c`."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail


def keys(sections: Iterable[type[BaseModel]]) -> Iterator[str]:
    """Give the keys that this version takes."""
    for section in sections:
        yield from (key for key, field in section.model_fields.items() if not is_later(field))
        yield from beside(section)


def _later_values(loc: tuple[int | str, ...], sections: Iterable[type[BaseModel]]) -> set[str]:
    fields = (section.model_fields.get(str(loc[-1])) for section in sections)
    marks = (mark for field in fields if field is not None for mark in field.metadata)
    return {value for mark in marks if isinstance(mark, LaterValues) for value in mark.values}


def sections_at(root: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[type[BaseModel], ...]:
    """Give the sections of which the last part of an error's `loc` is, or should be, a key."""
    sections: tuple[type[BaseModel], ...] = (root,)
    for part in loc[:-1]:
        if part in SECTIONS and all(issubclass(section, DeviceSection) for section in sections):
            sections = (SECTIONS[str(part)],)
        elif isinstance(part, str):
            fields = [section.model_fields[part] for section in sections if part in section.model_fields]
            sections = tuple(found for field in fields for found in _within(field.annotation)) or sections
    return sections


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    """Give the sections that an annotation holds: of `tuple[A | B, ...]` A and B."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _within(argument)
