"""A Modbus TCP endpoint with several units behind it, which answers right, or wrong in the way it was told to."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Self

from simulators.modbus_faults import Faults, spoil
from simulators.modbus_pdu import (
    TARGET_FAILED_TO_RESPOND,
    FramingError,
    Request,
    answer,
    exception,
    frame,
    take_request,
)
from simulators.modbus_units import Unit

HOST = "127.0.0.1"


class ModbusSimulator:
    """Serves units on a loopback port: `async with ModbusSimulator([PressUnit()]) as simulator: simulator.port`.

    Port 0 takes a free one, and keeps it over `stop` and `start`. `faults` are those of the whole endpoint, beside
    each unit's own. `requests` counts all requests, `function_codes` are those seen, `history` holds the last ones,
    `connections` counts the connections accepted so far.
    """

    def __init__(self, units: Sequence[Unit], *, host: str = HOST, port: int = 0) -> None:
        self.units = {unit.unit_id: unit for unit in units}
        self.host = host
        self.port = port
        self.faults = Faults()
        self.requests = 0
        self.connections = 0
        self.function_codes: set[int] = set()
        self.history: deque[Request] = deque(maxlen=1000)
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()

    def __repr__(self) -> str:
        state = "closed" if self._server is None else f"{len(self._open)} open connections"
        return f"<ModbusSimulator {self.host}:{self.port}, {state}, {self.requests} requests>"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Does nothing while it listens already.

        Raises:
            OSError: the port is taken.
        """
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(lambda: _Connection(self), self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close all connections and refuse new ones, as a PLC does that loses its power."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self.cut()
            await server.wait_closed()

    def cut(self) -> None:
        """Close all connections and go on listening."""
        for connection in list(self._open):
            connection.abort()

    def report(self) -> dict[str, Any]:
        """The endpoint's own account, to hold against what a client says it saw."""
        return {
            "requests": self.requests,
            "connections": self.connections,
            "function_codes": sorted(self.function_codes),
            "units": {unit.name: unit.report() for unit in self.units.values()},
        }

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        lifecycle = {"stop": self.stop, "start": self.start, "cut": self.cut, "report": self.report}
        return {**self.faults.commands, **lifecycle}

    def _opened(self, connection: "_Connection") -> None:
        self.connections += 1
        self._open.add(connection)

    def _closed(self, connection: "_Connection") -> None:
        self._open.discard(connection)

    def _note(self, request: Request) -> tuple[Faults, ...]:
        """Count a request; give the faults that its answer is under."""
        self.requests += 1
        self.function_codes.add(request.function)
        self.history.append(request)
        unit = self.units.get(request.unit)
        if unit is None:
            return (self.faults,)
        unit.requests += 1
        return self.faults, unit.faults

    def _respond(self, request: Request, faults: tuple[Faults, ...]) -> bytes:
        """The frame that answers a request; the endpoint's faults come before the unit's own."""
        unit = self.units.get(request.unit)
        for code, wrong in (each.turn() for each in faults):
            if code is not None:
                return frame(request.transaction, request.unit, exception(request.function, code))
            if wrong is not None and unit is not None:
                return spoil(wrong, request, unit.peek)
        if unit is None:
            return frame(request.transaction, request.unit, exception(request.function, TARGET_FAILED_TO_RESPOND))
        return frame(request.transaction, request.unit, answer(request, unit.read))


class _Connection(asyncio.Protocol):
    """One client. Requests are answered in the order in which they came, unless a delay is changed meanwhile."""

    def __init__(self, simulator: ModbusSimulator) -> None:
        self._simulator = simulator
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- asyncio types it as any transport
        self._transport = transport
        self._simulator._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._simulator._closed(self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        try:
            while (request := take_request(self._received)) is not None:
                self._take(request)
        except FramingError:
            self.abort()

    def _take(self, request: Request) -> None:
        faults = self._simulator._note(request)
        if any(each.frozen for each in faults):
            return
        if delay_s := sum(each.delay_s for each in faults):
            asyncio.get_running_loop().call_later(delay_s, self._answer, request, faults)
        else:
            self._answer(request, faults)

    def _answer(self, request: Request, faults: tuple[Faults, ...]) -> None:
        if self._transport is None or self._transport.is_closing() or any(each.frozen for each in faults):
            return  # nobody would get it, so nothing was served
        self._transport.write(self._simulator._respond(request, faults))
        if any(each.closing for each in faults):
            self._transport.close()
