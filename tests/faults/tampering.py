"""What may befall an answer on its way, as octets in and octets out. Each is wrong in a way that a client can see."""

import struct
from collections.abc import Callable
from random import Random
from typing import Literal, get_args

from simulators.modbus_framing import Framing
from simulators.modbus_pdu import Request

Tampered = Literal[
    "truncate", "transaction", "unit", "function", "length", "short", "long", "check", "garbage",
    "noise-before", "noise-after", "echo", "twice", "stale-before", "busy",
]  # fmt: skip
TAMPERED: tuple[Tampered, ...] = get_args(Tampered)
ON_MBAP_ONLY = frozenset({"transaction", "stale-before"})
"""Without transaction numbers nobody could tell: on a serial line, only time keeps an old answer from a new request."""
Wrapped = Callable[..., bytes]
_OTHER_FUNCTION = {1: 2, 2: 1, 3: 4, 4: 3}


def tamper(  # noqa: C901 -- a list, not a tangle
    kind: Tampered, request: Request, frame: bytes, before: bytes, framing: Framing, random: Random
) -> bytes:
    """The octets that arrive instead of `frame`, the good answer to `request`; `before` is the answer before it.

    What comes under another transaction, unit, function or protocol has other values in it, as another's answer has.
    The octets of values are flipped on a serial line only, up to three bits in a frame, which a CRC-16 always shows;
    TCP has checksums of its own, and no client could see it.
    """
    serial = framing.is_serial
    pdu = frame[1:-2] if serial else frame[7:]
    others = pdu[:2] + bytes(octet ^ 0x5A for octet in pdu[2:])

    def wrapped(pdu: bytes, unit: int = request.unit, transaction: int = request.transaction) -> bytes:
        return framing.wrap(request, pdu, unit=unit, transaction=transaction)

    match kind:
        case "truncate":
            return frame[: random.randrange(1, len(frame))]
        case "transaction":
            return wrapped(others, transaction=(request.transaction + random.randrange(1, 65536)) & 0xFFFF)
        case "unit":
            return wrapped(others, unit=(request.unit + random.randrange(1, 256)) & 0xFF)
        case "function":
            functions = (_OTHER_FUNCTION.get(pdu[0], 3), 5, 6, 43, 0, pdu[0] | 0x40)
            return wrapped(bytes((random.choice(functions),)) + others[1:])
        case "length":
            return _wrong_length(frame, pdu, wrapped, serial, random)
        case "short" | "long":
            return wrapped(_resized(pdu, kind == "long"))
        case "check":
            return _flipped(frame, random) if serial else _other_protocol(wrapped(others), random)
        case "garbage":
            return _garbage(request, random)
        case "noise-before":
            return _noise(request, random) + frame
        case "noise-after":
            return frame + _noise(request, random)
        case "echo":
            return request.wire + frame
        case "twice":
            return frame + frame
        case "stale-before":
            return before + frame
        case "busy":
            return wrapped(bytes((pdu[0] | 0x80, random.choice((5, 6, 10, 11)))))


def _wrong_length(frame: bytes, pdu: bytes, wrapped: Wrapped, serial: bool, random: Random) -> bytes:
    """A byte count, or the header's length, that is not what follows."""
    off = random.choice((-2, -1, 1, 2, 30))
    if serial or random.random() < 0.5:
        return wrapped(bytes((pdu[0], (pdu[1] + off) & 0xFF)) + pdu[2:])
    return frame[:4] + struct.pack(">H", max(len(pdu) + 1 + off, 0)) + frame[6:]


def _resized(pdu: bytes, longer: bool) -> bytes:
    """One register, or sixteen bits, more or fewer, told consistently."""
    octets = pdu[2:] + b"\x55\xaa" if longer else pdu[2:-2]
    return bytes((pdu[0], len(octets) & 0xFF)) + octets


def _flipped(frame: bytes, random: Random) -> bytes:
    flipped = bytearray(frame)
    for position in random.sample(range(len(frame) * 8), random.randrange(1, 4)):
        flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


def _other_protocol(frame: bytes, random: Random) -> bytes:
    return frame[:2] + struct.pack(">H", random.randrange(1, 65536)) + frame[4:]


def _garbage(request: Request, random: Random) -> bytes:
    """Random octets that are no answer by accident."""
    octets = random.randbytes(random.randrange(1, 80))
    return bytes((request.unit ^ 0xFF,)) + octets[:1] + b"\xff\xff" + octets


def _noise(request: Request, random: Random) -> bytes:
    """A few octets as an idle line makes them; never the unit that is asked, which a frame would begin with."""
    octets = random.choices([each for each in range(256) if each != request.unit], k=random.randrange(1, 4))
    return bytes(octets)
