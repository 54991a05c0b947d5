"""One poll of a unit, request by request: what is planned, what is to be found out, and the guard last."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.drivers.modbus.connection import Answer
from gateway.drivers.modbus.fields import ILLEGAL_ADDRESS
from gateway.drivers.modbus.holes import Memory, Search, Trial
from gateway.drivers.modbus.plan import Block, Limits
from gateway.drivers.modbus.poll import Poll
from gateway.drivers.modbus.scan import Query, Scan

REFUSED_RANGE: Final = frozenset({2, 3})
"""Exceptions that one register may bring upon its whole block (Modbus Application Protocol V1.1b3, section 7)."""
BUSY: Final = frozenset({5, 6})
"""Exceptions that say that the same request may be answered a little later."""
FIRST_PAUSE_S: Final = 0.05
"""Before a busy unit is asked again; then twice as long each time."""

Ask = Callable[[Block, bool], Awaitable[Answer | str]]
"""Sends a request: gives the answer, or why there is none. Raises DeviceError if the connection ends, or if nothing
comes and nothing came before (False)."""


class Cycle:
    """Reads a scan into a poll. `until` is when the next poll begins, `patient_until` how long a busy unit is asked.

    Both are seconds of `clock`.
    """

    def __init__(
        self, scan: Scan, memory: Memory, limits: Limits, ask: Ask, clock: Callable[[], float], until: float
    ) -> None:
        self.poll = Poll(scan)
        self._scan = scan
        self._memory = memory
        self._limits = limits
        self._ask_line = ask
        self._clock = clock
        self._until = until
        self._search = Search(scan.fields.all, memory)
        self._busy: list[tuple[Query, Answer]] = []

    async def run(self, patient_until: float) -> None:
        """Ask for everything. Raises DeviceError if the device as a whole cannot be read."""
        scan, poll = self._scan, self.poll
        for query in scan.queries:
            await self._ask(query, None)
        if self._busy:
            await self._ask_busy(patient_until)
        for block, code in scan.suspects:
            self._search.resume(block, code)
        if self._search:
            await self._find_out()
        if scan.refused and not poll.given_up:
            await self._probe()
        if scan.guard is not None and not poll.is_guarded and not poll.given_up:
            await self._ask(scan.guard, None)
            self._tell_busy()

    async def _ask(self, query: Query, trial: Trial | None) -> None:
        """Read a block, which is a part of the trial's, into the poll; what was busy is kept."""
        poll, block = self.poll, query.block
        if poll.given_up:
            poll.fail(block.columns, poll.given_up, now_ms())
            return
        answer = await self._ask_line(block, poll.answered)
        if isinstance(answer, str):
            query.is_proven = False
            poll.fail(block.columns, answer, now_ms())
            return
        poll.answered = True
        if not answer.refusal:
            poll.take(query, answer.payload, answer.ts)
            if not query.is_proven:
                query.is_proven = True
                self._memory.answered(block)
                self._search.answered(block, trial)
        elif answer.refusal in REFUSED_RANGE:
            if own := self._search.refused(block, answer.refusal, trial, self._clock()):
                poll.refuse(own, answer.refusal, answer.ts)
        elif answer.refusal in BUSY:
            self._busy.append((query, answer))
        else:
            poll.refuse(block.columns, answer.refusal, answer.ts)

    async def _ask_busy(self, until: float) -> None:
        """Ask again for what a busy unit did not answer, after pauses in which the line is free for others."""
        pause = FIRST_PAUSE_S
        while self._busy and not self.poll.given_up and self._clock() + pause < min(until, self._until):
            await asyncio.sleep(pause)
            pause *= 2
            busy, self._busy = self._busy, []
            for query, _ in busy:
                await self._ask(query, None)
        self._tell_busy()

    def _tell_busy(self) -> None:
        for query, answer in self._busy:
            self.poll.refuse(query.block.columns, answer.refusal, answer.ts)
        self._busy.clear()

    async def _find_out(self) -> None:
        """Search refused blocks while the poll's interval lasts; what is left is for the next poll."""
        search, poll = self._search, self.poll
        while search and not poll.given_up and (search.may_go_on or self._clock() < self._until):
            block, trial = search.next()
            await self._ask(Query(block, self._scan.fields.all), trial)
        self._tell_busy()
        for block in search.left:
            poll.fail(block.columns, poll.given_up or ILLEGAL_ADDRESS, now_ms())

    async def _probe(self) -> None:
        """Ask once more for refused registers that are due; for some in any case where nothing else is asked for.

        Otherwise a unit that refuses all of them would never again be found dead, or healed.
        """
        scan, memory, now = self._scan, self._memory, self._clock()
        fields = scan.fields.all
        is_alone = not scan.queries and not scan.suspects
        if is_alone:
            block = memory.probes.rotate(fields, scan.refused)
        elif (due := memory.probe(fields, scan.refused, self._limits, now)) is not None:
            block = due
        else:
            return
        answer = await self._ask_line(block, self.poll.answered)
        if isinstance(answer, Answer) and not answer.refusal:
            self.poll.take(Query(block, fields), answer.payload, answer.ts)
            if is_alone and len(scan.columns) == len(scan.fields.names):
                memory.forget()
            else:
                memory.restored(block, now)
            return
        memory.probes.refused(fields, block, now)
        if is_alone and isinstance(answer, Answer):
            self.poll.refuse(block.columns, answer.refusal, answer.ts)
        elif is_alone:
            self.poll.fail(block.columns, str(answer), now_ms())


def now_ms() -> int:
    """Give the time of our own clock, as samples hold it."""
    return time.time_ns() // 1_000_000
