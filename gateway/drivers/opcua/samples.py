"""From values with timestamps to samples: one for each millisecond of the PLC, ascending."""

from collections.abc import Callable, Iterable
from typing import Literal

from gateway.drivers.opcua.types.values import TYPE_MISMATCH, DataValue, Packed, Unusable
from gateway.model import Sample, Value

Clock = Literal["source", "server", "gateway"]
Unpack = Callable[[Packed], Value | Unusable]
"""Says what structures mean (`TypeBook.unpack`)."""


def unreadable(_: Packed) -> Unusable:
    """Say of structures, where no definitions are at hand, that they are of a type that nobody can read."""
    return TYPE_MISMATCH


def in_samples(
    readings: Iterable[tuple[int, DataValue]],
    names: tuple[str, ...],
    clock: Clock,
    rx: int,
    unpack: Unpack = unreadable,
) -> tuple[Sample, ...]:
    """Sort readings (column, value) into samples by the chosen clock.

    A column's second value in the same millisecond opens another sample with the same ts. Where the server gave no
    such timestamp, ts is `rx`, when we received it (ms since the Unix epoch), and the sample has no `rx` of its own.
    """
    samples: dict[tuple[int, bool, int], dict[int, DataValue]] = {}
    repeats: dict[tuple[int, bool, int], int] = {}
    for column, value in readings:
        stamp = _stamp(value, clock)
        instant = (rx, False) if stamp is None else (stamp, True)
        occurrence = (*instant, column)
        repeat = repeats.get(occurrence, 0)
        repeats[occurrence] = repeat + 1
        samples.setdefault((*instant, repeat), {})[column] = value
    return tuple(
        _sample(ts, samples[ts, by_plc, repeat], names, rx if by_plc else None, unpack)
        for ts, by_plc, repeat in sorted(samples)
    )


def _stamp(value: DataValue, clock: Clock) -> int | None:
    if clock == "source":
        return value.server if value.source is None else value.source
    return value.server if clock == "server" else None


def _sample(ts: int, row: dict[int, DataValue], names: tuple[str, ...], rx: int | None, unpack: Unpack) -> Sample:
    columns, values, quality = [], [], {}
    for column in sorted(row):
        value = row[column]
        if value.status == 0 and not isinstance(value.value, Unusable):
            columns.append(column)
            values.append(value.value)
            continue
        if isinstance(value.value, Packed):
            value = value._replace(value=unpack(value.value))
        found = value.quality
        if found is not None:
            quality[names[column]] = found
        if found is None or found.startswith("uncertain"):
            columns.append(column)
            values.append(value.value)
    return Sample(ts, tuple(columns), tuple(values), len(row), quality, rx=rx)
