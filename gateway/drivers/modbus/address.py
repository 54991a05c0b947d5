"""Modbus addresses as integrators write them: `holding:2`, `holding:10.5`, `sunspec:103:2`, or 40003 (Modicon)."""

import difflib
import re
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

Table = Literal["coil", "discrete", "holding", "input"]

TABLES: Final[tuple[Table, ...]] = ("coil", "discrete", "holding", "input")
_MODICON: Final[dict[str, Table]] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_NUMBER: Final = "0|[1-9][0-9]{0,8}"
_PLAIN: Final = re.compile(rf"([A-Za-z_ -]+):({_NUMBER})(?:\.({_NUMBER})(?:-({_NUMBER}))?)?")
_SUNSPEC: Final = re.compile(rf"sunspec:({_NUMBER}):({_NUMBER})(?:\.({_NUMBER})(?:-({_NUMBER}))?)?")
_DIGITS: Final = re.compile(r"[0-9]{5,6}")
_WANTED: Final = "holding:2, holding:10.5 (bit 5), holding:10.4-7 (bits 4 to 7), input:0, coil:3 or discrete:0"


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a PLC: one of the four tables, and the zero-based number that goes over the wire.

    `bit` is 0 (least significant) to 15 for a part of a register, which is `width` bits wide, else None. With
    `model`, `register` counts from the first data register of that SunSpec model (SunSpec Information Model
    Specification, section 4): where in the PLC that is, only the PLC knows.
    """

    table: Table
    register: int
    bit: int | None = None
    width: int = 1
    model: int | None = None

    def __str__(self) -> str:
        """Write it as a config does: `holding:10.5`."""
        place = f"{self.table}:{self.register}" if self.model is None else f"sunspec:{self.model}:{self.register}"
        if self.bit is None:
            return place
        return f"{place}.{self.bit}" if self.width == 1 else f"{place}.{self.bit}-{self.bit + self.width - 1}"


def parse_address(written: object) -> Address:
    """Read an address. Raises ValueError with a sentence for the integrator.

    Text holds zero-based protocol addresses. An integer, or text, of exactly 5 or 6 digits is Modicon notation: the
    first digit names the table (0 coil, 1 discrete, 3 input, 4 holding), the rest counts from 1.
    """
    if isinstance(written, Address):
        return written
    if isinstance(written, bool) or not isinstance(written, int | str):
        hint = _bit_of_modicon(str(written)) if isinstance(written, float) else ""
        raise ValueError(f"must be an address such as {_WANTED}{hint}")  # noqa: TRY004 -- pydantic's rule
    if isinstance(written, int) or _DIGITS.fullmatch(written):
        return _modicon(str(written))
    if match := _SUNSPEC.fullmatch(written):
        return replace(_zero_based("holding", int(match[2]), *_bits(match[3], match[4])), model=int(match[1]))
    match = _PLAIN.fullmatch(written)
    if match is None:
        raise ValueError(f"{written!r} is not an address; write {_WANTED}{_bit_of_modicon(written)}")
    return _zero_based(match[1], int(match[2]), *_bits(match[3], match[4]))


def _bits(first: str | None, last: str | None) -> tuple[int | None, int]:
    """Give the lowest bit and the width of what stands behind the dot."""
    if first is None:
        return None, 1
    if last is not None and int(last) <= int(first):
        raise ValueError(f"a range of bits goes from the lower to the higher; write .{last}-{first}")
    return int(first), 1 if last is None else int(last) - int(first) + 1


def _zero_based(table: str, register: int, bit: int | None, width: int) -> Address:
    if table not in TABLES:
        near = difflib.get_close_matches(table.lower(), TABLES, n=1)
        hint = f"; did you mean {near[0]}:{register}?" if near else ""
        raise ValueError(f"there is no table {table!r}; the tables are {', '.join(TABLES)}{hint}")
    if register > 65535:
        raise ValueError(f"{table}:{register} does not exist: protocol addresses go from 0 to 65535")
    if bit is not None and table in {"coil", "discrete"}:
        raise ValueError(f"a {table} is one bit already; write {table}:{register}")
    if bit is not None and bit + width > 16:
        raise ValueError(f"a register has the bits 0 to 15, not {bit + width - 1}")
    return Address(table, register, bit, width)


def _modicon(digits: str) -> Address:
    if len(digits) not in {5, 6}:
        example = digits if digits.isdecimal() and int(digits) <= 65535 else "2"
        raise ValueError(
            f"{digits} could be several addresses; write holding:{example} (zero-based), or 5 or 6 digits in Modicon "
            "notation (40001 is holding:0)"
        )
    number = int(digits[1:])
    table = _MODICON.get(digits[0])
    if table is None:
        raise ValueError(
            f"{digits} is not Modicon notation: it begins with 0 (coil), 1 (discrete), 3 (input) or 4 (holding)"
        )
    if number == 0:
        raise ValueError(f"{digits} does not exist: Modicon notation counts from 1; write {int(digits) + 1}")
    if number > 65536:
        raise ValueError(f"{digits} does not exist: a table ends at {digits[0]}65536")
    return Address(table, number - 1)


def _bit_of_modicon(text: str) -> str:
    """Say how to write a bit of a register that was written as 40011.5."""
    head, point, bit = text.partition(".")
    if not (point and bit.isdecimal() and head.isdecimal() and len(head) in {5, 6}):
        return ""
    try:
        address = _modicon(head)
    except ValueError:
        return ""
    return f"; for a bit of that register write {address}.{bit}"


AddressField = Annotated[
    Address,
    PlainValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^(coil|discrete|holding|input):[0-9]+$"},
                {"type": "string", "pattern": r"^(holding|input):[0-9]+\.([0-9]|1[0-5])(-([0-9]|1[0-5]))?$"},
                {"type": "string", "pattern": r"^sunspec:[0-9]+:[0-9]+(\.([0-9]|1[0-5])(-([0-9]|1[0-5]))?)?$"},
                {"type": "string", "pattern": r"^[0134][0-9]{4,5}$"},
                {"type": "integer", "minimum": 10001, "maximum": 465536},
            ],
            "examples": ["holding:2", "holding:10.5", "coil:3", 40021],
        }
    ),
]
"""An address as a config's field."""
