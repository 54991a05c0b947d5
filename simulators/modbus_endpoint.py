"""The place where units answer, right, or wrong in the way they were told to, whatever carries the frames."""

import asyncio
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from simulators.lifecycle import Startable
from simulators.modbus_faults import Faults, spoil
from simulators.modbus_framing import MBAP, Framing
from simulators.modbus_identity import IDENTIFY
from simulators.modbus_pdu import TARGET_FAILED_TO_RESPOND, Request, exception
from simulators.modbus_units import Unit

PAUSE_S = 0.02
"""Between the pieces of an answer that comes in pieces."""


class Peer(Protocol):
    """Where an answer goes to. `due` counts the answers that are still owed."""

    due: int

    @property
    def is_gone(self) -> bool:
        """Whether nobody would get an answer."""

    def send(self, octets: bytes) -> None:
        """Send them at once."""

    def close(self) -> None:
        """End the connection, where there is one."""


class Endpoint(Startable):
    """Units and their account: what all transports have in common.

    `faults` are those of the whole endpoint, beside each unit's own. `requests` counts all requests,
    `function_codes` are those seen, `mei_types` those of function 43, `history` holds the last requests,
    `connections` counts the connections accepted so far, `overlapping` the requests that came while the same peer
    was still owed an answer.
    """

    framing: Framing = MBAP

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__()
        self.units = {unit.unit_id: unit for unit in units}
        self.faults = Faults()
        self.requests = 0
        self.connections = 0
        self.overlapping = 0
        self.function_codes: set[int] = set()
        self.mei_types: set[int] = set()
        self.history: deque[Request] = deque(maxlen=1000)

    def __repr__(self) -> str:
        place = " ".join(str(part) for part in self.where.values())
        return f"<{type(self).__name__} {place}, {'open' if self.is_open else 'closed'}, {self.requests} requests>"

    @property
    @abstractmethod
    def where(self) -> dict[str, Any]:
        """How to reach it: what `--json-ready` tells."""

    def cut(self) -> None:
        """End all connections, where there are any, and go on listening."""

    def report(self) -> dict[str, Any]:
        """The endpoint's own account, to hold against what a client says it saw."""
        return {
            "requests": self.requests,
            "connections": self.connections,
            "overlapping": self.overlapping,
            "function_codes": sorted(self.function_codes),
            "mei_types": sorted(self.mei_types),
            "units": {unit.name: unit.report() for unit in self.units.values()},
        }

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        lifecycle = {"stop": self.stop, "start": self.start, "cut": self.cut, "report": self.report}
        return {**self.faults.commands, **lifecycle}

    def take(self, request: Request, peer: Peer) -> None:
        """Answer a request; in the order in which they came, unless a delay is changed meanwhile."""
        self.overlapping += peer.due > 0
        faults = self._note(request)
        if any(each.frozen for each in faults):
            return
        peer.due += 1
        self._after(sum(each.delay_s for each in faults), self._answer, request, faults, peer)

    def _note(self, request: Request) -> tuple[Faults, ...]:
        """Count a request; give the faults that its answer is under."""
        self.requests += 1
        self.function_codes.add(request.function)
        if request.function == IDENTIFY:
            self.mei_types.update(request.pdu[1:2])
        self.history.append(request)
        unit = self.units.get(request.unit)
        if unit is None:
            return (self.faults,)
        unit.note(time.monotonic())
        return self.faults, unit.faults

    def _answer(self, request: Request, faults: tuple[Faults, ...], peer: Peer) -> None:
        if peer.is_gone or any(each.frozen for each in faults):
            peer.due -= 1
            return  # nobody would get it, so nothing was served
        self._send(self._respond(request, faults), any(each.closing for each in faults), peer)

    def _send(self, pieces: tuple[bytes, ...], closing: bool, peer: Peer) -> None:
        """Send the first piece now and the others later."""
        if pieces and not peer.is_gone:
            peer.send(pieces[0])
            if len(pieces) > 1:
                self._after(PAUSE_S, self._send, pieces[1:], closing, peer)
                return
        peer.due -= 1
        if closing and not peer.is_gone:
            peer.close()

    def _respond(self, request: Request, faults: tuple[Faults, ...]) -> tuple[bytes, ...]:
        """The pieces of the answer; the endpoint's faults come before the unit's own. None is silence."""
        unit = self.units.get(request.unit)
        for code, wrong in (each.turn() for each in faults):
            if code is not None:
                return (self._frame(request, exception(request.function, code)),)
            if wrong is not None and unit is not None:
                return spoil(wrong, request, unit.glimpse(request), unit.peek, self.framing)
        if unit is not None:
            return (self._frame(request, unit.answer(request)),)
        if self.framing.is_serial:
            return ()
        return (self._frame(request, exception(request.function, TARGET_FAILED_TO_RESPOND)),)

    def _frame(self, request: Request, pdu: bytes) -> bytes:
        return self.framing.wrap(request, pdu, unit=request.unit, transaction=request.transaction)

    @staticmethod
    def _after(seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at once, or later."""
        if seconds:
            asyncio.get_running_loop().call_later(seconds, call, *arguments)
        else:
            call(*arguments)
