"""Values as Modbus registers, and points: the named places where a unit keeps them."""

import struct
from dataclasses import dataclass
from typing import Any, Literal

Table = Literal["coil", "discrete", "holding", "input"]
TABLES: tuple[Table, ...] = ("coil", "discrete", "holding", "input")
ByteOrder = Literal["ABCD", "CDAB", "BADC", "DCBA"]

_FORMATS = {
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "uint64": "Q",
    "float32": "f",
    "float64": "d",
}


def encode(value: float, kind: str, byte_order: ByteOrder = "ABCD") -> list[int]:
    """The registers of a number, first register first.

    Modbus has no rule for numbers of more than one register. ABCD is most significant byte first; CDAB turns the
    order of the registers, BADC the two bytes within each register, DCBA both.

    Raises:
        struct.error: the value does not fit the type.
    """
    octets = struct.pack(f">{_FORMATS[kind]}", value)
    words = [octets[i : i + 2] for i in range(0, len(octets), 2)]
    if byte_order in ("CDAB", "DCBA"):
        words.reverse()
    if byte_order in ("BADC", "DCBA"):
        words = [word[::-1] for word in words]
    return [int.from_bytes(word, "big") for word in words]


def encode_text(octets: bytes, length: int) -> list[int]:
    """The registers of a string of `length` octets, two in a register, filled up with zeros."""
    padded = octets[:length].ljust(length + length % 2, b"\0")
    return list(struct.unpack(f">{len(padded) // 2}H", padded))


@dataclass(frozen=True, slots=True)
class Point:
    """One named place of a unit. `scale` and `unit` say what a reader makes of the raw number: value = raw * scale."""

    name: str
    address: str
    type: str
    byte_order: ByteOrder = "ABCD"
    scale: float | None = None
    unit: str | None = None
    length: int | None = None
    deadband: float | None = None
    interval: str | None = None

    @property
    def place(self) -> tuple[Table, int]:
        """The table and the zero-based address of the first register; a bit's own number is left out."""
        table, _, rest = self.address.partition(":")
        return _table(table), int(rest.partition(".")[0])

    def encode(self, value: float | str) -> list[int]:
        """The registers, or the one bit, that hold the value."""
        if isinstance(value, str):
            return encode_text(value.encode(), self.length or len(value))
        if self.type == "bool":
            return [int(value)]
        raw = value if self.scale is None else value / self.scale
        return encode(raw if self.type.startswith("float") else round(raw), self.type, self.byte_order)

    def tag(self) -> dict[str, Any]:
        """The point as a tag of the gateway's config; what is the default there is left out."""
        keys = ("name", "address", "type", "byte_order", "scale", "unit", "length", "deadband", "interval")
        tag = {key: getattr(self, key) for key in keys if getattr(self, key) is not None}
        if self.byte_order == "ABCD":
            del tag["byte_order"]
        return tag


def _table(name: str) -> Table:
    for table in TABLES:
        if table == name:
            return table
    raise ValueError(f"{name!r} is not a Modbus table; write one of {', '.join(TABLES)}")
