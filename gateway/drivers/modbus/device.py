"""The driver of one Modbus unit: reads its tags in blocks, and finds out which registers the unit refuses."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.drivers.base import Driver, Shared
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.connection import Answer, WrongAnswer
from gateway.drivers.modbus.cycle import BUSY, FIRST_PAUSE_S, Cycle, now_ms
from gateway.drivers.modbus.fields import NO_SUCH_MODEL, Fields, fields_of
from gateway.drivers.modbus.holes import Memory
from gateway.drivers.modbus.link import shared_link
from gateway.drivers.modbus.plan import Block, limits_of
from gateway.drivers.modbus.poll import GATEWAY_REASONS, PROTOCOL_ERROR, REASONS, TIMEOUT
from gateway.drivers.modbus.probes import FIRST_PROBE_S, LONGEST_PAUSE_S
from gateway.drivers.modbus.scan import Scan
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.modbus.sunspec import BASES, HEADER_REGISTERS, walk
from gateway.errors import DeviceError
from gateway.model import Sample

_NAMED_TAGS: Final = 3


class Line(Protocol):
    """The way to a unit, which others may share: one request at a time is under way."""

    async def connect(self, timeout: float) -> None:
        """Open it unless it is open. Raises DeviceError (`connection-lost`)."""

    async def read(
        self, unit: int, table: Table, start: int, count: int, *, timeout: float, delay: float = 0.0
    ) -> Answer:
        """Read registers or coils. Raises TimeoutError, WrongAnswer, or DeviceError (`connection-lost`)."""

    def expect(self, unit: int, at: float) -> None:
        """Note when the unit's next poll is due (monotonic seconds)."""

    def cycle(self, unit: int, busy_s: float, interval_s: float) -> None:
        """Note for how much of the line's time a poll of the unit kept it busy, and how often that happens."""

    def rest(self, unit: int) -> None:
        """Note that the unit's poll is over."""

    @property
    def load(self) -> float:
        """The share of the line's time that all its units need: 1.4 is too much."""


@dataclass(slots=True)
class _Busy:
    """For how long requests of a poll kept the line busy, and which of them did for longest."""

    seconds: float = 0.0
    slowest_s: float = 0.0
    slowest: Block = field(default=Block("holding", 0, 0, ()))


@asynccontextmanager
async def open_device(section: ModbusDevice, shared: Shared) -> AsyncIterator[Driver]:
    """Connect to a unit, over the link that other units on the same line or endpoint use too.

    Raises DeviceError on entry if nobody accepts the connection; whether the unit answers is for the first read.
    """
    with shared_link(shared, section) as link:
        driver = ModbusDriver(section, link, memory_of(section, shared))
        await driver.connect()
        yield driver


def memory_of(section: ModbusDevice, shared: Shared) -> Memory:
    """Give what was learned of a unit; nothing if its name stood for another unit then."""
    unit: tuple[Hashable, int] = (section.link_key, section.unit_id)
    kept: tuple[object, Memory] = shared.memory.get(section.name, (None, Memory()))
    if kept[0] != unit:
        kept = shared.memory[section.name] = (unit, Memory())
    return kept[1]


