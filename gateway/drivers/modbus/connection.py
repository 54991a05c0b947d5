"""One open connection, to an endpoint or a line: a request goes out, its answer comes in, or the reason why not."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from gateway.drivers.modbus.framing import Framing, Late, WrongFrame
from gateway.drivers.modbus.pdu import Request
from gateway.errors import DeviceError

CONNECTION_LOST: Final = "connection-lost"
"""The reason of a device to which there is no connection."""


class WrongAnswer(Exception):  # noqa: N818 -- it is what came, not what failed
    """What came is not the answer to what was asked. Says how it differs."""


class Answer(NamedTuple):
    """What a unit answered, and when it arrived (`ts`, ms since the Unix epoch).

    `payload` are the registers, or packed coils, as they arrived. It is empty where the unit refused: `refusal` is
    the exception code then (Modbus Application Protocol V1.1b3, section 7), and 0 otherwise. `took` are the seconds
    of the line that it cost, from the request's turn to the answer.
    """

    ts: int
    payload: bytes
    refusal: int
    took: float


class Wire(Protocol):
    """What bytes are sent on, whatever it is made of; what arrives, and the end, a Connection is told."""

    def write(self, data: bytes) -> None:
        """Send, without waiting."""

    def abort(self) -> None:
        """Close at once; what is not yet sent is not waited for."""


class Connection:
    """An open connection; the caller sees to it that one request at a time is in flight.

    `address` is what a person calls the peer, `explain` says why a connection ended. `resyncs` tells of a framing
    without transaction ids: a wrong frame fails the request only, and the line has to be quiet before the next.
    """

    def __init__(self, address: str, framing: Framing, explain: Callable[[Exception | None], DeviceError]) -> None:
        self.address = address
        self.has_answered = False
        self.unheard = 0
        """Requests in a row without one byte in between, of those that count (see `ModbusLink`)."""
        self.heard_at = 0.0
        self.arrived_ms = 0
        self.ended: DeviceError | None = None
        """Why it has ended, if not by us."""
        self.on_late: Callable[[Late], None] = lambda late: None
        self._framing = framing
        self._explain = explain
        self._line: Wire | None = None
        self._awaited: asyncio.Future[bytes] | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def is_usable(self) -> bool:
        """Whether the next request may be sent: connected, and not in the middle of an answer to an earlier one."""
        return self._line is not None and not self._framing.begun

    async def exchange(self, unit: int, request: Request, timeout: float) -> bytes:
        """Send a request and wait up to `timeout` seconds for its answer's PDU, or a refusal's.

        Raises TimeoutError, WrongAnswer, or DeviceError as soon as the connection ends. May be cancelled.
        """
        if self._line is None:
            raise self.ended or self._explain(None)
        awaited: asyncio.Future[bytes] = self._loop.create_future()
        self._awaited = awaited
        self._line.write(self._framing.ask(unit, request))
        timer = self._loop.call_later(timeout, _expire, awaited)
        try:
            return await awaited
        finally:
            timer.cancel()
            self._awaited = None

    def give_up(self) -> int:
        """Await nothing more, after a timeout or a cancellation; give the transaction that was under way."""
        return self._framing.give_up()

    def close(self) -> None:
        """Close at once; a request in flight fails."""
        self._end(self._explain(None))

    # What the line tells.

    def opened(self, line: Wire) -> None:
        """Take the line to send on."""
        self._line = line

    def received(self, data: bytes) -> None:
        """Take what arrived."""
        self.unheard = 0
        self.heard_at = self._loop.time()
        try:
            pdu = self._framing.feed(data)
        except WrongFrame as wrong:
            self._fail(WrongAnswer(f"{self.address} {wrong}"))
            if self._framing.resyncs:
                return
            self.close()
            return
        if self._framing.late:
            self._tell_late()
        if pdu is not None and self._awaited is not None and not self._awaited.done():
            self.arrived_ms = time.time_ns() // 1_000_000
            self.has_answered = True
            self._awaited.set_result(pdu)

    def lost(self, error: Exception | None) -> None:
        """Note that the connection has ended by itself; whoever waits for an answer fails at once."""
        if self._line is not None:
            self.ended = self._explain(error)
            self._end(self.ended)

    def _end(self, reason: DeviceError) -> None:
        line, self._line = self._line, None
        self._fail(reason)
        if line is not None:
            line.abort()

    def _tell_late(self) -> None:
        late, self._framing.late = self._framing.late, []
        for each in late:
            self.on_late(each)

    def _fail(self, error: Exception) -> None:
        awaited = self._awaited
        if awaited is not None and not awaited.done():
            awaited.set_exception(error)
            awaited.exception()  # seen: should the waiting task be cancelled just now, nobody else will ask for it


def _expire(awaited: asyncio.Future[bytes]) -> None:
    if not awaited.done():
        awaited.set_exception(TimeoutError())
        awaited.exception()
