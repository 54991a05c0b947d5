"""A proxy between gateway and PLC that does to answers what networks and bus converters do, by a seeded plan."""

import asyncio
import os
import socket
import struct
import tty
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal, Self, cast, get_args

from simulators.modbus_framing import Framing, FramingError
from simulators.modbus_pdu import Request
from tests.faults.tampering import ON_MBAP_ONLY, TAMPERED, Tampered, tamper

Timing = Literal["delay", "late", "drop-request", "drop", "duplicate", "split", "half-open", "reset", "close"]
Fault = Tampered | Timing
FAULTS: tuple[Fault, ...] = (*get_args(Timing), *TAMPERED)
ON_CONNECTIONS_ONLY: frozenset[Fault] = frozenset({"reset", "close"})
BLIND_TIMEOUTS = 3.0
"""How long a serial line or UDP path, which nobody can open anew, stays half-open."""


class Side(ABC):
    """Where a client's octets come from, and answers go to: a connection, a serial line, an address."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.blind_until = 0.0

    @abstractmethod
    def write(self, octets: bytes) -> None:
        """Send, unless nobody is there."""

    def end(self, how: Literal["reset", "close"]) -> None:
        """End the connection, where there is one."""
        raise NotImplementedError


class FaultProxy:
    """Passes a gateway's requests to `target`, the PLC, and its answers back, a `share` of them with a fault.

    It understands the frames of both directions: `codes` counts the function codes that passed, `nonsense` holds
    what the gateway sent that is no request, `faults` counts what was done. A `late` answer comes after `late`
    timeouts (from, to). On serial framings it may come by way of the next connection: the converter does not know
    who asked. The plan depends on `seed` and on the order of the requests.
    """

    def __init__(
        self,
        target: tuple[str, int],
        framing: Framing,
        *,
        seed: int,
        timeout_s: float,
        share: float = 0.2,
        late: tuple[float, float] = (1.05, 2.8),
        kinds: Sequence[Fault] = FAULTS,
        front: "Callable[[FaultProxy], Front] | None" = None,
    ) -> None:
        self.target = target
        self.framing = framing
        self.random = Random(seed)
        self.timeout_s = timeout_s
        self.share = share
        self.late = late
        self.faults: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.nonsense: list[bytes] = []
        self.side: Side | None = None
        self._front = (front or TcpFront)(self)
        unfit = (frozenset() if not framing.is_serial else ON_MBAP_ONLY) | self._front.unfit
        self.kinds = tuple(kind for kind in kinds if kind not in unfit)
        self._asked: asyncio.Queue[tuple[Request, Side]] = asyncio.Queue()
        self._deck: list[Fault] = []
        self._before = b""

    @property
    def where(self) -> dict[str, Any]:
        """The keys of a device's section that lead here."""
        return self._front.where

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection(*self.target)
        await self._front.open()
        self._passing = asyncio.create_task(self._pass(reader), name="fault proxy")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._passing.cancel()
        await asyncio.wait([self._passing])
        self._writer.transport.abort()
        await self._front.close()

    def take(self, octets: bytes, side: Side) -> None:
        """Take what a client sent."""
        if self._is_blind(side):
            return
        self.side = side
        side.received += octets
        try:
            while (request := self.framing.take(side.received)) is not None:
                mei = f"/{request.pdu[1]}" if request.function == 43 else ""
                self.codes[f"{request.function}{mei}"] += 1
                self._asked.put_nowait((request, side))
        except FramingError:
            self.nonsense.append(bytes(side.received))
            side.received.clear()

    async def _pass(self, reader: asyncio.StreamReader) -> None:
        while True:
            request, side = await self._asked.get()
            fault = self._next_fault() if self.random.random() < self.share else None
            if fault is not None:
                self.faults[fault] += 1
            if fault == "drop-request":
                continue
            self._writer.write(request.wire)
            frame = await self._answer(reader)
            self._deliver(fault, request, frame, side)
            self._before = frame

    def _next_fault(self) -> Fault:
        """Each kind comes once before any comes again."""
        if not self._deck:
            self._deck = self.random.sample(self.kinds, len(self.kinds))
        return self._deck.pop()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        if not self.framing.is_serial:
            head = await reader.readexactly(6)
            return head + await reader.readexactly(int.from_bytes(head[4:], "big"))
        head = await reader.readexactly(3)
        return head + await reader.readexactly(2 if head[1] & 0x80 else head[2] + 2)

    def _deliver(self, fault: Fault | None, request: Request, frame: bytes, side: Side) -> None:
        match fault:
            case None:
                self._write(side, frame)
            case "delay":
                self._after(self.random.uniform(0.05, 0.7), self._write, side, frame)
            case "late":
                whose = None if self.framing.is_serial and self.random.random() < 0.5 else side
                self._after(self.random.uniform(*self.late), self._write, whose, frame)
            case "drop":
                pass
            case "duplicate":
                self._write(side, frame)
                # On a serial line a copy is part of what comes, or comes when it may be the next answer's twin.
                self._after(0 if self.framing.is_serial else self.random.random(), self._write, side, frame)
            case "split":
                self._split(frame, side)
            case "half-open":
                side.blind_until = self._front.blind_until(BLIND_TIMEOUTS * self.timeout_s)
            case "reset" | "close":
                self._write(side, frame[: self.random.randrange(len(frame))])
                side.end(fault)
            case _:
                octets = tamper(cast("Tampered", fault), request, frame, self._before, self.framing, self.random)
                self._write(side, octets)

    def _split(self, frame: bytes, side: Side) -> None:
        """Send in two to five segments, within half of the timeout."""
        cuts = sorted(self.random.sample(range(1, len(frame)), self.random.randrange(1, 5)))
        for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(frame)], strict=True)):
            self._after(number * 0.1, self._write, side, frame[begin:end])

    def _after(self, timeouts: float, call: Callable[..., None], *arguments: Any) -> None:
        if timeouts:
            asyncio.get_running_loop().call_later(timeouts * self.timeout_s, call, *arguments)
        else:
            call(*arguments)

    def _write(self, side: Side | None, octets: bytes) -> None:
        """Write to a side, or to whoever is there by now."""
        side = side or self.side
        if side is not None and not self._is_blind(side):
            side.write(octets)

    def _is_blind(self, side: Side) -> bool:
        return asyncio.get_running_loop().time() < side.blind_until


