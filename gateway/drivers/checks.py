"""What every protocol's tags and devices are checked for, once their fields are parsed."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema, field_serializer, field_validator

from gateway.checked import Checked, Fault
from gateway.drivers.base import Deadband, Percent, Tag
from gateway.model import ALL_TAGS

_DEADBAND_SHAPE: Final = WithJsonSchema(
    {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+%$"}]}
)
_PERCENT: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,9})?%")


class CheckedTag(Checked, Tag):
    """A tag whose settings fit together."""

    deadband: Annotated[Deadband | None, _DEADBAND_SHAPE] = Field(
        default=None,
        description='0: changes only; a number: absolute; "2%": of the range; omitted: every read',
    )

    @field_validator("name")
    @classmethod
    def _not_all(cls, name: str) -> str:
        if name == ALL_TAGS:
            raise ValueError(f"a tag cannot be called {ALL_TAGS}: in a message's quality it stands for all tags")
        if not name.isprintable() or name != name.strip():
            raise ValueError("a tag's name cannot hold control characters, nor begin or end with a space")
        return name

    @field_validator("scale", "offset", "min", "max", mode="before")
    @classmethod
    def _number(cls, value: object) -> object:
        return number(value)

    @field_validator("range", mode="before")
    @classmethod
    def _low_high(cls, value: object) -> object:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise ValueError("must be [low, high], such as [0, 100]")
        return tuple(map(number, value))

    @field_validator("deadband", mode="before")
    @classmethod
    def _number_or_percent(cls, value: object) -> object:
        if isinstance(value, Percent):
            return value
        if isinstance(value, str) and value.endswith("%"):
            if not _PERCENT.fullmatch(value) or Decimal(value[:-1]) > 100:
                raise ValueError(f'{value!r} is not a share of the range; write "2%", at most "100%"')
            return value
        return number(value, 'a number such as 0.2, or a share of the range such as "2%"', low=0)

    @field_serializer("scale", "offset", "range", "deadband", "min", "max", when_used="json-unless-none")
    def _as_written(self, value: Any) -> Any:
        return [plain(end) for end in value] if isinstance(value, tuple) else plain(value)

    @property
    def relative_deadband(self) -> bool:
        """Whether the deadband is a share of the range."""
        return isinstance(self.deadband, Percent)

    def faults(self) -> Iterator[Fault]:
        """Give what contradicts itself in a tag of any protocol."""
        yield from super().faults()
        if self.scale == 0:
            yield Fault(("scale",), "0 would make every value the same; write the factor, or remove the key")
        if self.range is not None and self.range[0] >= self.range[1]:
            yield Fault(("range",), f"the low end {self.range[0]} is not below the high end {self.range[1]}")
        if self.min is not None and self.max is not None and self.min > self.max:
            yield Fault(("min",), f"{self.min} is above max: {self.max}, so that no value would be good")
        if self.map is not None and not self.map:
            yield Fault(("map",), "is empty; write names such as {0: stopped, 1: running}, or remove the key")

    def wrong_beside_map(self) -> Iterator[Fault]:
        """Give what only numbers have, where names take their place."""
        for key in ("scale", "offset", "range", "min", "max"):
            if self.map is not None and getattr(self, key) is not None:
                yield Fault((key,), "does not go with map, which gives names instead of numbers; remove one of them")
        if self.map is not None and self.deadband not in {None, 0}:
            yield Fault(("deadband",), "names are equal or not; write 0 for changes only")


def plain(value: Decimal | Percent) -> int | float | str:
    """Give a number as YAML would hold it: as text only where a float would lose digits."""
    if isinstance(value, Percent):
        return f"{(value.share * 100).normalize():f}%"
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


def number(written: object, wanted: str = "a number", low: int | None = None) -> Decimal:
    """Give a number with the digits that were written: 0.1 is 0.1. Raises ValueError with a sentence for others."""
    if isinstance(written, str):
        value = _long_number(written, wanted)
    elif isinstance(written, bool) or not isinstance(written, int | float | Decimal):
        raise ValueError(f"must be {wanted}")  # noqa: TRY004 -- pydantic reports ValueError
    else:
        value = Decimal(repr(written)) if isinstance(written, float) else Decimal(written)
    if not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"must be {wanted}, between -1e100 and 1e100")
    if low is not None and value < low:
        raise ValueError(f"must be {wanted}, not below {low}")
    return value


_LARGEST: Final = Decimal("1e100")
_LONG_NUMBER: Final = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")


def _long_number(text: str, wanted: str) -> Decimal:
    """Read a number with more digits than a float keeps, which the loader hands on as text, and one in quotes."""
    if len(text) > 100 or not _LONG_NUMBER.fullmatch(text):
        point = text.replace(",", ".", 1)
        hint = f"; write {point}" if "," in text and _LONG_NUMBER.fullmatch(point) else ""
        raise ValueError(f"must be {wanted}{hint}")
    return Decimal(text)
