"""Durations, sizes and names as a config writes them: every number carries its unit."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, WithJsonSchema

_DURATIONS: Final = {unit: Decimal(s) for unit, s in (("ms", "0.001"), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400))}
_SIZES: Final = {"B": Decimal(1)} | {f"{prefix}iB": Decimal(1024**n) for n, prefix in enumerate("KMGT", start=1)}
_QUANTITY: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]*)")

LONGEST_S: Final = 36500 * 86400.0
"""The longest duration that a config may write: a hundred years."""
LARGEST: Final = 1 << 50
"""The largest size that a config may write, in bytes: a pebibyte."""


def parse_duration(text: object) -> float:
    """Read "250ms", "1s", "5m", "12h" or "30d" as seconds. Raises ValueError with a sentence for the integrator."""
    seconds = float(_parse(text, _DURATIONS, "a duration such as 250ms, 1s, 5m, 12h or 30d"))
    if seconds > LONGEST_S:
        raise ValueError(f"{text} is longer than a hundred years")
    return seconds


def parse_size(text: object) -> int:
    """Read "64KiB" or "1GiB", or a bare number of bytes, as bytes. Raises ValueError with a sentence."""
    if isinstance(text, int) and not isinstance(text, bool):
        size = Decimal(text)
    else:
        size = _parse(text, _SIZES, "a size such as 64KiB, 8MiB or 1GiB, or a number of bytes")
    if not 0 <= size <= LARGEST:
        raise ValueError(f"{text} is not a size between 0 and 1024TiB")
    if size != int(size):
        raise ValueError(f"{text} is not a whole number of bytes")
    return int(size)


def format_duration(seconds: float) -> str:
    """Write seconds as a config would: 0.25 as "250ms", 900 as "15m"."""
    exact = Decimal(repr(float(seconds)))
    for unit in ("d", "h", "m", "s"):
        if exact and exact % _DURATIONS[unit] == 0:
            return f"{exact / _DURATIONS[unit]:.0f}{unit}"
    return f"{(exact * 1000).normalize():f}ms" if exact else "0s"


def format_size(size: int) -> str:
    """Write bytes as a config would: 65536 as "64KiB"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % int(_SIZES[unit]) == 0:
            return f"{size // int(_SIZES[unit])}{unit}"
    return f"{size}B"


def _parse(text: object, units: Mapping[str, Decimal], wanted: str) -> Decimal:
    if isinstance(text, int | float) and not isinstance(text, bool):
        raise ValueError(f"{text} has no unit; write {wanted}")  # noqa: TRY004 -- pydantic reports ValueError
    if not isinstance(text, str):
        raise ValueError(f"must be {wanted}")  # noqa: TRY004 -- pydantic reports ValueError
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not {wanted}")
    if match[2] not in units:
        raise ValueError(_wrong_unit(text, match[1], match[2], units, wanted))
    return Decimal(match[1]) * units[match[2]]


def _wrong_unit(text: str, number: str, unit: str, units: Mapping[str, Decimal], wanted: str) -> str:
    if not unit:
        return f"{text!r} has no unit; write {wanted}"
    near = next((known for known in units if _same_unit(known, unit)), None)
    return f"{text!r} is not {wanted}" + (f"; did you mean {number}{near}?" if near else "")


def _same_unit(known: str, written: str) -> bool:
    """Whether `written` is what people write for `known`: sec, min, hours, days, MB, Mib, ..."""
    spellings = {
        "ms": ("msec", "millis", "milliseconds"),
        "s": ("sec", "secs", "second", "seconds"),
        "m": ("min", "mins", "minute", "minutes"),
        "h": ("hr", "hrs", "hour", "hours"),
        "d": ("day", "days"),
    }
    lower = written.lower()
    if known in spellings:
        return lower == known or lower in spellings[known]
    return lower in {known.lower(), known.lower().replace("i", ""), known.lower().rstrip("b")}


def _bounded(low: float, high: float) -> Callable[[float], float]:
    def check(value: float) -> float:
        if value < low:
            raise ValueError(f"must be at least {format_duration(low)}")
        if value > high:
            raise ValueError(f"must be at most {format_duration(high)}")
        return value

    return check


def _json(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


DURATION_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d)$"
"""What a duration looks like in the JSON Schema."""
_SIZE_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB)$"


def duration(low: float = 0.0, high: float = LONGEST_S) -> tuple[Any, ...]:
    """Give the annotations of a duration between `low` and `high` seconds: `Annotated[float, *duration(0, 60)]`."""
    check = _bounded(low, high)
    return (
        BeforeValidator(lambda text: check(parse_duration(text))),
        PlainSerializer(format_duration, return_type=str, when_used="json"),
        _json(DURATION_PATTERN, "1s"),
    )


def size(low: int = 0) -> tuple[Any, ...]:
    """Give the annotations of a size of at least `low` bytes: `Annotated[int, *size(65536)]`."""

    def check(text: object) -> int:
        parsed = parse_size(text)
        if parsed < low:
            raise ValueError(f"must be at least {format_size(low)}")
        return parsed

    shape = {"anyOf": [{"type": "string", "pattern": _SIZE_PATTERN}, {"type": "integer", "minimum": low}]}
    return (
        BeforeValidator(check),
        PlainSerializer(format_size, return_type=str, when_used="json"),
        WithJsonSchema({**shape, "examples": ["64KiB"]}),
    )


Duration = Annotated[float, *duration()]
"""Seconds, zero allowed; written with a unit."""
PositiveDuration = Annotated[float, *duration(low=0.001)]
"""Seconds, at least a millisecond; written with a unit."""
Size = Annotated[int, *size()]
"""Bytes; written with a unit, or bare, since the keys that hold sizes end in `_bytes`."""
Port = Annotated[int, Field(ge=1, le=65535)]
"""A TCP port."""
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$", min_length=1, max_length=128)]
"""A gateway's or device's name: it becomes a level of an MQTT topic."""
