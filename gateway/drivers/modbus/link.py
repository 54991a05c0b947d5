"""The way to one endpoint or line, shared by all units behind it: whoever asks waits for his turn."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Final

from gateway.drivers.base import Shared
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.connection import Answer, Connection, WrongAnswer
from gateway.drivers.modbus.dial import Dial
from gateway.drivers.modbus.framing import Late
from gateway.drivers.modbus.pdu import EXCEPTION, ReadRequest, Request, identification, refusal_of
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.modbus.silence import Silence, gap_of
from gateway.drivers.modbus.transports import ways_of
from gateway.drivers.modbus.turns import Ticket, Turns
from gateway.drivers.modbus.unit import Unit, load
from gateway.errors import DeviceError

SILENT_REQUESTS: Final = 2
"""So many requests in a row without one byte in between, and the connection is half-open."""
UNREACHED: Final = frozenset({0x0A, 0x0B})
"""With these exceptions a gateway says that the unit behind it did not answer (V1.1b3, section 7)."""


class ModbusLink:
    """One connection at most, opened when a request needs it, with one request in flight; live units come first.

    `users` counts the devices that hold the link. What it learned about its units and its endpoints stays.
    """

    def __init__(self, section: ModbusDevice) -> None:
        ways = ways_of(section)
        resyncs = ways[0].resyncs
        self.users = 0
        self._address = section.address
        self._may_hang = ways[0].may_hang
        self._dial = Dial(ways)
        self._turns = Turns(shortens=not resyncs)
        self._silence = Silence(gap_of(section) if resyncs else None)
        self._connection: Connection | None = None
        self._ready_at = -inf
        self._look: asyncio.TimerHandle | None = None
        self._cut: tuple[int, Unit, float] | None = None
        self._timeout = 0.0
        self._connect_delay = 0.0
        self._close_after_cycle = False

    def __repr__(self) -> str:
        return f"<ModbusLink {self._address}, {'open' if self.is_open else 'closed'}, {self.users} users>"

    async def connect(self, timeout: float) -> None:
        """Open the connection unless it is open. Raises DeviceError (`connection-lost`) if it cannot be.

        `timeout` is what each endpoint may take, in seconds, not counting those who were first. After a failure
        others fail at once for a short while.
        """
        if self.is_open:
            return
        self._dial.check()
        ticket = Ticket(None, timeout, timeout, monotonic())
        self._turns.ask(ticket)
        self._next()
        if self._turns.current is not ticket:
            await self._called(ticket)
        try:
            await self._connected(timeout)
        finally:
            self._pass_on(ticket)

    async def read(
        self, unit: int, table: Table, start: int, count: int, *, timeout: float, delay: float = 0.0
    ) -> Answer:
        """Read `count` registers or coils of a unit from `start` on, `delay` seconds or more after the last answer.

        `timeout` is what the unit may take, in seconds, once it is asked; an exception response is an answer. A unit
        that did not answer the last time waits until asking it costs the others nothing, or little.
        Raises TimeoutError if nothing came (the connection stays, unless nothing came the time before either),
        WrongAnswer if something else came, and DeviceError (`connection-lost`) if there is no connection or it ended.
        """
        pdu, ts, took = await self._ask(unit, ReadRequest(table, start, count), timeout, delay)
        return Answer(ts, b"", pdu[1], took) if pdu[0] & EXCEPTION else Answer(ts, pdu[2:], 0, took)

    async def identify(self, unit: int, *, timeout: float, delay: float = 0.0) -> Mapping[int, str] | int:
        """Read a unit's identification, all levels of it (V1.1b3, section 6.21): object numbers and their texts.

        Gives the exception code where the unit refuses, which most do with 1. Raises as `read` does.
        """
        asking = identification()
        request = next(asking)
        try:
            while True:
                pdu, _, _ = await self._ask(unit, request, timeout, delay)
                request = asking.send(pdu)
        except StopIteration as end:
            found: Mapping[int, str] | int = end.value
            return found

    def expect(self, unit: int, at: float) -> None:
        """Note that a poll of the unit begins, and when the next is due (monotonic seconds)."""
        self._turns.unit(unit).expect(at, monotonic())

    def cycle(self, unit: int, busy_s: float, interval_s: float) -> None:
        """Note that a poll of the unit, which is due every `interval_s`, took so much of the line's time."""
        self._turns.unit(unit).load = busy_s / interval_s

    @property
    def load(self) -> float:
        """The share of the line's time that all its units need by their last polls: 1.4 is too much."""
        return load(self._turns.units.values())

    def rest(self, unit: int) -> None:
        """Note that the unit's poll is over: until the next one others may use the line.

        Closes the connection where that is configured, and nobody needs it.
        """
        self._turns.unit(unit).busy_until = -inf
        self._next()
        if self._close_after_cycle and not self._turns.in_use(monotonic()):
            self.close()

    def join(self, section: ModbusDevice) -> None:
        """Take a further device; of settings that concern the connection the most careful ones count."""
        self.users += 1
        self._timeout = max(self._timeout, section.timeout)
        self._connect_delay = max(self._connect_delay, section.connect_delay)
        self._close_after_cycle = self._close_after_cycle or section.close_after_cycle

    def leave(self, section: ModbusDevice) -> None:
        """Let a device go: its polls need no time any more. The last one closes the connection."""
        self.users -= 1
        unit = self._turns.unit(section.unit_id)
        unit.load, unit.due, unit.busy_until = 0.0, -inf, -inf
        if self.users:
            self._next()
        else:
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one; a request in flight fails."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._dial.ended(connection)
            connection.close()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that the next request can use."""
        return self._connection is not None and self._connection.is_usable

    async def _ask(self, number: int, request: Request, timeout: float, delay: float) -> tuple[bytes, int, float]:
        """Send a request when it is its turn; give its answer's PDU, when that came, and the seconds of the line."""
        if not self.is_open:
            self._dial.check()
        unit = self._turns.unit(number)
        ticket = Ticket(unit, timeout, self._silence.cost(unit, timeout), monotonic())
        self._turns.ask(ticket)
        self._next()
        if self._turns.current is not ticket:
            await self._called(ticket)
        began = monotonic()
        unit.ask(timeout, began)
        try:
            connection = await self._prepared(delay, timeout)
            try:
                pdu = await self._exchange(connection, unit, request, ticket)
            except DeviceError:
                if not connection.has_answered or connection is not self._connection:
                    raise
                # A PLC may close a connection that it served well, as idle, just while the next request is under way.
                connection = await self._prepared(delay, timeout)
                pdu = await self._exchange(connection, unit, request, ticket)
            return pdu, connection.arrived_ms, monotonic() - began
        finally:
            self._pass_on(ticket, began)

    async def _exchange(self, connection: Connection, unit: Unit, request: Request, ticket: Ticket) -> bytes:
        sent_at = monotonic()
        try:
            pdu = await connection.exchange(unit.number, request, ticket.window)
        except WrongAnswer:
            self._silence.wrong(unit, ticket.timeout, monotonic())
            unit.failed()
            raise
        except DeviceError:
            self._silence.give_up(unit, sent_at, ticket.timeout, monotonic())
            unit.failed()
            raise
        except TimeoutError:
            self._given_up(connection, unit, sent_at, ticket)
            self._missed(connection, unit)
            raise
        except asyncio.CancelledError:
            self._given_up(connection, unit, sent_at, ticket)
            raise
        finally:
            self._silence.rested_at = monotonic()
        self._dial.answered()
        if refusal_of(pdu) in UNREACHED:
            unit.missed()
        else:
            self._turns.answered(unit, self._silence.rested_at - sent_at, self._silence.rested_at)
        return pdu

    def _given_up(self, connection: Connection, unit: Unit, sent_at: float, ticket: Ticket) -> None:
        transaction = connection.give_up()
        self._silence.give_up(unit, sent_at, ticket.timeout, monotonic())
        if ticket.window < ticket.timeout:
            self._cut = (transaction, unit, sent_at + ticket.timeout)

    def _missed(self, connection: Connection, unit: Unit) -> None:
        """Note an answer that did not come; where it should have, twice in a row, the connection is half-open."""
        was_live = unit.live
        unit.missed()
        # The silence of a unit that was silent before says nothing of a connection on which others answer.
        if was_live or not connection.has_answered or not self._turns.protects(monotonic()):
            connection.unheard += 1
        if self._may_hang and connection.unheard >= SILENT_REQUESTS and connection is self._connection:
            self.close()

    def _late(self, late: Late) -> None:
        """Notice a unit that answers after all, in its time, a probe that was cut short."""
        if self._cut is None or late.transaction != self._cut[0]:
            return
        (_, unit, until), self._cut = self._cut, None
        if monotonic() <= until and refusal_of(late.pdu) not in UNREACHED:
            self._turns.answered(unit, 0.0, monotonic())
            self._next()

    async def _prepared(self, delay: float, timeout: float) -> Connection:
        """Wait until the line may be used, and give an open connection."""
        while True:
            connection = self._connection
            heard_at = connection.heard_at if connection is not None else -inf
            now = monotonic()
            if (until := self._silence.until(delay, heard_at, now)) > now:
                await asyncio.sleep(until - now)
            elif connection is not None and connection.is_usable and self._ready_at <= now:
                return connection
            else:
                return await self._connected(timeout)

    async def _connected(self, timeout: float) -> Connection:
        connection = self._connection
        if connection is None or not connection.is_usable:
            self.close()
            connection = await self._dial.open(timeout, 2 * max(timeout, self._timeout))
            connection.on_late = self._late
            self._connection = connection
            self._ready_at = monotonic() + self._connect_delay
        if (remaining := self._ready_at - monotonic()) > 0:
            await asyncio.sleep(remaining)
        return connection

    async def _called(self, ticket: Ticket) -> None:
        """Wait for the turn. May be cancelled."""
        ticket.called = asyncio.get_running_loop().create_future()
        try:
            await ticket.called
        except asyncio.CancelledError:
            if self._turns.current is ticket:
                self._pass_on(ticket)
            else:
                self._turns.withdraw(ticket)
            raise

    def _pass_on(self, ticket: Ticket, began: float | None = None) -> None:
        now = monotonic()
        self._turns.release(now, 0.0 if began is None else now - began + self._silence.remaining(now))
        self._next()

    def _next(self) -> None:
        """Call whoever may have the turn now; else look again when that may have changed."""
        if self._turns.current is not None:
            return
        if self._look is not None:
            self._look.cancel()
            self._look = None
        ticket, look = self._turns.choose(monotonic())
        if ticket is not None:
            if ticket.called is not None and not ticket.called.done():
                ticket.called.set_result(None)
        elif look < inf:
            self._look = asyncio.get_running_loop().call_at(look, self._next)


@contextmanager
def shared_link(shared: Shared, section: ModbusDevice) -> Iterator[ModbusLink]:
    """Join the link to a device's line or endpoint, or make it; the last to leave closes its connection."""
    link: ModbusLink | None = shared.links.get(section.link_key)
    if link is None:
        link = shared.links[section.link_key] = ModbusLink(section)
    link.join(section)
    try:
        yield link
    finally:
        link.leave(section)
