"""How a value in one of the four tables of a Modbus device is configured."""

import codecs
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, field_serializer, field_validator

from gateway.checked import Fault
from gateway.drivers.base import Section
from gateway.drivers.checks import CheckedTag, number, plain
from gateway.drivers.modbus.address import Address, AddressField, Table

TypeName = Literal[
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    "float16", "float32", "float64", "bcd16", "bcd32", "string",
]  # fmt: skip
ByteOrder = Literal["ABCD", "CDAB", "BADC", "DCBA"]

BIT_TABLES: Final = frozenset({"coil", "discrete"})
MAX_REGISTERS: Final = 125
"""Registers that one request may read (Modbus Application Protocol V1.1b3, sections 6.3 and 6.4)."""
MAX_BITS: Final = 2000
"""Coils or discrete inputs in one request (Modbus Application Protocol V1.1b3, sections 6.1 and 6.2)."""

_REGISTERS: Final[dict[TypeName, int]] = {
    "bool": 1, "int8": 1, "uint8": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "int64": 4, "uint64": 4,
    "float16": 1, "float32": 2, "float64": 4, "bcd16": 1, "bcd32": 2,
}  # fmt: skip
_CODES: Final[dict[TypeName, str]] = {
    "bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q",
    "uint64": "Q", "float16": "f", "float32": "f", "float64": "d", "bcd16": "H", "bcd32": "I", "string": "j",
}  # fmt: skip
_UNSIGNED: Final = frozenset({"uint8", "uint16"})
_BYTES: Final = frozenset({"int8", "uint8"})
_FLOATS: Final = frozenset({"float16", "float32", "float64"})


def parse_encoding(name: str) -> str:
    """Check the name of a character encoding. Raises ValueError with a sentence for the integrator."""
    try:
        known = codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError):
        raise ValueError(f"{name!r} is no encoding; write utf-8, ascii, latin-1, cp1252 or utf-16-be") from None
    return known.name


