"""Samples of what a poll found, where values depend on other registers or some are bad: no I/O."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from gateway.drivers.modbus.scan import Scan
from gateway.drivers.modbus.values import BadValue, scaled
from gateway.model import Sample, Value

GUARD: Final = "guard"
"""The reason for a value that was read while another program ran in the PLC, or perhaps did."""


@dataclass(slots=True)
class Part:
    """A sample in the making: good columns and their values, block by block, and the reasons of the bad ones."""

    ts: int
    columns: list[tuple[int, ...]] = field(default_factory=list)
    values: list[tuple[Value, ...]] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)

    def good(self) -> Iterator[tuple[int, Value]]:
        """Give the good columns, each with its value."""
        return zip(chain.from_iterable(self.columns), chain.from_iterable(self.values), strict=True)


def assembled(scan: Scan, parts: Sequence[Part], *, is_guarded: bool) -> tuple[Sample, ...]:
    """Make a sample of each part; one that is bad as a whole if the guard was not read last, or differs."""
    fields = scan.fields
    if fields.guard is not None and not (is_guarded and _holds(scan, parts)):
        return (_unguarded(scan, parts[-1].ts),)
    found = {column for part in parts for column in (*chain.from_iterable(part.columns), *part.bad)}
    parts[0].bad.update((column, reason) for column, reason in scan.bad.items() if column not in found)
    hidden: dict[int, Value] = {}
    reasons: dict[int, str] = {}
    for part in parts:
        hidden.update((at, each) for at, each in part.good() if fields.is_hidden(at))
        reasons.update((at, reason) for at, reason in part.bad.items() if fields.is_hidden(at))
    samples = (_sample(scan, part, hidden, reasons) for part in parts)
    return tuple(sample for sample in samples if sample.readings)


def _holds(scan: Scan, parts: Sequence[Part]) -> bool:
    """Whether the guard held what it has to each time it was read."""
    guard = scan.fields.guard
    read = [each for part in parts for at, each in part.good() if at == guard]
    return all(each == scan.fields.equals for each in read)


def _unguarded(scan: Scan, ts: int) -> Sample:
    names = scan.fields.names
    if len(scan.columns) == len(names):
        return Sample.bad(ts, GUARD, len(names))
    quality = {names[column]: f"bad:{GUARD}" for column in scan.columns}
    return Sample(ts, (), (), len(quality), quality)


def _sample(scan: Scan, part: Part, hidden: dict[int, Value], reasons: dict[int, str]) -> Sample:
    fields = scan.fields
    good: list[tuple[int, Value]] = []
    bad = {column: reason for column, reason in part.bad.items() if not fields.is_hidden(column)}
    for column, value in part.good():
        scale = fields.all[column].scale
        if scale is None and not fields.is_hidden(column):
            good.append((column, value))
        elif scale in reasons:
            bad[column] = reasons[scale]
        elif scale is not None:
            try:
                good.append((column, scaled(fields.all[column], value, hidden[scale])))
            except BadValue as error:
                bad[column] = str(error)
    good.sort(key=lambda each: each[0])
    quality = {fields.names[column]: f"bad:{reason}" for column, reason in sorted(bad.items())}
    return Sample(
        part.ts,
        tuple(column for column, _ in good),
        tuple(value for _, value in good),
        len(good) + len(quality),
        quality,
    )
