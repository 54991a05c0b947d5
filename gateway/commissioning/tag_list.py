"""A tag list that came from elsewhere as tags of this gateway: what was placed, what was not, and why."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final

from pydantic import ValidationError

from gateway.commissioning.refusal import refusal
from gateway.commissioning.spreadsheet import Row
from gateway.drivers.modbus.tag import ModbusTag

Keys = dict[str, Any]
"""A tag's keys and values, as the config has them."""

_WIDE: Final = Context(prec=80)
_NARROW: Final = Context(prec=30)
"""For a scale that is no finite decimal: far more digits than a float keeps, so that values come out exact."""


class Unplaced(Exception):  # noqa: N818 -- it is what happened to the row, not what failed
    """A row has no equivalent here. Says why, for a person."""


@dataclass(frozen=True, slots=True)
class Left:
    """A row that was not placed: its number in the file, what it names, and why."""

    row: int
    name: str
    reason: str


@dataclass(slots=True)
class TagList:
    """What a list became. `notes` are what changed its meaning though it was placed, by how many rows each."""

    origin: str
    tags: list[Keys] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    notes: dict[str, int] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Note something once, and count how often it was so."""
        self.notes[text] = self.notes.get(text, 0) + 1


def collect(found: TagList, rows: Iterable[Row], place: Callable[[Row], Keys], name_of: Callable[[Row], str]) -> None:
    """Place row after row. Every tag is checked as the config would; a name that was taken gets a number."""
    taken: set[str] = set()
    for row in rows:
        try:
            keys = place(row)
            keys["name"] = _free(keys["name"], taken, found)
            _check(keys)
        except Unplaced as why:
            found.left.append(Left(row.number, name_of(row), str(why)))
        else:
            taken.add(keys["name"])
            found.tags.append(keys)


def _free(name: str, taken: set[str], found: TagList) -> str:
    if name not in taken:
        return name
    found.note("name used twice: the second got a number")
    return next(new for number in range(2, len(taken) + 3) if (new := f"{name}_{number}") not in taken)


def _check(keys: Mapping[str, Any]) -> None:
    """Let the config's own model look at a tag. Raises Unplaced with what it says."""
    try:
        ModbusTag.model_validate(dict(keys))
    except ValidationError as error:
        raise Unplaced(refusal(error)) from error


def linear(raw: tuple[Decimal, Decimal], scaled: tuple[Decimal, Decimal], *, negated: bool = False) -> Keys:
    """Give `scale` and `offset` that map one range onto another, exactly. Raises Unplaced for an empty raw range."""
    if raw[0] == raw[1]:
        raise Unplaced(f"its raw range from {raw[0]} to {raw[1]} is empty")
    sign = -1 if negated else 1
    scale = sign * Fraction(scaled[1] - scaled[0]) / Fraction(raw[1] - raw[0])
    offset = sign * Fraction(scaled[0]) - scale * Fraction(raw[0])
    if not scale:
        raise Unplaced(f"its scaled range from {scaled[0]} to {scaled[1]} is empty")
    found: Keys = {}
    if scale != 1:
        found["scale"] = as_decimal(scale)
    if offset:
        found["offset"] = as_decimal(offset)
    return found


def as_decimal(value: Fraction) -> Decimal:
    """Give a fraction as a decimal: exactly where that is possible, else with thirty digits."""
    numerator, denominator = Decimal(value.numerator), Decimal(value.denominator)
    exact = _WIDE.divide(numerator, denominator)
    return (exact if Fraction(exact) == value else _NARROW.divide(numerator, denominator)).normalize(_WIDE)


def number(text: str, *, decimal_comma: bool) -> Decimal | None:
    """Read a number of a cell: `1,000.5`, or `0,1` where commas are decimal; None if it is none."""
    bare = text.replace(" ", "").replace("\u00a0", "")
    if decimal_comma and "," in bare:
        bare = bare.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"[-+]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?", bare):
        bare = bare.replace(",", "")
    if not re.fullmatch(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,2})?", bare):
        return None
    return Decimal(bare)