def registers_of(kind: TypeName, length: int | None, count: int | None) -> int:
    """Give how many registers (or coils) a value takes. `length` is a string's in bytes, `count` an array's."""
    if kind == "string":
        return -(-(length or 1) // 2)
    if kind in _BYTES and count is not None:
        return -(-count // 2)
    return _REGISTERS[kind] * (count or 1)


class ModbusTag(CheckedTag):
    """A value in one of the four tables of a Modbus device."""

    address: AddressField = Field(
        description="table:number such as holding:2; tables are coil, discrete, holding and input, numbers are "
        "zero-based; holding:10.5 is bit 5 of a register, holding:10.4-7 its bits 4 to 7; 5 or 6 digits are Modicon "
        "notation (40003 is holding:2); sunspec:103:2 is register 2 of the data of SunSpec model 103"
    )
    type: TypeName = Field(description="the type of what the registers hold; bool for coils, discrete inputs and bits")
    byte_order: ByteOrder = Field(
        default="ABCD",
        description="ABCD: big endian; CDAB: words swapped; BADC: bytes swapped in each word; DCBA: little endian",
    )
    byte: Literal["high", "low"] = Field(default="low", description="of an int8 or uint8: which half of the register")
    length: int | None = Field(
        default=None, ge=1, le=2 * MAX_REGISTERS, description="of a string, in bytes: two a register"
    )
    encoding: Annotated[str, BeforeValidator(parse_encoding)] = Field(
        default="utf-8", description="of a string: utf-8, ascii, latin-1, cp1252, utf-16-be and others"
    )
    padding: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="the character that fills a string up; default: it ends at the first NUL, and spaces at its end go",
    )
    count: int | None = Field(default=None, ge=1, le=MAX_BITS, description="of an array: how many values in a row")
    scale_register: AddressField | None = Field(
        default=None,
        description="holds a power of ten that the value is multiplied with (int16, as SunSpec's scale factors)",
    )
    invalid: tuple[Decimal, ...] = Field(
        default=(), description="raw values that mean that there is none, such as [0x8000]: bad:not-implemented"
    )

    @field_validator("invalid", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list of raw values, such as [0x8000]")  # noqa: TRY004 -- pydantic reports it
        return tuple(map(number, value))

    @field_serializer("invalid", when_used="json-unless-none")
    def _invalid_as_written(self, value: Any) -> Any:
        return list(map(plain, value))

    @property
    def table(self) -> Table:
        """The table that the address names."""
        return self.address.table

    @property
    def register(self) -> int:
        """The zero-based number of the coil, input or (first) register; of a SunSpec model's data, where it counts."""
        return self.address.register

    @property
    def bit(self) -> int | None:
        """The (lowest) bit of the register, 0 being the least significant; None for a whole value."""
        return self.address.bit

    @property
    def registers(self) -> int:
        """How many registers, coils or inputs the value takes."""
        return registers_of(self.type, self.length, self.count)

    @property
    def source(self) -> str:
        """The address, zero-based: `holding:10.5`."""
        return str(self.address)

    @property
    def value_type(self) -> str:
        """The raw value's type."""
        return self.type

    @property
    def scaled(self) -> bool:
        """Whether the value is calculated from the raw one; it is a float then."""
        return self.scale is not None or self.offset is not None or self.scale_register is not None

    @property
    def code(self) -> str:
        """How the value, once scaled, is packed on disk."""
        if self.count is not None or self.map is not None:
            return "j"
        return "d" if self.scaled else _CODES[self.type]

    @property
    def numeric(self) -> bool:
        """Whether the raw value is a number."""
        return self.type not in {"bool", "string"}

    def faults(self) -> Iterator[Fault]:
        """Give what contradicts itself in the tag."""
        yield from super().faults()
        yield from wrong_type(self.address, self.type, self.byte_order, self.count)
        yield from self._wrong_keys()
        yield from self._wrong_arithmetic()
        yield from wrong_length(self.address, self.type, self.length, self.count)

    def _wrong_keys(self) -> Iterator[Fault]:
        if self.byte != "low" and (self.type not in _BYTES or self.count is not None):
            yield Fault(("byte",), "only a single int8 or uint8 is one half of a register; remove the key")
        for key in ("encoding", "padding"):
            if self.type != "string" and key in self.model_fields_set:
                yield Fault((key,), f"only a string has it, not a {self.type}; remove the key")
        if self.invalid and not self.numeric:
            yield Fault(("invalid",), f"only numbers have values that mean nothing; a {self.type} has none")
        if self.scale_register is not None and (not self.numeric or self.scale_register.table in BIT_TABLES):
            yield Fault(("scale_register",), "is a holding or input register, and scales numbers only")
        elif self.scale_register is not None and self.scale_register.bit is not None:
            yield Fault(("scale_register",), f"is a whole register; write {self.scale_register.table}:number")

    def _wrong_arithmetic(self) -> Iterator[Fault]:
        if not self.numeric:
            for key in ("scale", "offset", "range", "min", "max", "map"):
                if getattr(self, key) is not None:
                    yield Fault((key,), f"only numbers have {key}; a {self.type} has none")
            if self.deadband not in {None, 0}:
                yield Fault(("deadband",), f"a {self.type} is equal or not; write 0 for changes only")
        elif self.map is not None:
            yield from self._wrong_map()
        elif self.count is not None and self.deadband not in {None, 0}:
            yield Fault(("deadband",), "an array is equal or not; write 0 for changes only")
        elif self.relative_deadband and self.range is None:
            yield Fault(("deadband",), "is a share of a range; write range: [low, high] too")

    def _wrong_map(self) -> Iterator[Fault]:
        if self.type in _FLOATS:
            yield Fault(("map",), f"names whole numbers; a {self.type} is none")
        for key in ("scale_register", "count"):
            if getattr(self, key) is not None:
                yield Fault((key,), "does not go with map, which gives names instead of numbers; remove one of them")
        yield from self.wrong_beside_map()


def wrong_type(address: Address, kind: TypeName, byte_order: ByteOrder, count: int | None) -> Iterator[Fault]:
    """Give what in type and address does not fit together."""
    if address.table in BIT_TABLES or (address.bit is not None and address.width == 1):
        what = f"a {address.table}" if address.table in BIT_TABLES else "a bit of a register"
        if kind != "bool":
            yield Fault(("type",), f"{what} is a bool, not {kind}")
    elif address.bit is not None and kind not in _UNSIGNED:
        yield Fault(("type",), f"bits of a register are a uint16 or uint8, not {kind}")
    elif address.bit is not None and kind == "uint8" and address.width > 8:
        yield Fault(("type",), f"{address.width} bits do not fit into a uint8; write uint16")
    elif address.bit is None and kind == "bool":
        yield Fault(("address",), f"a bool needs a bit; write {address}.0 for the lowest bit of the register")
    if address.bit is not None and count is not None:
        yield Fault(("count",), "an array is of whole registers, or of coils; remove the key, or the bit")
    if kind == "bool" and byte_order != "ABCD":
        yield Fault(("byte_order",), "a bool has no byte order; remove the key")


def wrong_length(address: Address, kind: TypeName, length: int | None, count: int | None) -> Iterator[Fault]:
    """Give what is wrong with a value's size."""
    taken = registers_of(kind, length, count)
    if kind == "string" and length is None:
        yield Fault(("length",), "is missing; write how many bytes the string has, two a register")
    elif kind == "string" and count is not None:
        yield Fault(("count",), "there are no arrays of strings; write a tag for each")
    elif kind != "string" and length is not None:
        yield Fault(("length",), f"only a string has a length; a {kind} takes {_taken(kind, taken)}")
    elif address.register + taken > 65536:
        yield Fault(("address",), f"{address} as {kind} ends after 65535, the last address")


def _taken(kind: TypeName, registers: int) -> str:
    return "one bit" if kind == "bool" else f"{registers} register{'s' if registers > 1 else ''}"


class Guard(Section):
    """A register that tells whether the PLC still runs the program that the tags were written for."""

    address: AddressField
    type: TypeName
    equals: bool | int | float | str
    byte_order: ByteOrder = "ABCD"
    length: int | None = Field(default=None, ge=1, le=2 * MAX_REGISTERS, description="of a string, in bytes")

    def faults(self) -> Iterator[Fault]:
        """Give what contradicts itself in the guard."""
        yield from wrong_type(self.address, self.type, self.byte_order, None)
        yield from wrong_length(self.address, self.type, self.length, None)
        wanted: tuple[type, ...] = (int,) if self.type not in _FLOATS else (int, float)
        if self.type == "string":
            wanted = (str,)
        elif self.type == "bool":
            wanted = (bool,)
        if not isinstance(self.equals, wanted) or (isinstance(self.equals, bool) and self.type != "bool"):
            yield Fault(("equals",), f"a {self.type} never equals it; write the value that the register holds")
