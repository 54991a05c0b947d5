"""A value as it came from a server: JSON-safe, or with the reason why there is none; its status and timestamps."""

from functools import lru_cache
from typing import Final, NamedTuple, Self

from asyncua import ua
from asyncua.ua import status_codes

from gateway.model import Value


class Unusable(NamedTuple):
    """Stands where a value should be, and says why there is none."""

    reason: str


class Packed(Unusable):
    """Structures as they came, each the id of its encoding and its bytes: what they mean is known to a `TypeBook` only.

    `shape` is None for a single one, else the lengths of the array's dimensions. Without a book it is no value.
    """

    parts: tuple[tuple[ua.NodeId, bytes], ...]
    shape: tuple[int, ...] | None

    def __new__(cls, parts: tuple[tuple[ua.NodeId, bytes], ...], shape: tuple[int, ...] | None = None) -> Self:
        packed = super().__new__(cls, "type-mismatch")
        packed.parts, packed.shape = parts, shape
        return packed


NO_VALUE: Final = Unusable("no-value")
NOT_A_NUMBER: Final = Unusable("not-a-number")
TYPE_MISMATCH: Final = Unusable("type-mismatch")
INVALID_STRING: Final = Unusable("invalid-string")


class DataValue(NamedTuple):
    """A value, its StatusCode, timestamps in ms since the epoch or None; `ticks`: `source` in 100 ns since 1601."""

    value: Value | Unusable
    status: int
    source: int | None
    server: int | None
    ticks: int | None = None

    @property
    def overflowed(self) -> bool:
        """Whether the server dropped older values of this node from a full queue (OPC 10000-4 section 7.39.1)."""
        return self.status & 0x0C80 == 0x0480

    @property
    def quality(self) -> str | None:
        """`bad:<reason>`, `uncertain:<reason>`, or None for a good value."""
        severity = self.status >> 30
        if severity >= 2:
            return f"bad:{status_name(self.status)}"
        if isinstance(self.value, Unusable):
            return f"bad:{self.value.reason}"
        return f"uncertain:{status_name(self.status)}" if severity else None


@lru_cache(maxsize=256)
def status_name(code: int) -> str:
    """Give a StatusCode's name as the standard writes it, without its flag bits; its number if nobody knows it."""
    known: tuple[str, str] | None = status_codes.code_to_name_doc.get(code & 0xFFFF_0000)
    return known[0] if known else f"0x{code & 0xFFFF_0000:08X}"