class Front(ABC):
    """How the gateway comes to the proxy."""

    unfit: frozenset[Fault] = ON_CONNECTIONS_ONLY
    where: dict[str, Any]

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy

    @abstractmethod
    async def open(self) -> None:
        """Be there."""

    @abstractmethod
    async def close(self) -> None:
        """Be gone."""

    def blind_until(self, seconds: float) -> float:
        """Until when what is half-open now stays so."""
        return asyncio.get_running_loop().time() + seconds


class TcpFront(Front):
    """A listening port."""

    unfit = frozenset()

    async def open(self) -> None:
        """Listen."""
        self._sides: set[_Connection] = set()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.where = {"host": "127.0.0.1", "port": self._server.sockets[0].getsockname()[1]}

    async def close(self) -> None:
        """Cut all connections."""
        self._server.close()
        for side in list(self._sides):
            side.end("reset")
        await self._server.wait_closed()

    def blind_until(self, seconds: float) -> float:
        """For ever: whoever notices connects anew."""
        return float("inf")


class _Connection(Side, asyncio.Protocol):
    def __init__(self, front: TcpFront) -> None:
        super().__init__()
        self._front = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._front._sides.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._front._sides.discard(self)

    def data_received(self, data: bytes) -> None:
        self._front.proxy.take(data, self)

    def write(self, octets: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(octets)

    def end(self, how: Literal["reset", "close"]) -> None:
        if how == "close":
            self._transport.close()
            return
        linger = struct.pack("ii", 1, 0)  # a closing socket sends RST
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


class UdpFront(Front):
    """A port for datagrams."""

    async def open(self) -> None:
        """Take the port."""
        loop = asyncio.get_running_loop()
        make = lambda: _Datagrams(self)  # noqa: E731 -- a factory
        self._transport, _ = await loop.create_datagram_endpoint(make, local_addr=("127.0.0.1", 0))
        self.where = {"host": "127.0.0.1", "port": self._transport.get_extra_info("sockname")[1]}

    async def close(self) -> None:
        """Give it back."""
        self._transport.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, front: UdpFront) -> None:
        self._front = front
        self._sides: dict[Any, _Address] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        side = self._sides.setdefault(addr, _Address(self._transport, addr))
        self._front.proxy.take(data, side)
        side.received.clear()


class _Address(Side):
    def __init__(self, transport: asyncio.DatagramTransport, address: Any) -> None:
        super().__init__()
        self._transport = transport
        self._address = address

    def write(self, octets: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.sendto(octets, self._address)


class SerialFront(Front):
    """A pseudo-terminal."""

    async def open(self) -> None:
        """Make it."""
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self.where = {"serial": {"port": os.ttyname(self._theirs), "parity": "N"}}
        self._side = _Port(self._ours)
        asyncio.get_running_loop().add_reader(self._ours, self._receive)

    def _receive(self) -> None:
        self.proxy.take(os.read(self._ours, 4096), self._side)

    async def close(self) -> None:
        """Give it back."""
        self._side.is_gone = True
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
        os.close(self._theirs)


class _Port(Side):
    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.is_gone = False

    def write(self, octets: bytes) -> None:
        if not self.is_gone:
            os.write(self._fd, octets)
