"""How a Modbus device is configured: one section for each way over which it is reached."""

from collections.abc import Hashable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from gateway.checked import Checked, Fault
from gateway.drivers.base import ALIKE, DeviceSection, Driver, Section, Shared
from gateway.drivers.modbus.tag import BIT_TABLES, MAX_BITS, MAX_REGISTERS, Guard, ModbusTag
from gateway.files import CertificateFile, ReadablePath
from gateway.hosts import Endpoint, Host, join, parse_endpoint
from gateway.quantities import Duration, Port

MODBUS_PORT: Final = 502
MODBUS_TLS_PORT: Final = 802
"""MODBUS/TCP Security Protocol Specification v3.6, section 5."""


class ModbusDevice(Checked, DeviceSection):
    """What every Modbus device's config has, whatever the way to it."""

    unit_id: int = Field(default=1, ge=0, le=255, description="of the device, or of one behind a gateway at `host`")
    max_registers: int = Field(default=MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="per request")
    max_bits: int = Field(default=MAX_BITS, ge=1, le=MAX_BITS, description="coils or discrete inputs per request")
    max_gap: int = Field(
        default=0, ge=0, lt=MAX_REGISTERS, description="registers no tag names that a block may read to save a request"
    )
    request_delay: Duration = Field(default=0.0, description="silence before each request")
    connect_delay: Duration = Field(default=0.0, description="pause after connecting, for devices that need one")
    close_after_cycle: bool = Field(default=False, description="true: others can connect between two polls")
    guard: Guard | None = Field(
        default=None, description="a register that tells which program runs; else every tag is bad:guard"
    )
    tags: Annotated[tuple[ModbusTag, ...], ALIKE] = ()

    @property
    def link_key(self) -> Hashable:
        """What devices on one and the same line or endpoint have in common: they share one connection."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Import the driver."""
        import gateway.drivers.modbus.device  # noqa: F401

    def open(self, shared: Shared) -> AbstractAsyncContextManager[Driver]:
        """Connect. Raises DeviceError on entry if the device cannot be reached."""
        from gateway.drivers.modbus.device import open_device

        return open_device(self, shared)

    def faults(self) -> Iterator[Fault]:
        """Give the tags that no single request can read, and what is wrong with the guard."""
        yield from super().faults()
        for position, tag in enumerate(self.tags):
            what = "bits" if tag.table in BIT_TABLES else "registers"
            most = self.max_bits if tag.table in BIT_TABLES else self.max_registers
            if tag.registers > most:
                text = f"{tag.source} takes {tag.registers} {what}, more than max_{what}: {most}"
                yield Fault(("tags", position), text)
        for fault in self.guard.faults() if self.guard is not None else ():
            yield Fault(("guard", *fault.at), fault.text)


class _Networked(ModbusDevice):
    """A device with an address in an IP network."""

    host: Host | None = Field(default=None, description="the device's name or IP address")
    hosts: tuple[Endpoint, ...] = Field(
        default=(),
        description="the same device's addresses, in order of preference, each with a port of its own if it has one: "
        "192.0.2.11:1502; one connection at a time",
    )
    port: Port = MODBUS_PORT

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """Hosts and ports at which the device may be found, in order of preference."""
        first = ((self.host, self.port),) if self.host is not None else ()
        others = (parse_endpoint(text) for text in self.hosts)
        return (*first, *((host, self.port if port is None else port) for host, port in others))

    @property
    def address(self) -> str:
        """`host:port`, as a person would write it; the preferred one."""
        return join(*self.endpoints[0]) if self.endpoints else ""

    @property
    def link_key(self) -> Hashable:
        """The protocol and all endpoints."""
        return (getattr(self, "protocol", ""), self.endpoints)

    def faults(self) -> Iterator[Fault]:
        """Give a device without an address."""
        yield from super().faults()
        if not self.endpoints:
            yield Fault(("host",), "is missing; write host: with the device's name or IP address")


class ModbusTcpDevice(_Networked):
    """A device that speaks Modbus TCP."""

    protocol: Literal["modbus-tcp"]


class ModbusUdpDevice(_Networked):
    """A device that takes Modbus TCP's frames as UDP datagrams."""

    protocol: Literal["modbus-udp"]


class ModbusRtuOverTcpDevice(_Networked):
    """A device on a serial line behind a converter that passes RTU frames on over TCP as they are."""

    protocol: Literal["modbus-rtu-over-tcp"]


class ModbusTls(Section):
    """Mutual TLS to a PLC: both sides show a certificate (MODBUS/TCP Security Protocol Specification v3.6)."""

    cert_file: ReadablePath = Field(description="PEM; the gateway's certificate")
    key_file: ReadablePath = Field(description="PEM; the key of cert_file")
    ca_file: ReadablePath | None = Field(default=None, description="PEM; the PLC's CA; default: the system's CAs")
    server_name: Host | None = Field(
        default=None, description="the name in the PLC's certificate, where it is not the host; it is always verified"
    )


class ModbusTlsDevice(_Networked):
    """A device that speaks Modbus TCP Security."""

    protocol: Literal["modbus-tls"]
    port: Port = MODBUS_TLS_PORT
    tls: ModbusTls = Field(description="the certificates of both sides")

    @property
    def certificate_files(self) -> dict[str, CertificateFile]:
        """The certificate that the PLC sees."""
        return {f"{self.name} client": CertificateFile(self.tls.cert_file)}

    @property
    def private_keys(self) -> tuple[Path, ...]:
        """The key of that certificate."""
        return (self.tls.key_file,)


class Serial(Section):
    """A serial line (Modbus over Serial Line V1.02, section 3)."""

    port: Annotated[str, Field(min_length=1, pattern=r"^/")] = Field(
        description="such as /dev/serial/by-id/usb-…, which stays the same when adapters are plugged in another order"
    )
    baudrate: int = Field(default=19200, ge=300, le=4_000_000)
    parity: Literal["E", "O", "N"] = Field(default="E", description="even, odd or none; E is Modbus' own default")
    stopbits: Literal[1, 2] = Field(default=1, description="2 is usual where parity is N")
    rs485: bool = Field(
        default=False, description="true: the kernel switches the port between sending and receiving (RTS)"
    )

    @property
    def character_s(self) -> float:
        """Seconds that a character takes: start bit, eight data bits, parity and stop bits."""
        return (9 + (self.parity != "N") + self.stopbits) / self.baudrate


class ModbusRtuDevice(ModbusDevice):
    """A device on a serial line of this machine."""

    protocol: Literal["modbus-rtu"]
    unit_id: int = Field(default=1, ge=1, le=247, description="of the device on its line")
    serial: Serial = Field(description="the port and its settings")

    @property
    def address(self) -> str:
        """The port."""
        return self.serial.port

    @property
    def link_key(self) -> Hashable:
        """The port."""
        return ("modbus-rtu", self.serial.port)
