"""How commands write values and tags' keys for people: exact, on one line, and ready to be copied into a config."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.commissioning.surprise import digits_of_float32
from gateway.logs import printable


def shown(value: Any, kind: str | None = None) -> str:
    """Write a value as its type prints: a float32 with the digits that it has."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and kind in {"float32", "float16"} and value:
        return f"{value:.{digits_of_float32(value)}g}"
    if isinstance(value, float):
        return f"{value:g}" if value == float(f"{value:g}") else repr(value)
    if isinstance(value, str):
        return json.dumps(printable(value), ensure_ascii=False)
    if isinstance(value, Sequence):
        return "[" + ", ".join(shown(one, kind) for one in value) + "]"
    return str(value)


def keys_line(keys: Mapping[str, Any]) -> str:
    """Write keys of a tag as YAML on one line: `type: float32, byte_order: CDAB`."""
    return ", ".join(f"{key}: {value}" for key, value in keys.items())


def words(registers: Sequence[int]) -> str:
    """Write registers in hexadecimal: `0x0000 0x41ac`."""
    return " ".join(f"0x{register:04x}" for register in registers)


def count(number: int, noun: str) -> str:
    """Write how many there are: `1 tag`, `2 tags`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
