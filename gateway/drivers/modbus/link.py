"""The way to one endpoint or line, shared by all units behind it: whoever asks waits for his turn."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import Final

from gateway.drivers.base import Shared
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.connection import Answer
from gateway.drivers.modbus.framing import Late
from gateway.drivers.modbus.pdu import EXCEPTION, ReadRequest, Request, identification, refusal_of
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.modbus.session import Session
from gateway.drivers.modbus.silence import Silence, gap_of
from gateway.drivers.modbus.transports import ways_of
from gateway.drivers.modbus.turns import Ticket, Turns
from gateway.drivers.modbus.unit import Unit, load

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
        self._turns = Turns(shortens=not resyncs)
        self._silence = Silence(gap_of(section) if resyncs else None)
        self._session = Session(ways, self._silence, self._late)
        self._look: asyncio.TimerHandle | None = None
        self._cut: tuple[int, Unit, float] | None = None
        self._close_after_cycle = False
        self._heed(section)

    def __repr__(self) -> str:
        return f"<ModbusLink {self._address}, {'open' if self.is_open else 'closed'}, {self.users} users>"

    async def connect(self, timeout: float) -> None:
        """Open the connection unless it is open. Raises DeviceError (`connection-lost`) if it cannot be.

        `timeout` is what each endpoint may take, in seconds, not counting those who were first. After a failure
        others fail at once for a short while.
        """
        if self.is_open:
            return
        self._session.check()
        ticket = Ticket(None, timeout, timeout, monotonic())
        await self._turn(ticket)
        try:
            await self._session.connect(timeout)
        finally:
            self._pass_on()

    async def read(
        self,
        unit: int,
        table: Table,
        start: int,
        count: int,
        *,
        timeout: float,
        delay: float = 0.0,
        in_person: bool = False,
    ) -> Answer:
        """Read `count` registers or coils of a unit from `start` on, `delay` seconds or more after the last answer.

        `timeout` is what the unit may take, in seconds, once it is asked; an exception response is an answer. A unit
        that did not answer the last time waits until asking it costs the others nothing, or little; with `in_person`,
        for somebody who sits there and waits, only for the next pause.
        Raises TimeoutError if nothing came (the connection stays, unless nothing came the time before either),
        WrongAnswer if something else came, and DeviceError (`connection-lost`) if there is no connection or it ended.
        """
        pdu, ts, took = await self._ask(unit, ReadRequest(table, start, count), timeout, delay, in_person)
        return Answer(ts, b"", pdu[1], took) if pdu[0] & EXCEPTION else Answer(ts, pdu[2:], 0, took)

    async def identify(
        self, unit: int, *, timeout: float, delay: float = 0.0, in_person: bool = False
    ) -> Mapping[int, str] | int:
        """Read a unit's identification, all levels of it (V1.1b3, section 6.21): object numbers and their texts.

        Gives the exception code where the unit refuses, which most do with 1. Raises as `read` does.
        """
        asking = identification()
        request = next(asking)
        try:
            while True:
                pdu, _, _ = await self._ask(unit, request, timeout, delay, in_person)
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
        """Take a further device."""
        self.users += 1
        self._heed(section)

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
        self._session.close()

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that the next request can use."""
        return self._session.is_open

    def _heed(self, section: ModbusDevice) -> None:
        """Of what devices demand of their connection the most careful counts."""
        session = self._session
        session.timeout = max(session.timeout, section.timeout)
        session.connect_delay = max(session.connect_delay, section.connect_delay)
        self._close_after_cycle = self._close_after_cycle or section.close_after_cycle

    async def _ask(
        self, number: int, request: Request, timeout: float, delay: float, in_person: bool
    ) -> tuple[bytes, int, float]:
        """Send a request when it is its turn; give its answer's PDU, when that came, and the seconds of the line."""
        self._session.check()
        unit = self._turns.unit(number)
        cost = delay + self._silence.cost(unit, timeout)
        ticket = Ticket(unit, timeout, cost, monotonic(), in_person=in_person)
        await self._turn(ticket)
        began = monotonic()
        unit.ask(timeout, began)
        try:
            pdu, ts, took = await self._session.ask(unit, request, ticket, delay)
            if refusal_of(pdu) in UNREACHED:
                unit.missed()
            else:
                self._turns.answered(unit, took, monotonic())
            return pdu, ts, monotonic() - began
        except TimeoutError:
            self._missed(unit, ticket)
            raise
        finally:
            self._pass_on(began)

    def _missed(self, unit: Unit, ticket: Ticket) -> None:
        was_live = unit.live
        unit.missed()
        if ticket.window < ticket.timeout:
            self._cut = (self._session.transaction, unit, monotonic() + ticket.timeout - ticket.window)
        self._session.missed(was_live=was_live, alone=not self._turns.protects(monotonic()))

    def _late(self, late: Late) -> None:
        """Notice a unit that answers after all, in its time, a probe that was cut short."""
        if self._cut is not None and late.transaction == self._cut[0]:
            (_, unit, until), self._cut = self._cut, None
            if monotonic() <= until and refusal_of(late.pdu) not in UNREACHED:
                self._turns.answered(unit, 0.0, monotonic())
        self._next()

    async def _turn(self, ticket: Ticket) -> None:
        """Wait for the turn. May be cancelled."""
        if self._turns.take(ticket, ticket.asked_at):
            return
        self._turns.ask(ticket)
        self._next()
        if self._turns.current is ticket:
            return
        ticket.called = asyncio.get_running_loop().create_future()
        try:
            await ticket.called
        except asyncio.CancelledError:
            if self._turns.current is ticket:
                self._pass_on()
            else:
                self._turns.withdraw(ticket)
            raise

    def _pass_on(self, began: float | None = None) -> None:
        now = monotonic()
        self._turns.release(now, 0.0 if began is None else now - began + self._silence.remaining(now))
        self._next()

    def _next(self) -> None:
        """Call whoever may have the turn now; else look again when that may have changed."""
        if self._turns.current is not None or not self._turns.is_waited_for:
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
