"""Where the models of a SunSpec device lie: its chain of headers, walked (SunSpec Information Model Specification)."""

import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

BASES: Final = (40000, 0, 50000)
"""Where the chain may begin, in the order in which a client is to look."""
MARK: Final = b"SunS"
END: Final = 0xFFFF
"""The model id behind the last model."""
_HEADER: Final = struct.Struct(">HH")
HEADER_REGISTERS: Final = 2
_LAST_HEADER: Final = 0x10000 - HEADER_REGISTERS
_MOST_MODELS: Final = 250
"""No device has so many; what seems to is no chain, and is not followed through all of its registers."""

Read = Callable[[int, int], Awaitable[bytes | None]]
"""Reads holding registers from a start on, as they arrive; None where the device refuses them."""


async def walk(read: Read, bases: Iterable[int] = BASES) -> dict[int, tuple[int, int]]:
    """Give, by model id, the first register of a model's data and how many there are; nothing if there is no chain.

    Of a model that comes more than once the first counts. Reads headers only.
    """
    for base in bases:
        if await read(base, HEADER_REGISTERS) == MARK:
            return await _chain(read, base + HEADER_REGISTERS)
    return {}


async def _chain(read: Read, at: int) -> dict[int, tuple[int, int]]:
    models: dict[int, tuple[int, int]] = {}
    for _ in range(_MOST_MODELS):
        header = await read(at, HEADER_REGISTERS) if at <= _LAST_HEADER else None
        if header is None:
            break
        model, length = _HEADER.unpack(header)
        if model == END:
            break
        at += HEADER_REGISTERS
        models.setdefault(model, (at, length))
        at += length
    return models
