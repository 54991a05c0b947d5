"""KEPServerEX's tag CSV as tags of this gateway.

The columns are those that KEPServerEX exports ("Comma Separated Variable File Support" in its help: Tag Name,
Address, Data Type, Respect Data Type, Client Access, Scan Rate, Scaling, Raw Low, Raw High, Scaled Low, Scaled High,
Scaled Data Type, Clamp Low, Clamp High, Eng Units, Description, Negate Value). The addresses are those of its Modbus
drivers ("Modbus Addressing" in their help): a digit for the table (0 coils, 1 discrete inputs, 3 input registers, 4
holding registers) and a number from 1, so that 41, 40001 and 400001 are the same; `H` before it for hexadecimal;
`.bit` for a bit; `.lengthH` or `.lengthL` for a string with the high or low byte first; `[n]` or `[rows][columns]`
for an array; `#n` for packed coils.

What a list does not hold are the settings of its device there: by default the first register of a 32- or 64-bit value
is its low word (First Word Low), which is CDAB here, and registers count from 1 (Zero-Based Addressing, which
subtracts one).
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from gateway.commissioning.spreadsheet import Row, Sheet
from gateway.commissioning.tag_list import Keys, TagList, Unplaced, collect, linear, number
from gateway.drivers.modbus.address import Table

BYTE_ORDER: Final = "CDAB"
"""First Word Low, as KEPServerEX sets it by default."""
_TABLES: Final[dict[str, Table]] = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_BITS: Final = frozenset({"coil", "discrete"})
_ADDRESS: Final = re.compile(
    r"(?P<write>W?)(?:(?P<table>[0134])(?P<number>[0-9]{1,5})|H(?P<hextable>[0134])(?P<hex>[0-9A-F]{1,5}))"
    r"(?:\.(?P<length>[0-9]{1,3})(?P<order>[HL])|[./](?P<bit>[0-9]{1,2}))?"
    r"(?P<packed>#[0-9]+)?(?:\s*\[(?P<rows>[0-9]{1,5})\](?:\[(?P<columns>[0-9]{1,5})\])?)?",
    re.IGNORECASE,
)
_TYPES: Final = {
    "boolean": "bool", "char": "int8", "byte": "uint8", "short": "int16", "word": "uint16", "long": "int32",
    "dword": "uint32", "llong": "int64", "qword": "uint64", "float": "float32", "double": "float64", "bcd": "bcd16",
    "lbcd": "bcd32", "string": "string",
}  # fmt: skip
_WIDE: Final = frozenset({"int32", "uint32", "int64", "uint64", "float32", "float64", "bcd32"})
_WHOLE: Final = frozenset({"char", "byte", "short", "word", "long", "dword", "llong", "qword", "bcd", "lbcd"})


def is_kepserver(headings: tuple[str, ...]) -> bool:
    """Whether these are the headings of KEPServerEX's export."""
    return {"tag name", "address", "data type"} <= set(headings) and bool(
        {"client access", "respect data type", "scan rate"} & set(headings)
    )


@dataclass(frozen=True, slots=True)
class _Place:
    table: Table
    register: int
    bit: int | None = None
    length: int | None = None
    low_first: bool = False
    count: int | None = None


def import_kepserver(sheet: Sheet, byte_order: str | None, first: int = 1, intervals: bool = False) -> TagList:
    """Place the tags of a list. `first` is the number of the first register there; `intervals` takes scan rates over.

    `byte_order` of 32- and 64-bit values is CDAB unless it is given.
    """
    found = TagList("KEPServerEX")
    reading = _Reading(found, byte_order or BYTE_ORDER, first, intervals, sheet.decimal_comma)
    collect(found, sheet.rows, reading.place, lambda row: row.get("tag name"))
    if byte_order is None and any(tag["type"] in _WIDE for tag in found.tags):
        found.note(
            "32- and 64-bit values are read as CDAB, KEPServerEX's default (First Word Low); if the device's settings "
            "there say otherwise, import with --byte-order ABCD"
        )
    if not intervals and any(row.get("scan rate") for row in sheet.rows):
        found.note("scan rates were left out: the device's interval counts; --intervals takes them over")
    return found


