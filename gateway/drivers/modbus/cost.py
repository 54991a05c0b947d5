"""What a request costs the line, in seconds: why a plan merges what it merges."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.section import ModbusDevice, ModbusRtuDevice
from gateway.drivers.modbus.tag import BIT_TABLES

_NANO: Final = 1_000_000_000
_REQUEST_CHARACTERS: Final = 8
"""Unit, function, start, count and CRC of a read (Modbus over Serial Line V1.02, section 2.5.1)."""
_ANSWER_CHARACTERS: Final = 5
"""Unit, function, byte count and CRC."""
_REGISTER_CHARACTERS: Final = 2
_SILENCE_CHARACTERS: Final = 3.5
_SHORTEST_SILENCE_S: Final = 0.00175
"""What the silence between frames is above 19200 baud (Modbus over Serial Line V1.02, section 2.5.1.1)."""
_SERIAL_DEVICE_S: Final = 0.010
"""Between request and answer; assumed. A device has to notice 3.5 silent characters (2 ms at 19200 baud) and looks at
its line once in its own cycle, which is a few milliseconds."""
_NETWORK_REQUEST_S: Final = 0.005
"""Between request and answer; assumed. A round trip in a plant's network is below 1 ms, but a PLC answers between two
cycles of its program, which are a few milliseconds."""
_NETWORK_REGISTER_S: Final = 0.000_002
"""Two bytes at 10 Mbit/s, which is what the slowest of Ethernet's devices have."""
_ASSUMED_CHARACTER_S: Final = 11 / 19200
"""Of a serial line behind a converter: nobody tells its baud rate here. 19200, 8E1 is Modbus' own default."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request costs, and each register of its answer, in nanoseconds; sixteen bits are as much as a register.

    They are whole numbers so that plans are compared exactly.
    """

    request_ns: int
    register_ns: int

    def sixteenths(self, table: Table, count: int) -> int:
        """Give the cost of reading `count` registers (or coils) at once, in 1/16 ns."""
        return 16 * self.request_ns + self.sixteenths_each(table) * count

    def sixteenths_each(self, table: Table) -> int:
        """Give the cost of each register (or coil) of an answer, in 1/16 ns."""
        return self.register_ns * (1 if table in BIT_TABLES else 16)

    def seconds(self, requests: Iterable[tuple[Table, int]]) -> float:
        """Give how long requests for so many registers (or coils) of these tables keep the line busy."""
        return sum(self.sixteenths(table, count) for table, count in requests) / (16 * _NANO)


def cost_of(section: ModbusDevice) -> Cost:
    """Estimate what reads cost on the way to a device."""
    if isinstance(section, ModbusRtuDevice):
        return _serial(section.serial.character_s, section.request_delay)
    if getattr(section, "protocol", "") == "modbus-rtu-over-tcp":
        behind = _serial(_ASSUMED_CHARACTER_S, section.request_delay)
        return Cost(behind.request_ns + round(_NETWORK_REQUEST_S * _NANO), behind.register_ns)
    return Cost(round((_NETWORK_REQUEST_S + section.request_delay) * _NANO), round(_NETWORK_REGISTER_S * _NANO))


def _serial(character_s: float, request_delay: float) -> Cost:
    silence = max(_SILENCE_CHARACTERS * character_s, _SHORTEST_SILENCE_S)
    characters = (_REQUEST_CHARACTERS + _ANSWER_CHARACTERS) * character_s
    request = characters + silence + max(silence, request_delay) + _SERIAL_DEVICE_S
    return Cost(round(request * _NANO), round(_REGISTER_CHARACTERS * character_s * _NANO))
