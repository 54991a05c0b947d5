"""The driver of one Modbus unit: reads its tags in blocks, and finds out which registers the unit refuses."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from gateway.drivers.base import Driver, Shared
from gateway.drivers.modbus.connection import Answer, WrongAnswer
from gateway.drivers.modbus.link import ModbusLink, shared_link
from gateway.drivers.modbus.plan import Block, halves, plan
from gateway.drivers.modbus.poll import PROTOCOL_ERROR, TIMEOUT, Poll, Query, Scan
from gateway.drivers.modbus.registers import Decoder
from gateway.drivers.modbus.section import ModbusDevice
from gateway.errors import DeviceError
from gateway.model import Sample

_REFUSED_RANGE: Final = frozenset({2, 3})
"""Exceptions that one register may bring upon its whole block (Modbus Application Protocol V1.1b3, section 7)."""


@asynccontextmanager
async def open_device(section: ModbusDevice, shared: Shared) -> AsyncIterator[Driver]:
    """Connect to a unit, over the link that other units behind the same host and port use too.

    Raises DeviceError on entry if nobody accepts the connection; whether the unit answers is for the first read.
    """
    with shared_link(shared, section) as link:
        driver = ModbusDriver(section, link)
        await driver.connect()
        yield driver


class ModbusDriver(Driver):
    """An open unit. What it refuses is remembered for as long as the driver is open."""

    def __init__(self, section: ModbusDevice, link: ModbusLink) -> None:
        self._section = section
        self._link = link
        self._names = tuple(tag.name for tag in section.tags)
        self._scans: dict[tuple[int, ...], Scan] = {}

    @property
    def address(self) -> str:
        """`host:port`."""
        return self._section.address

    async def connect(self) -> None:
        """Open the link unless it is open. Raises DeviceError (`connection-lost`)."""
        await self._link.connect(self._section.timeout)

    async def read(self, columns: tuple[int, ...]) -> tuple[Sample, ...]:
        """Read the tags at these positions, in ascending order, as values or qualities.

        A block that the unit refuses is halved, in the same read, until only the registers at fault are left, and
        read so from then on. A block without an answer is bad, as are those after the second one.
        Raises DeviceError if the connection ends (`connection-lost`), if the first block gets no answer (`timeout`),
        and if a gateway in between says of all blocks that it cannot reach the unit.
        """
        if not columns:
            return ()
        scan = self._scans.get(columns)
        if scan is None:
            scan = self._scans[columns] = self._compile(columns)
        poll = Poll(scan, self._names)
        kept = [query for asked in scan.queries for query in await self._ask(asked, poll)]
        if tuple(kept) != scan.queries:
            self._scans[columns] = Scan(columns, kept)
        if poll.unit_wide:
            raise self._out_of_reach(poll.unit_wide)
        return poll.samples()

    def _compile(self, columns: tuple[int, ...]) -> Scan:
        section = self._section
        blocks = plan(section.tags, columns, section.max_registers, section.max_gap)
        return Scan(columns, [self._query(block) for block in blocks])

    def _query(self, block: Block) -> Query:
        return Query(block, Decoder(block, self._section.tags))

    async def _ask(self, query: Query, poll: Poll) -> tuple[Query, ...]:
        """Read a block into the poll; give the queries to read its columns with from now on."""
        if poll.given_up:
            poll.fail(query, poll.given_up, _now_ms())
            return (query,)
        answer = await self._answer(query, poll)
        if answer is None:
            return (query,)
        if answer.refusal in _REFUSED_RANGE and not query.settled:
            parts = halves(self._section.tags, query.block)
            if parts:
                return await self._ask_parts(query, parts, poll)
        poll.take(query, answer)
        return (query,)

    async def _ask_parts(self, query: Query, parts: tuple[Block, ...], poll: Poll) -> tuple[Query, ...]:
        kept = [part for block in parts for part in await self._ask(self._query(block), poll)]
        if poll.is_refused(query.block):
            return (replace(query, settled=True),)
        return tuple(kept)

    async def _answer(self, query: Query, poll: Poll) -> Answer | None:
        section, block = self._section, query.block
        try:
            return await self._link.read(
                section.unit_id,
                block.table,
                block.start,
                block.count,
                timeout=section.timeout,
                delay=section.request_delay,
            )
        except TimeoutError as error:
            if not poll.answered:
                raise self._silent() from error
            poll.fail(query, TIMEOUT, _now_ms())
        except WrongAnswer:
            poll.fail(query, PROTOCOL_ERROR, _now_ms())
        return None

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


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
