"""Simulated units on each transport, and what the command line calls them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from simulators import (
    Endpoint,
    ModbusRtuOverTcpSimulator,
    ModbusRtuSimulator,
    ModbusSimulator,
    ModbusTlsSimulator,
    ModbusUdpSimulator,
    TlsFiles,
    Unit,
)

WAYS = ("tcp", "udp", "tls", "rtu-over-tcp", "rtu")


@dataclass(frozen=True)
class Target:
    """Simulated units, and the target without a unit that leads to them."""

    simulator: Endpoint
    base: str
    settings: str = ""

    def unit(self, number: int) -> str:
        """The target of a unit."""
        return f"{self.base}/{number}{self.settings}"

    @property
    def all(self) -> str:
        """The target without a unit."""
        return f"{self.base}{self.settings}"


@asynccontextmanager
async def line(way: str, units: Sequence[Unit], folder: Path) -> AsyncIterator[Target]:
    """Serve units over a transport."""
    if way == "rtu":
        async with ModbusRtuSimulator(units) as serial:
            settings = f"?baudrate={serial.baudrate}&parity={serial.parity}&timeout=2s"
            yield Target(serial, f"modbus-rtu://{serial.port}", settings)
        return
    if way == "tls":
        files = TlsFiles.of(folder)
        keys = f"?ca_file={files.authority}&cert_file={files.client}&key_file={files.client_key}&timeout=5s"
        async with ModbusTlsSimulator(units, files) as secure:
            yield Target(secure, f"modbus-tls://127.0.0.1:{secure.port}", keys)
        return
    kinds = {"tcp": ModbusSimulator, "udp": ModbusUdpSimulator, "rtu-over-tcp": ModbusRtuOverTcpSimulator}
    async with kinds[way](units) as simulator:
        yield Target(simulator, f"modbus-{way}://127.0.0.1:{simulator.port}")
