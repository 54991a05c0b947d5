"""The connection of a link, opened when it is needed and anew when it is gone, and the silences on its line."""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Final

from gateway.drivers.modbus.connection import Connection, WrongAnswer
from gateway.drivers.modbus.dial import Dial
from gateway.drivers.modbus.framing import Late
from gateway.drivers.modbus.pdu import Request
from gateway.drivers.modbus.silence import Silence
from gateway.drivers.modbus.transports import Way
from gateway.drivers.modbus.turns import Ticket
from gateway.drivers.modbus.unit import Unit
from gateway.errors import DeviceError

SILENT_REQUESTS: Final = 2
"""So many requests in a row without one byte in between, and the connection is half-open."""


class Session:
    """One connection at most; the caller sees to it that one request at a time is under way.

    `timeout` is the longest that a request may take, `connect_delay` the pause that the endpoint needs after
    connecting (seconds). `on_late` is told of whole answers to requests that were given up.
    """

    def __init__(self, ways: Sequence[Way], silence: Silence, on_late: Callable[[Late], None]) -> None:
        self.timeout = 0.0
        self.connect_delay = 0.0
        self.transaction = 0
        self._may_hang = ways[0].may_hang
        self._dial = Dial(ways)
        self._silence = silence
        self._on_late = on_late
        self._connection: Connection | None = None
        self._ready_at = -inf
        self._woken: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that the next request can use."""
        return self._connection is not None and self._connection.is_usable

    def check(self) -> None:
        """Raise DeviceError if there is no connection, and it is too early to try again."""
        if not self.is_open:
            self._dial.check()

    async def connect(self, timeout: float) -> Connection:
        """Give an open connection, which may be used. Raises DeviceError."""
        connection = self._connection
        if connection is None or not connection.is_usable:
            self.close()
            connection = await self._dial.open(timeout, 2 * max(timeout, self.timeout))
            connection.on_late = self._late
            self._connection = connection
            self._ready_at = monotonic() + self.connect_delay
        if (remaining := self._ready_at - monotonic()) > 0:
            await asyncio.sleep(remaining)
        return connection

    async def ask(self, unit: Unit, request: Request, ticket: Ticket, delay: float) -> tuple[bytes, int, float]:
        """Send a request, `delay` seconds after the last one; give its answer's PDU, when it came, and how soon.

        Raises TimeoutError, WrongAnswer and DeviceError. May be cancelled.
        """
        connection = await self._prepared(delay, ticket.timeout)
        try:
            return await self._exchange(connection, unit, request, ticket)
        except DeviceError:
            if not connection.has_answered or connection is not self._connection:
                raise
        # A PLC may close a connection that it served well, as idle, just while the next request is under way.
        connection = await self._prepared(delay, ticket.timeout)
        return await self._exchange(connection, unit, request, ticket)

    def missed(self, *, was_live: bool, alone: bool) -> None:
        """Note that a unit did not answer; where it should have, twice in a row, the connection is given up.

        The silence of a unit that was silent before says nothing of a connection on which others answer; `alone`:
        there are none.
        """
        connection = self._connection
        if connection is None or not self._may_hang:
            return
        if was_live or alone or not connection.has_answered:
            connection.unheard += 1
        if connection.unheard >= SILENT_REQUESTS:
            self.close()

    def close(self) -> None:
        """Close the connection, if there is one; a request under way fails."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            self._dial.ended(connection)
            connection.close()

    async def _exchange(
        self, connection: Connection, unit: Unit, request: Request, ticket: Ticket
    ) -> tuple[bytes, int, float]:
        sent_at = monotonic()
        self._silence.sent()
        try:
            pdu = await connection.exchange(unit.number, request, ticket.window)
        except WrongAnswer:
            self._silence.wrong(unit, ticket.timeout, monotonic())
            unit.failed()
            raise
        except DeviceError:
            unit.failed()
            if self._may_hang:
                # The same answers may come over the next connection yet, where a converter is in between.
                self._silence.wrong(unit, ticket.timeout, monotonic())
            raise
        except (TimeoutError, asyncio.CancelledError):
            self.transaction = connection.give_up()
            self._silence.give_up(unit, sent_at, ticket.timeout, monotonic())
            raise
        finally:
            self._silence.rested_at = monotonic()
        self._dial.answered()
        return pdu, connection.arrived_ms, self._silence.rested_at - sent_at

    async def _prepared(self, delay: float, timeout: float) -> Connection:
        """Wait until the line may be used, and give an open connection."""
        while True:
            connection = self._connection
            heard_at = connection.heard_at if connection is not None else -inf
            now = monotonic()
            if (until := self._silence.until(delay, heard_at, now)) > now:
                await self._sleep(until - now)
            elif connection is not None and connection.is_usable and self._ready_at <= now:
                return connection
            else:
                return await self.connect(timeout)

    async def _sleep(self, seconds: float) -> None:
        """Wait, or until there is something to wait for no more."""
        loop = asyncio.get_running_loop()
        self._woken = woken = loop.create_future()
        timer = loop.call_later(seconds, _wake, woken)
        try:
            await woken
        finally:
            timer.cancel()
            self._woken = None

    def _late(self, late: Late) -> None:
        """What a line without transaction ids was left alone for has come."""
        self._silence.settle(monotonic())
        if self._woken is not None:
            _wake(self._woken)
        self._on_late(late)


def _wake(woken: "asyncio.Future[None]") -> None:
    if not woken.done():
        woken.set_result(None)
