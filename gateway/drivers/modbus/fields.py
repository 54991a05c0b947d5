"""What is to be taken out of a unit's tables: one field for each tag, and the hidden ones that tags depend on."""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Literal

from gateway.drivers.modbus.address import Address, Table
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.modbus.tag import ByteOrder, Guard, ModbusTag, TypeName
from gateway.model import Value

NO_SUCH_MODEL: Final = "no-such-model"
"""The reason for a tag of a SunSpec model that the device does not have."""
ILLEGAL_ADDRESS: Final = "illegal-address"
"""The reason for a register that the device does not have: it says so, or its model is shorter."""

Models = Mapping[int, tuple[int, int]]
"""Where the SunSpec models of a device lie: by model id, the first register of the data, and how many there are."""

_INTEGERS: Final[dict[TypeName, tuple[int, bool]]] = {
    "int8": (8, True), "uint8": (8, False), "int16": (16, True), "uint16": (16, False), "int32": (32, True),
    "uint32": (32, False), "int64": (64, True), "uint64": (64, False), "bcd16": (16, False), "bcd32": (32, False),
}  # fmt: skip
_FLOATS: Final[dict[TypeName, str]] = {"float16": "e", "float32": "f", "float64": "d"}
_NOT_IMPLEMENTED_SCALE: Final = frozenset({-0x8000})
"""SunSpec Information Model Specification: a scale factor that is not implemented is 0x8000."""


@dataclass(frozen=True, slots=True)
class Field:
    """A value in a table: where it lies, and how it is read.

    `bit`, if any, is the lowest of `width` bits. `count` is None for a single value. `invalid` are raw values that
    stand for none. `scale` is the position of the field that holds the power of ten to multiply with. `absent` says
    why there is nothing to read (the reason of a bad quality); it is empty where there is.
    """

    table: Table
    register: int
    registers: int
    type: TypeName
    byte_order: ByteOrder = "ABCD"
    bit: int | None = None
    width: int = 1
    byte: Literal["high", "low"] = "low"
    length: int | None = None
    count: int | None = None
    encoding: str = "utf-8"
    padding: str | None = None
    invalid: frozenset[int | float] = frozenset()
    scale: int | None = None
    absent: str = ""

    @property
    def end(self) -> int:
        """The register (or coil) behind the last one."""
        return self.register + self.registers

    @property
    def span(self) -> tuple[int, int]:
        """The registers (or coils) as a half-open range."""
        return self.register, self.register + self.registers


@dataclass(frozen=True, slots=True)
class Fields:
    """All fields of a device: those of its tags, in their order, and behind them the hidden ones.

    `names` are those of the tags. `guard` is the position of the register that tells which program runs, and `equals`
    what it has to hold.
    """

    all: tuple[Field, ...]
    names: tuple[str, ...]
    guard: int | None = None
    equals: Value = None

    def is_hidden(self, position: int) -> bool:
        """Whether a field is none of a tag."""
        return position >= len(self.names)

    def wanted(self, columns: Sequence[int]) -> tuple[int, ...]:
        """Give the fields that are to be read for the tags at these columns: theirs, and what they depend on."""
        scales = {self.all[column].scale for column in columns} - {None}
        guard = () if self.guard is None else (self.guard,)
        return (*columns, *sorted(position for position in scales if position is not None), *guard)

    def readable(self, columns: Sequence[int]) -> list[int]:
        """Give those of the wanted fields that the device has, as far as is known."""
        return [position for position in self.wanted(columns) if not self.all[position].absent]


def fields_of(section: ModbusDevice, models: Models | None = None) -> Fields:
    """Resolve what a device's tags need. `models` is what the device's own chain of SunSpec models tells."""
    models = models or {}
    visible = [_placed(field_of(tag), tag.address, models) for tag in section.tags]
    hidden: dict[Field, int] = {}
    for position, tag in enumerate(section.tags):
        if tag.scale_register is not None:
            factor = _placed(_scale_factor(tag.scale_register, tag.byte_order), tag.scale_register, models)
            at = hidden.setdefault(factor, len(section.tags) + len(hidden))
            visible[position] = replace(visible[position], scale=at)
    names = tuple(tag.name for tag in section.tags)
    if section.guard is None:
        return Fields((*visible, *hidden), names)
    guard = section.guard
    found = _placed(_guard_field(guard), guard.address, models)
    equals = guard.equals if isinstance(guard.equals, bool | str) else raw_value(guard.type, Decimal(str(guard.equals)))
    return Fields((*visible, *hidden, found), names, len(visible) + len(hidden), equals)


def field_of(tag: ModbusTag) -> Field:
    """Make the field of a tag, without its scale register. That of a SunSpec model has yet to be placed."""
    return Field(
        tag.table,
        tag.register,
        tag.registers,
        tag.type,
        tag.byte_order,
        tag.bit,
        tag.address.width,
        tag.byte,
        tag.length,
        tag.count,
        tag.encoding,
        tag.padding,
        raw_values(tag.type, tag.invalid),
    )


def raw_values(kind: TypeName, written: Iterable[Decimal]) -> frozenset[int | float]:
    """Give the raw values that are meant by numbers in a config; those that the type never holds are left out."""
    values = (raw_value(kind, number) for number in written)
    return frozenset(value for value in values if value is not None)


def raw_value(kind: TypeName, written: Decimal) -> int | float | None:
    """Give the raw value that is meant by a number in a config, None if the type never holds it.

    A signed type's value may be written as its bits: 0x8000 is -32768 for an int16.
    """
    if kind in _FLOATS:
        form = "<" + _FLOATS[kind]
        try:
            value = float(struct.unpack(form, struct.pack(form, float(written)))[0])
        except OverflowError:
            return None
        return value if math.isfinite(value) else None
    if kind not in _INTEGERS or written != written.to_integral_value():
        return None
    bits, signed = _INTEGERS[kind]
    value = int(written)
    if signed and 1 << (bits - 1) <= value < 1 << bits:
        return value - (1 << bits)
    return value


def _scale_factor(address: Address, byte_order: ByteOrder) -> Field:
    swapped: ByteOrder = "DCBA" if byte_order in {"BADC", "DCBA"} else "ABCD"
    return Field(address.table, address.register, 1, "int16", swapped, invalid=_NOT_IMPLEMENTED_SCALE)


def _guard_field(guard: Guard) -> Field:
    tag = ModbusTag(
        name="guard", address=guard.address, type=guard.type, byte_order=guard.byte_order, length=guard.length
    )
    return field_of(tag)


def _placed(field: Field, address: Address, models: Models) -> Field:
    """Put a field of a SunSpec model to where the device has it."""
    if address.model is None:
        return field
    if address.model not in models:
        return replace(field, absent=NO_SUCH_MODEL)
    start, length = models[address.model]
    if field.end > length:
        return replace(field, absent=ILLEGAL_ADDRESS)  # what follows is another model's
    return replace(field, register=start + field.register)
