"""Durations, sizes and names as a config writes them: every number carries its unit."""

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, StringConstraints, WithJsonSchema

_DURATIONS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def parse_duration(text: object) -> float:
    """Read "250ms", "1s", "5m", "12h" or "30d" as seconds. Raises ValueError with a sentence for the integrator."""
    return _parse(text, _DURATIONS, "a duration such as 250ms, 1s, 5m, 12h or 30d")


def parse_size(text: object) -> int:
    """Read "64KiB" or "1GiB" as bytes. Raises ValueError with a sentence for the integrator."""
    return int(_parse(text, _SIZES, "a size such as 64KiB, 8MiB or 1GiB"))


def _parse(text: object, units: Mapping[str, float], wanted: str) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"{text} has no unit; write {wanted}")  # noqa: TRY004 -- pydantic reports ValueError
    match = _QUANTITY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{text!r} is not {wanted}")
    return float(match[1]) * units[match[2]]


def _bounded(low: float | None, high: float | None, unit: str) -> Callable[[float], float]:
    def check(value: float) -> float:
        if low is not None and value < low:
            raise ValueError(f"must be at least {low:g}{unit}")
        if high is not None and value > high:
            raise ValueError(f"must be at most {high:g}{unit}")
        return value

    return check


def _json(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


_DURATION_PATTERN: Final = r"^\d+(\.\d+)?\s*(ms|s|m|h|d)$"
_SIZE_PATTERN: Final = r"^\d+(\.\d+)?\s*(B|KiB|MiB|GiB|TiB)$"


def _duration(low: float | None = None, high: float | None = None) -> tuple[Any, ...]:
    check = _bounded(low, high, "s")
    return (BeforeValidator(lambda text: check(parse_duration(text))), _json(_DURATION_PATTERN))


Duration = Annotated[float, *_duration()]
"""Seconds, zero allowed; written with a unit."""
PositiveDuration = Annotated[float, *_duration(low=0.001)]
"""Seconds, at least a millisecond; written with a unit."""
Size = Annotated[int, BeforeValidator(parse_size), _json(_SIZE_PATTERN)]
"""Bytes; written with a unit."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$", min_length=1, max_length=128)]
"""A gateway's or device's name: it becomes a level of an MQTT topic."""
