"""A gentle scan of a Modbus line: which units answer, what they are, which registers they have. It only reads."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.commissioning.search import Search, Span
from gateway.commissioning.way import NamingLine
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.connection import Answer, WrongAnswer
from gateway.drivers.modbus.tag import BIT_TABLES
from gateway.errors import DeviceError

REFUSES_RANGE: Final = frozenset({2, 3, 4})
"""Exceptions that may mean a register within the block; some devices say 4, a failure, instead of 2."""
ILLEGAL_FUNCTION: Final = 1
BUSY: Final = frozenset({5, 6})
UNREACHED: Final = frozenset({0x0A, 0x0B})
"""What a gateway says of a unit that is not there (Modbus Application Protocol V1.1b3, section 7)."""
PATIENCE: Final = 3
"""So many requests in a row without an answer, and the table, or the line, is given up."""
RECONNECT_S: Final = 1.0
_SHARE_OF_REGISTERS: Final = 2
_SHARE_OF_BITS: Final = 1


@dataclass(frozen=True, slots=True)
class Manner:
    """How a scan treats the line: `rate` requests a second at most, `timeout` and `delay` of each in seconds.

    `budget` is how many requests a unit gets at most for its registers, in the range from `first` to `last`.
    """

    rate: float
    timeout: float
    delay: float
    budget: int
    tables: Sequence[Table]
    first: int
    last: int


@dataclass(slots=True)
class TableFound:
    """What was found of one table: ranges, the values in them, what was not asked for, and why it ended early."""

    ranges: tuple[Span, ...] = ()
    values: dict[int, int] = field(default_factory=dict)
    unasked: tuple[Span, ...] = ()
    ended: str = ""


@dataclass(slots=True)
class UnitFound:
    """A unit that answers. `first` is its answer to the first request; `identity` an exception code if it refused."""

    unit: int
    first: Answer | None
    note: str = ""
    identity: Mapping[int, str] | int | None = None
    requests: int = 0
    tables: dict[Table, TableFound] = field(default_factory=dict)


class Scanner:
    """Asks a line, at its pace. `tell` is called with what it does now; `found` holds what is known, also if cancelled.

    All of it raises DeviceError if the line is not there, or no longer.
    """

    def __init__(self, line: NamingLine, manner: Manner, tell: Callable[[str], None]) -> None:
        self._line = line
        self._manner = manner
        self._tell = tell
        self._next_at = 0.0
        self._lost = 0
        self.found: list[UnitFound] = []

    async def find_units(self, units: Iterable[int]) -> None:
        """Ask each unit for one register."""
        for unit in units:
            self._tell(f"unit {unit}: does it answer?")
            try:
                answer = await self._read(unit, "holding", 0, 1)
            except TimeoutError:
                continue
            except WrongAnswer as wrong:
                self.found.append(UnitFound(unit, None, f"answers wrongly ({wrong}): two devices with one unit id?"))
                continue
            if answer.refusal not in UNREACHED:
                self.found.append(UnitFound(unit, answer))

    async def identify(self, found: UnitFound) -> None:
        """Ask a unit for its identification."""
        self._tell(f"unit {found.unit}: what is it?")
        await self._turn()
        try:
            found.identity = await self._line.identify(
                found.unit, timeout=self._manner.timeout, delay=self._manner.delay
            )
        except (TimeoutError, WrongAnswer):
            found.identity = None

    async def survey(self, found: UnitFound) -> None:
        """Find a unit's registers, within the budget."""
        manner = self._manner
        searches = [Search(table, manner.first, manner.last) for table in manner.tables]
        for search in searches:
            found.tables[search.table] = TableFound()
        try:
            await self._survey_all(found, searches)
        finally:
            for search in searches:
                kept = found.tables[search.table]
                kept.ranges, kept.ended, kept.unasked = search.found, search.ended, search.unasked

    async def _survey_all(self, found: UnitFound, searches: Sequence[Search]) -> None:
        """Give each table its share of the budget, registers more than bits; what one leaves is the next one's."""
        shares = [_SHARE_OF_BITS if search.table in BIT_TABLES else _SHARE_OF_REGISTERS for search in searches]
        for position, search in enumerate(searches):
            left = self._manner.budget - found.requests
            await self._survey_table(found, search, left * shares[position] // sum(shares[position:]))

    async def _survey_table(self, found: UnitFound, search: Search, budget: int) -> None:
        silent = 0
        for _ in range(budget):
            span = search.next()
            if span is None:
                return
            found.requests += 1
            told = f"request {found.requests} of {self._manner.budget} at most"
            self._tell(f"unit {found.unit}: {search.table} {span[0]} to {span[1] - 1}, {told}")
            silent = 0 if await self._ask(found, search, span) else silent + 1
            if silent >= PATIENCE:
                search.end(f"{PATIENCE} requests in a row got no answer")
        if search.unasked and not search.ended:
            search.end(f"{budget} requests were made, its share of the budget")

    async def _ask(self, found: UnitFound, search: Search, span: Span) -> bool:
        """Ask for one block; give whether an answer came."""
        start, end = span
        try:
            answer = await self._read(found.unit, search.table, start, end - start)
        except (TimeoutError, WrongAnswer):
            search.refused(span)
            return False
        except asyncio.CancelledError:
            search.postponed(span)
            raise
        if not answer.refusal:
            search.answered(span)
            found.tables[search.table].values |= values_of(search.table, start, end, answer.payload)
        elif answer.refusal == ILLEGAL_FUNCTION:
            search.end("the unit does not know this function code")
        elif answer.refusal in UNREACHED:
            search.end("the gateway in between does not reach the unit")
        elif answer.refusal in REFUSES_RANGE:
            search.refused(span)
        elif answer.refusal in BUSY:
            search.postponed(span)
            return False
        else:
            search.end(f"the unit answers with exception {answer.refusal}")
        return True

    async def _read(self, unit: int, table: Table, start: int, count: int) -> Answer:
        """Read at the scan's pace; a connection that ends is made anew, a few times in a row."""
        while True:
            await self._turn()
            try:
                answer = await self._line.read(
                    unit, table, start, count, timeout=self._manner.timeout, delay=self._manner.delay
                )
            except DeviceError:
                self._lost += 1
                if self._lost >= PATIENCE:
                    raise
                await asyncio.sleep(RECONNECT_S * self._lost)
            else:
                self._lost = 0
                return answer

    async def _turn(self) -> None:
        await asyncio.sleep(self._next_at - time.monotonic())
        self._next_at = max(self._next_at, time.monotonic()) + 1 / self._manner.rate


def values_of(table: Table, start: int, end: int, payload: bytes) -> dict[int, int]:
    """Give the values of an answer by register (or coil)."""
    if table in BIT_TABLES:
        return {start + at: payload[at // 8] >> at % 8 & 1 for at in range(end - start)}
    return {start + at: int.from_bytes(payload[2 * at : 2 * at + 2], "big") for at in range(end - start)}


def one_device(found: Sequence[UnitFound]) -> bool:
    """Whether several unit ids get one and the same answer, as from a device that ignores the unit id."""
    answers = [(unit.first.payload, unit.first.refusal) for unit in found if unit.first is not None]
    return len(answers) == len(found) > 1 and len(set(answers)) == 1