@dataclass(frozen=True, slots=True)
class _Reading:
    found: TagList
    byte_order: str
    first: int
    intervals: bool
    decimal_comma: bool

    def place(self, row: Row) -> Keys:
        """Give a row as a tag. Raises Unplaced if this gateway has nothing like it."""
        if row.get("client access").upper() in {"WO", "W"}:
            raise Unplaced("it is write-only, and this gateway only reads")
        name = row.get("tag name")
        if not name:
            raise Unplaced("it has no tag name")
        place = parse_address(row.get("address"), self.first)
        kind = self._type(row.get("data type"), place)
        keys: Keys = {"name": name, "address": _address(place), "type": kind}
        if kind in _WIDE and self.byte_order != "ABCD":
            keys["byte_order"] = self.byte_order
        elif place.low_first:
            keys["byte_order"] = "BADC"
        if place.length is not None:
            keys["length"] = place.length
        if place.count is not None:
            keys["count"] = place.count
        return keys | self._scaling(row, kind) | self._words(row)

    def _type(self, written: str, place: _Place) -> str:
        bare = written.casefold().removesuffix("array").strip()
        if place.length is not None:
            if bare not in {"string", "", "default"}:
                raise Unplaced(f"its address is that of a string, its type {written}")
            return "string"
        if bare in {"", "default"}:
            return "bool" if place.table in _BITS or place.bit is not None else "uint16"
        if bare == "string":
            raise Unplaced("a string needs its length in the address, such as 400020.20H")
        if bare not in _TYPES:
            raise Unplaced(f"the type {written} has no equivalent")
        if bare == "boolean" and place.table not in _BITS and place.bit is None:
            raise Unplaced("a Boolean in a register needs a bit in its address, such as 400001.0")
        if bare != "boolean" and (place.bit is not None or place.table in _BITS):
            raise Unplaced(f"its address is that of one bit, its type {written}")
        return _TYPES[bare]

    def _scaling(self, row: Row, kind: str) -> Keys:
        mode = row.get("scaling").casefold()
        is_negated = row.get("negate value").casefold() in {"1", "true", "yes"}
        if mode in {"", "none"} and not is_negated:
            return {}
        if kind in {"bool", "string"}:
            raise Unplaced(f"a {kind} cannot be scaled")
        if mode in {"", "none"}:
            return {"scale": Decimal(-1)}
        if mode != "linear":
            raise Unplaced(f"its scaling is {row.get('scaling')}; here values are scaled linearly only")
        raw = self._number(row, "raw low"), self._number(row, "raw high")
        scaled = self._number(row, "scaled low"), self._number(row, "scaled high")
        if row.get("scaled data type").casefold() in _WHOLE:
            self.found.note("scaled to whole numbers there, to numbers with decimals here")
        return linear(raw, scaled, negated=is_negated) | self._limits(row, scaled, is_negated)

    def _limits(self, row: Row, scaled: tuple[Decimal, Decimal], is_negated: bool) -> Keys:
        """Keep a clamp as a limit: beyond it a value is bad, not bent."""
        low, high = sorted(-end if is_negated else end for end in scaled)
        clamped = [row.get(end).casefold() in {"1", "true", "yes"} for end in ("clamp low", "clamp high")]
        if scaled[0] > scaled[1] or is_negated:
            clamped.reverse()
        if any(clamped):
            self.found.note("clamped to its range there, bad:out-of-range beyond it here")
        return {"range": [low, high]} | dict(
            each for each, is_set in zip((("min", low), ("max", high)), clamped, strict=True) if is_set
        )

    def _number(self, row: Row, heading: str) -> Decimal:
        found = number(row.get(heading), decimal_comma=self.decimal_comma)
        if found is None:
            raise Unplaced(f"its {heading} {row.get(heading)!r} is no number")
        return found

    def _words(self, row: Row) -> Keys:
        found: Keys = {}
        if unit := row.get("eng units") or row.get("eng unit"):
            found["unit"] = unit
        if description := " ".join(row.get("description").split()):
            found["description"] = description
        rate = number(row.get("scan rate"), decimal_comma=self.decimal_comma)
        if self.intervals and rate is not None and rate > 0:
            found["interval"] = f"{rate.normalize():f}ms"
        return found


def parse_address(written: str, first: int = 1) -> _Place:
    """Read an address of KEPServerEX's Modbus drivers. Raises Unplaced if it is none, or of what cannot be read."""
    match = _ADDRESS.fullmatch(written.strip())
    if match is None:
        raise Unplaced(f"{written!r} is no Modbus address" if written.strip() else "it has no address")
    if match["write"]:
        raise Unplaced("it is write-only (W), and this gateway only reads")
    if match["packed"]:
        raise Unplaced("packed coils have no equivalent; give each coil a tag, or the first one with count")
    table = _TABLES[match["table"] or match["hextable"]]
    register = (int(match["number"]) if match["number"] else int(match["hex"], 16)) - first
    if not 0 <= register <= 65535:
        raise Unplaced(f"{written} does not exist: registers go from {first} to {65535 + first}")
    place = _Place(table, register)
    if match["length"]:
        place = replace(place, length=int(match["length"]), low_first=match["order"].upper() == "L")
    if match["bit"]:
        place = replace(place, bit=int(match["bit"]))
    if match["rows"]:
        place = replace(place, count=int(match["rows"]) * int(match["columns"] or 1))
    return place


def _address(place: _Place) -> str:
    return f"{place.table}:{place.register}" + ("" if place.bit is None else f".{place.bit}")