class ModbusDriver(Driver):
    """An open unit. `memory` is what is known of the registers that it refuses; it outlives the connection.

    `heard`, if given, is called with each block that was asked for and its answer.
    """

    def __init__(
        self,
        section: ModbusDevice,
        link: Line,
        memory: Memory,
        *,
        clock: Callable[[], float] = time.monotonic,
        heard: Callable[[Block, Answer], None] | None = None,
    ) -> None:
        self._section = section
        self._link = link
        self._memory = memory
        self._clock = clock
        self._heard = heard
        self._limits = limits_of(section)
        self._interval = min([section.interval_of(tag) for tag in section.tags], default=section.interval)
        self._fields: Fields | None = None if _has_models(section) else fields_of(section)
        self._scans: dict[tuple[int, ...], Scan] = {}
        self._walk_at = math.inf
        self._walk_pause = FIRST_PROBE_S
        self._busy = _Busy()
        self._lives = False
        memory.probes.hasten(clock())

    @property
    def address(self) -> str:
        """The endpoint or port."""
        return self._section.address

    @property
    def fields(self) -> Fields | None:
        """What is taken out of the tables; None until the SunSpec models that tags name have been looked for."""
        return self._fields

    @property
    def slowness(self) -> str:
        """What the line needs, if it is too much, and the tags that took longest in the last poll."""
        if self._fields is None or not self._busy.slowest_s:
            return ""
        first = f"a poll takes longer than the interval of {self._interval:g} s"
        if self._link.load > 1:
            needed = self._link.load * self._interval
            first = f"the line {self.address} needs {needed:.2g} s for a {self._interval:g} s interval"
        names = self._fields.names
        tags = [names[at] for at in self._busy.slowest.columns if not self._fields.is_hidden(at)][:_NAMED_TAGS]
        return f"{first}; slowest here: {', '.join(tags)} ({self._busy.slowest_s:.2g} s)" if tags else first

    async def connect(self) -> None:
        """Open the link unless it is open. Raises DeviceError (`connection-lost`)."""
        await self._link.connect(self._section.timeout)

    def expect(self, at: float) -> None:
        """Tell the link when the next read will come."""
        self._link.expect(self._section.unit_id, at)

    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Read the tags at these positions, in ascending order, as values or qualities.

        A block that the unit refuses is halved, in the same read, until only the registers at fault are left, which
        are asked for seldom from then on. A block without an answer is bad, as are those after the second one.
        Raises DeviceError if the connection ends (`connection-lost`), if the first block gets no answer (`timeout`),
        and if a gateway in between says of all blocks that it cannot reach the unit.
        """
        if not columns:
            return ()
        section, began = self._section, self._clock()
        self._busy = _Busy()
        try:
            scan = await self._scan(columns)
            cycle = Cycle(scan, self._memory, self._limits, self._ask, self._clock, began + self._interval)
            await cycle.run(began + section.timeout)
        finally:
            self._link.cycle(section.unit_id, self._busy.seconds, self._interval)
            self._link.rest(section.unit_id)
        if cycle.poll.unit_wide:
            raise self._out_of_reach(cycle.poll.unit_wide)
        return cycle.poll.samples(now_ms())

    async def _scan(self, columns: tuple[int, ...]) -> Scan:
        """Give the queries for these columns, planned anew where what is known has changed."""
        fields, scan = self._fields, self._scans.get(columns)
        if fields is None or self._walk_at <= self._clock() or (scan is not None and scan.is_empty):
            fields = await self._find_models()
            scan = self._scans.get(columns)
        if scan is None or scan.version != self._memory.version:
            scan = self._scans[columns] = Scan(columns, fields, self._limits, self._memory)
        return scan

    async def _ask(self, block: Block, is_heard_from: bool) -> Answer | str:
        section = self._section
        try:
            answer = await self._link.read(
                section.unit_id,
                block.table,
                block.start,
                block.count,
                timeout=section.timeout,
                delay=section.request_delay,
            )
        except TimeoutError as error:
            self._note(block, section.timeout)
            # What never answers says nothing of a unit that answers otherwise.
            is_usual = is_heard_from or (self._lives and self._memory.is_mute(block))
            self._memory.unanswered(block)
            self._lives = is_heard_from
            if not is_usual:
                raise self._silent() from error
            return TIMEOUT
        except WrongAnswer:
            return PROTOCOL_ERROR
        self._note(block, answer.took)
        self._lives = True
        if self._heard is not None:
            self._heard(block, answer)
        return answer

    def _note(self, block: Block, took: float) -> None:
        busy = self._busy
        busy.seconds += took
        if took > busy.slowest_s:
            busy.slowest_s, busy.slowest = took, block

    async def _find_models(self) -> Fields:
        """Walk the chain of SunSpec models; a model that is not there is looked for again, more and more seldom."""
        bases = sorted(BASES, key=lambda base: self._memory.is_mute(_header_at(base)))
        fields = fields_of(self._section, await walk(self._header, bases))
        if fields != self._fields:
            self._fields = fields
            self._scans.clear()
        self._walk_at = math.inf
        if any(each.absent == NO_SUCH_MODEL for each in fields.all):
            self._walk_at = self._clock() + self._walk_pause
            self._walk_pause = min(2 * self._walk_pause, LONGEST_PAUSE_S)
        return fields

    async def _header(self, start: int, count: int) -> bytes | None:
        """Read a header of a SunSpec model; None where the unit has none. Raises DeviceError as `read` does.

        Some units that answer otherwise are silent where the chain might have begun.
        """
        until, pause = self._clock() + self._section.timeout, FIRST_PAUSE_S
        while True:
            answer = await self._ask(Block("holding", start, count, ()), self._lives and start in BASES)
            if answer == TIMEOUT:
                return None
            if isinstance(answer, str):
                raise DeviceError(
                    f"{self.address} answers a request for a SunSpec header wrongly",
                    reason=PROTOCOL_ERROR,
                    do="Check whether the device speaks Modbus, and what is between here and there.",
                )
            reason = REASONS.get(answer.refusal, "")
            if reason in GATEWAY_REASONS:
                raise self._out_of_reach(reason)
            if answer.refusal not in BUSY or self._clock() + pause > until:
                return None if answer.refusal else answer.payload
            await asyncio.sleep(pause)
            pause *= 2

    def _silent(self) -> DeviceError:
        section = self._section
        return DeviceError(
            f"unit {section.unit_id} at {self.address} does not answer within {section.timeout:g} s",
            reason=TIMEOUT,
            do="Check the unit id and whether the PLC runs; if it is only slow, raise timeout.",
        )

    def _out_of_reach(self, reason: str) -> DeviceError:
        section = self._section
        return DeviceError(
            f"the gateway {self.address} does not reach unit {section.unit_id} ({reason})",
            reason=reason,
            do="Check the unit id, and power and wiring of the unit behind the gateway.",
        )


def _header_at(base: int) -> Block:
    return Block("holding", base, HEADER_REGISTERS, ())


def _has_models(section: ModbusDevice) -> bool:
    """Whether anything is to be read from a SunSpec model, so that the chain of models has to be walked."""
    addresses = [tag.address for tag in section.tags]
    addresses += [tag.scale_register for tag in section.tags if tag.scale_register is not None]
    addresses += [section.guard.address] if section.guard is not None else []
    return any(address.model is not None for address in addresses)
