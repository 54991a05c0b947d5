"""How a Modbus device and its tags are configured."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from gateway.checked import Checked, Fault, later
from gateway.drivers.base import DeviceSection, Driver, Section, Shared
from gateway.drivers.checks import CheckedTag
from gateway.drivers.modbus.address import AddressField, Table
from gateway.files import ConfigPath
from gateway.hosts import Host, join
from gateway.quantities import Duration, Port

TypeName = Literal["bool", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", "string"]
ByteOrder = Literal["ABCD", "CDAB", "BADC", "DCBA"]

_REGISTERS: Final[dict[TypeName, int]] = {
    "bool": 1, "int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "int64": 4, "uint64": 4, "float32": 2, "float64": 4
}  # fmt: skip
_CODES: Final[dict[TypeName, str]] = {
    "bool": "?", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q",
    "float32": "f", "float64": "d", "string": "j",
}  # fmt: skip

MAX_REGISTERS: Final = 125
"""Registers that one request may read (Modbus Application Protocol V1.1b3 section 6.3)."""


class ModbusTag(CheckedTag):
    """A value in one of the four tables of a Modbus device."""

    address: AddressField = Field(
        description="table:number such as holding:2; tables are coil, discrete, holding and input, numbers are "
        "zero-based; holding:10.5 is bit 5 of a register; 5 or 6 digits are Modicon notation (40003 is holding:2)"
    )
    type: TypeName = Field(description="the type of what the registers hold; bool for coils, discrete inputs and bits")
    byte_order: ByteOrder = Field(
        default="ABCD",
        description="ABCD: big endian; CDAB: words swapped; BADC: bytes swapped in each word; DCBA: little endian",
    )
    length: int | None = Field(
        default=None, ge=1, le=2 * MAX_REGISTERS, description="of a string, in bytes: two a register"
    )

    @property
    def table(self) -> Table:
        """The table that the address names."""
        return self.address.table

    @property
    def register(self) -> int:
        """The zero-based number of the coil, input or (first) register."""
        return self.address.register

    @property
    def bit(self) -> int | None:
        """The bit of the register, 0 being the least significant; None for a whole value."""
        return self.address.bit

    @property
    def registers(self) -> int:
        """How many registers, coils or inputs the value takes."""
        return -(-(self.length or 1) // 2) if self.type == "string" else _REGISTERS[self.type]

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
        return self.scale is not None or self.offset is not None

    @property
    def code(self) -> str:
        """How the value, once scaled, is packed on disk."""
        return "d" if self.scaled else _CODES[self.type]

    @property
    def numeric(self) -> bool:
        """Whether the raw value is a number."""
        return self.type not in {"bool", "string"}

    def faults(self) -> Iterator[Fault]:
        """Give what contradicts itself in the tag."""
        yield from super().faults()
        yield from self._wrong_type()
        yield from self._wrong_arithmetic()
        if self.type == "string" and self.length is None:
            yield Fault(("length",), "is missing; write how many bytes the string has, two a register")
        elif self.type != "string" and self.length is not None:
            yield Fault(("length",), f"only a string has a length; a {self.type} takes {_taken(self)}")
        elif self.register + self.registers > 65536:
            yield Fault(("address",), f"{self.source} as {self.type} ends after 65535, the last address")

    def _wrong_type(self) -> Iterator[Fault]:
        one_bit = self.bit is not None or self.table in {"coil", "discrete"}
        if one_bit and self.type != "bool":
            what = "a bit of a register" if self.bit is not None else f"a {self.table}"
            yield Fault(("type",), f"{what} is a bool, not {self.type}")
        if not one_bit and self.type == "bool":
            yield Fault(("address",), f"a bool needs a bit; write {self.source}.0 for the lowest bit of the register")
        if self.type == "bool" and self.byte_order != "ABCD":
            yield Fault(("byte_order",), "a bool has no byte order; remove the key")

    def _wrong_arithmetic(self) -> Iterator[Fault]:
        if not self.numeric:
            for key in ("scale", "offset", "range"):
                if getattr(self, key) is not None:
                    yield Fault((key,), f"only numbers have {key}; a {self.type} has none")
            if self.deadband not in {None, 0}:
                yield Fault(("deadband",), f"a {self.type} is equal or not; write 0 for changes only")
        elif self.relative_deadband and self.range is None:
            yield Fault(("deadband",), "is a share of a range; write range: [low, high] too")


def _taken(tag: ModbusTag) -> str:
    return f"{tag.registers} register{'s' if tag.registers > 1 else ''}" if tag.numeric else "one bit"


class Guard(Section):
    """A register that tells whether the PLC still runs the program that the tags were written for."""

    address: AddressField
    type: TypeName
    equals: int | str | bool


class ModbusTcpDevice(Checked, DeviceSection):
    """A device that speaks Modbus TCP."""

    protocol: Literal["modbus-tcp"]
    host: Host = Field(description="the device's name or IP address")
    hosts: Annotated[tuple[str, ...], later("write host, one address")] = Field(
        default=(), description="the same device's addresses, in order of preference"
    )
    port: Port = 502
    unit_id: int = Field(default=1, ge=0, le=255, description="of the device, or of one behind a gateway at `host`")
    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="per request")
    max_gap: int = Field(
        default=0, ge=0, lt=MAX_REGISTERS, description="registers no tag names that a block may read to save a request"
    )
    request_delay: Duration = Field(default=0.0, description="silence before each request")
    guard: Annotated[Guard | None, later()] = Field(default=None, description="else every tag is bad:guard")
    link: Annotated[str | None, later("write host and port here")] = Field(default=None, description="a name in links")
    template: Annotated[str | None, later("write the tags here")] = Field(
        default=None, description="name of a template"
    )
    vars: Annotated[dict[str, Any], later("write the tags here")] = Field(
        default_factory=dict, description="the template's variables"
    )
    tags_file: Annotated[ConfigPath | None, later("write the tags here")] = Field(
        default=None, description="a CSV file whose columns are tag keys"
    )
    tags: tuple[ModbusTag, ...] = ()

    @property
    def address(self) -> str:
        """`host:port`, as a person would write it."""
        return join(self.host, self.port)

    def prepare(self) -> None:
        """Import pymodbus."""
        import gateway.drivers.modbus.device  # noqa: F401

    def open(self, shared: Shared) -> AbstractAsyncContextManager[Driver]:
        """Connect. Raises DeviceError on entry if the device cannot be reached."""
        from gateway.drivers.modbus.device import open_device

        return open_device(self, shared)

    def faults(self) -> Iterator[Fault]:
        """Give the tags that no single request can read."""
        yield from super().faults()
        for position, tag in enumerate(self.tags):
            if tag.table in {"holding", "input"} and tag.registers > self.max_registers:
                text = f"{tag.source} takes {tag.registers} registers, more than max_registers: {self.max_registers}"
                yield Fault(("tags", position), text)
