"""What a Modbus unit, or a whole endpoint, does wrong on demand."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from simulators.modbus_framing import Framing
from simulators.modbus_pdu import READ_TABLES, Read, Refusal, Request, values_pdu
from simulators.registers import Table

Wrong = Literal[
    "short", "long", "byte-count", "function", "transaction", "unit", "check", "garbage", "half",
    "noise", "echo", "twice", "split",
]  # fmt: skip
Code = Annotated[int, Field(ge=1, le=255)]
Times = Annotated[int, Field(ge=1)] | None
Seconds = Annotated[float, Field(ge=0, le=3600)]
WRONGS: tuple[Wrong, ...] = get_args(Wrong)
_OTHER_FUNCTION = {1: 2, 2: 1, 3: 4, 4: 3}


@dataclass
class Faults:
    """The faults of one unit or of one endpoint; all off at first, each may be set while the simulator runs.

    A request that comes while frozen is never answered, not even after `resume`. A delayed answer is sent late, on
    the connection that asked, if that is still open. Of `exception` and `wrong` the one set last holds, for `times`
    answers or, without it, until `clear`.
    """

    frozen: bool = False
    delay_s: float = 0.0
    closing: bool = False
    refused: set[tuple[Table, int]] = field(default_factory=set)
    code: int | None = None
    spoiled: Wrong | None = None
    left: int | None = None

    def freeze(self) -> None:
        """Keep connections open and answer nothing."""
        self.frozen = True

    def resume(self) -> None:
        """Answer again what comes from now on."""
        self.frozen = False

    def delay(self, s: Seconds) -> None:
        """Send each answer `s` seconds late; 0 ends it."""
        self.delay_s = s

    def close_after_answer(self, on: bool = True) -> None:
        """Close the connection after each answer."""
        self.closing = on

    def refuse(self, table: Table, addresses: list[int]) -> None:
        """Answer exception 2 to each request that touches one of the addresses."""
        self.refused.update((table, address) for address in addresses)

    def accept(self, table: Table, addresses: list[int]) -> None:
        """Take addresses back from `refuse`."""
        self.refused.difference_update((table, address) for address in addresses)

    def exception(self, code: Code, times: Times = None) -> None:
        """Answer this exception code instead of values."""
        self.code, self.spoiled, self.left = code, None, times

    def wrong(self, kind: Wrong, times: Times = None) -> None:
        """Answer in a wrong way: see `spoil`."""
        self.code, self.spoiled, self.left = None, kind, times

    def clear(self) -> None:
        """Behave again."""
        vars(self).update(vars(Faults()))

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        return {
            "freeze": self.freeze,
            "resume": self.resume,
            "delay": self.delay,
            "close-after-answer": self.close_after_answer,
            "refuse": self.refuse,
            "accept": self.accept,
            "exception": self.exception,
            "wrong": self.wrong,
            "clear": self.clear,
        }

    def check(self, table: Table, address: int, count: int) -> None:
        """Raise `Refusal` if a request touches a refused address."""
        if any((table, at) in self.refused for at in range(address, address + count)):
            raise Refusal(2)

    def turn(self) -> tuple[int | None, Wrong | None]:
        """The exception code or the wrong way of the present answer; uses up one of `times`."""
        chosen = (self.code, self.spoiled)
        if chosen != (None, None) and self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.code = self.spoiled = self.left = None
        return chosen


def spoil(kind: Wrong, request: Request, good: bytes, peek: Read, framing: Framing) -> tuple[bytes, ...]:
    """The pieces, sent with a pause between, that answer a request in a wrong way; `good` is the right PDU.

    short, long: one register (eight bits) too few or too many, told consistently. byte-count: the count says one
    octet more than there is. function: the sister table's code. transaction, unit: the next number; on a serial line
    there is no transaction, and the answer is good. check: the CRC is wrong, or the protocol identifier. garbage: no
    Modbus at all. half: the first half of a good frame, and then nothing. noise, echo: random octets, or the request
    itself, before a good frame. twice: a good frame two times over. split: a good frame in two pieces.
    """
    if kind in ("short", "long") and request.function in READ_TABLES and not good[0] & 0x80:
        good = _resized(request, peek, 1 if kind == "long" else -1)
    if kind == "byte-count":
        good = bytes((good[0], (good[1] + 1) & 0xFF)) + good[2:]
    if kind == "function":
        good = bytes((_OTHER_FUNCTION.get(good[0], good[0] ^ 0x01),)) + good[1:]
    transaction = (request.transaction + (kind == "transaction")) & 0xFFFF
    frame = framing.wrap(request, good, unit=(request.unit + (kind == "unit")) & 0xFF, transaction=transaction)
    half = len(frame) // 2
    pieces = {
        "check": (framing.spoil_check(frame),),
        "garbage": (b"\xde\xad\xbe\xef" * 5,),
        "half": (frame[:half],),
        "noise": (b"\xff\x00\xf8" + frame,),
        "echo": (request.wire + frame,),
        "twice": (frame + frame,),
        "split": (frame[:half], frame[half:]),
    }
    return pieces.get(kind, (frame,))


def _resized(request: Request, peek: Read, by: int) -> bytes:
    address, count = request.span
    values = list(peek(READ_TABLES[request.function], address, count))
    step = 8 if request.function in (1, 2) else 1
    wanted = max((len(values) + step - 1) // step + by, 0) * step
    return values_pdu(request.function, (values + [0] * step)[:wanted])
