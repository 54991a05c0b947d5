"""What a scan found, as JSON and as lines for a person."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.cli.output import keys_line, shown, words
from gateway.commissioning.guesses import guess
from gateway.commissioning.scanning import TableFound, UnitFound
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.tag import BIT_TABLES
from gateway.logs import printable

_OBJECTS: Final = {
    0: "vendor", 1: "product code", 2: "revision", 3: "vendor URL", 4: "product", 5: "model", 6: "application"
}  # fmt: skip
"""Modbus Application Protocol V1.1b3, section 6.21."""
_VALUES: Final = 6
_BITS: Final = 20


def as_document(found: UnitFound) -> dict[str, Any]:
    """Give a unit as JSON has it."""
    identity = found.identity
    return {
        "unit": found.unit,
        "note": found.note or None,
        "identification": None
        if not isinstance(identity, Mapping)
        else {_object(n): text for n, text in identity.items()},
        "requests": found.requests,
        "tables": {
            table: {
                "ranges": [
                    {"start": start, "count": end - start, "values": [kept.values[at] for at in range(start, end)]}
                    for start, end in kept.ranges
                ],
                "unasked": [{"start": start, "count": end - start} for start, end in kept.unasked],
                "ended": kept.ended or None,
            }
            for table, kept in found.tables.items()
        },
    }


def _object(number: int) -> str:
    return _OBJECTS.get(number, f"object {number}")


def as_lines(units: Sequence[UnitFound]) -> Iterator[str]:
    """Write units, the ranges they have, and a few values of each as the most plausible type."""
    for found in units:
        yield f"unit {found.unit}{': ' + printable(found.note) if found.note else ''}{_identity(found)}"
        for table, kept in found.tables.items():
            yield from _table_lines(table, kept)


def _identity(found: UnitFound) -> str:
    if found.identity is None or isinstance(found.identity, int):
        return ": does not tell what it is" if found.first is not None else ""
    return ": " + ", ".join(f"{_object(number)} {printable(text)}" for number, text in found.identity.items())


def _table_lines(table: Table, kept: TableFound) -> Iterator[str]:
    if not kept.ranges:
        yield f"  {table}: nothing found{', ' + kept.ended if kept.ended else ''}"
        return
    yield f"  {table}:" + (f" ({kept.ended})" if kept.ended else "")
    for start, end in kept.ranges:
        yield f"    {start} to {end - 1}  ({end - start})"
        if table in BIT_TABLES:
            found = [at for at in range(start, end) if kept.values[at]]
            yield f"      on: {', '.join(map(str, found[:_BITS])) or 'none'}" + (" …" if len(found) > _BITS else "")
            continue
        for at, one in guess(kept.values, (start, end), _VALUES):
            width = one.length // 2 if one.length is not None else 2 if one.type.endswith("32") else 1
            raw = words([kept.values[at + n] for n in range(min(width, 4))])
            text = ", ".join(shown(value, one.type) for value in one.values)
            yield f"      {table}:{at}  {raw}  {text}  ({keys_line(one.keys)}?)"
    if kept.unasked:
        count = sum(end - start for start, end in kept.unasked)
        yield f"    not known of {count} more: refused within larger blocks, and not asked for one by one"
