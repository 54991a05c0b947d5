"""Which refused registers are asked for once more, and when: a firmware update may have added them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.plan import Block, cover

FIRST_PROBE_S: Final = 60.0
LONGEST_PAUSE_S: Final = 3600.0

Place = tuple[Table, int, int]
"""A table, and registers of it as a half-open range."""


@dataclass(slots=True)
class _Refusal:
    """`due` is when to ask again, `asked` when it was refused last (monotonic seconds), `pause` what comes after `due`.

    `is_alone`: asked together with its neighbours it was refused, so it is asked by itself next.
    """

    asked: float
    due: float
    pause: float = 2 * FIRST_PROBE_S
    is_alone: bool = False


class Probes:
    """The refused ranges of a unit. Neighbours are asked for together first, then one by one."""

    def __init__(self) -> None:
        self._refusals: dict[Place, _Refusal] = {}
        self._earliest = -math.inf  # nothing is due before
        self._turn = 0

    def __iter__(self) -> Iterator[Place]:
        return iter(self._refusals)

    def __contains__(self, place: Place) -> bool:
        return place in self._refusals

    def __len__(self) -> int:
        return len(self._refusals)

    def add(self, place: Place, now: float) -> None:
        """Note a refused range."""
        self._refusals.setdefault(place, _Refusal(now, now + FIRST_PROBE_S))
        self._earliest = -math.inf

    def remove(self, place: Place, now: float) -> None:
        """Note that a range, and whatever lies in it, is answered; the others are asked for now."""
        table, start, end = place
        for each in [each for each in self if each[0] == table and start <= each[1] and each[2] <= end]:
            del self._refusals[each]
        self._earliest = -math.inf
        for refusal in self._refusals.values():
            if now - refusal.asked >= FIRST_PROBE_S:
                refusal.due = min(refusal.due, now)

    def hasten(self, now: float) -> None:
        """Let everything be due now: after a reconnect a device may be another."""
        self._earliest = -math.inf
        for refusal in self._refusals.values():
            refusal.due, refusal.is_alone = min(refusal.due, now), False

    def choose(
        self, fields: Sequence[Field], columns: Sequence[int], most: Callable[[Table], int], now: float
    ) -> Block | None:
        """Give what to ask for of these refused columns: the range that is due first, with neighbours that are, too.

        `most` tells how many registers one request may read.
        """
        if now < self._earliest:
            return None
        self._earliest = min(refusal.due for refusal in self._refusals.values())
        held = self._held(fields, columns)
        due = {place: self._refusals[place] for place in held if self._refusals[place].due <= now}
        if not due:
            return None
        first = min(due, key=lambda place: (due[place].due, place))
        chosen = [first]
        if not due[first].is_alone:
            chosen = _neighbours(first, [place for place in due if not due[place].is_alone], most(first[0]))
        return cover(fields, [column for place in chosen for column in held[place]])

    def rotate(self, fields: Sequence[Field], columns: Sequence[int]) -> Block:
        """Give one range after the other of these refused columns, whether it is due or not."""
        held = list(self._held(fields, columns).values())
        self._turn += 1
        return cover(fields, held[self._turn % len(held)])

    def _held(self, fields: Sequence[Field], columns: Sequence[int]) -> dict[Place, list[int]]:
        """Sort columns by their ranges, in ascending order."""
        held: dict[Place, list[int]] = {}
        for column in sorted(columns, key=lambda column: (fields[column].table, fields[column].span)):
            held.setdefault((fields[column].table, *fields[column].span), []).append(column)
        return held

    def refused(self, fields: Sequence[Field], block: Block, now: float) -> None:
        """Note that a probe was refused, or got no answer. One that came before its time changes nothing."""
        places = {(block.table, *fields[column].span) for column in block.columns}
        for place in places:
            refusal = self._refusals[place]
            if refusal.due > now:
                continue
            if len(places) > 1:
                refusal.is_alone = True
            else:
                refusal.asked = now
                refusal.due, refusal.is_alone = now + refusal.pause, False
                refusal.pause = min(2 * refusal.pause, LONGEST_PAUSE_S)


def _neighbours(first: Place, places: Sequence[Place], most: int) -> list[Place]:
    """Give the places, in ascending order, that lie gapless around the first, within `most` registers."""
    table, start, end = first
    chosen = [first]
    for place in places[places.index(first) + 1 :]:
        if place[0] != table or place[1] > end or max(end, place[2]) - start > most:
            break
        end = max(end, place[2])
        chosen.append(place)
    for place in reversed(places[: places.index(first)]):
        if place[0] != table or place[2] < start or end - place[1] > most:
            break
        start = place[1]
        chosen.insert(0, place)
    return chosen
