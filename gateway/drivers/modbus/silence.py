"""How long a line has to be silent before the next request: no I/O. Times are monotonic seconds.

Sources: Modbus over Serial Line V1.02, section 2.5.1.1; what RTU lacks is transaction ids. There an answer that comes
after its request was given up looks like the answer to the next one, so the line is left alone for as long as it may
still come, and what comes is dropped.
"""

from dataclasses import dataclass
from math import inf
from typing import Final

from gateway.drivers.modbus.section import ModbusDevice, ModbusRtuDevice
from gateway.drivers.modbus.unit import Unit

_CHARACTERS: Final = 3.5
_SHORTEST_GAP_S: Final = 0.00175
"""Between frames above 19200 baud; and what a converter, whose line we do not know, gets."""
_FASTEST_COUNTED: Final = 19200
_MARGIN: Final = 1.5
_MARGIN_S: Final = 0.05
"""By how much an answer may be slower than the slowest one so far: the larger of a factor and seconds."""
_HOLD: Final = 3.0
"""Timeouts from a request that was given up to the next to the same unit, the only one that it could be taken for."""
_BABBLE_S: Final = 1.0
"""A line that is never silent is waited for so long; the answer will be told from the noise, or not."""


def gap_of(section: ModbusDevice) -> float:
    """Give the silence between two RTU frames on a device's line."""
    if isinstance(section, ModbusRtuDevice) and section.serial.baudrate <= _FASTEST_COUNTED:
        return _CHARACTERS * section.serial.character_s
    return _SHORTEST_GAP_S


def worst(unit: Unit, timeout: float) -> float:
    """Give how long a unit may take to answer, by what was seen; its timeout if it never answered."""
    return max(unit.slowest * _MARGIN, unit.slowest + _MARGIN_S) if unit.slowest else timeout


@dataclass(slots=True)
class Silence:
    """What a line's last request left behind. `gap` is None where transaction ids make silence needless."""

    gap: float | None
    rested_at: float = -inf
    _quiet_until: float = -inf
    _owed: tuple[Unit, float] | None = None

    def cost(self, unit: Unit, timeout: float) -> float:
        """Give what a request takes of the line if nothing comes."""
        return timeout if self.gap is None else timeout + worst(unit, timeout)

    def give_up(self, unit: Unit, sent_at: float, timeout: float, now: float) -> None:
        """Note a request whose answer may still come."""
        if self.gap is None:
            return
        self._quiet_until = now + worst(unit, timeout)
        unit.hold_until = sent_at + _HOLD * timeout
        self._owed = (unit, sent_at)

    def sent(self) -> None:
        """Note a request, behind which a late answer to the one before is not recognised any more."""
        self._owed = None

    def wrong(self, unit: Unit, timeout: float, now: float) -> None:
        """Note that something else came: the rest of it, or the answer, may follow."""
        if self.gap is not None:
            self._quiet_until = now + worst(unit, timeout)

    def remaining(self, now: float) -> float:
        """Give how long the last request still costs the line."""
        return max(0.0, self._quiet_until - now)

    def until(self, delay: float, heard_at: float, now: float) -> float:
        """Give when the next request may be sent, `delay` after the last one; `heard_at` is when a byte last came."""
        until = self.rested_at + delay
        if self.gap is None:
            return until
        until = max(until, self.rested_at + self.gap, self._quiet_until)
        if heard_at > self.rested_at:
            until = max(until, min(heard_at + self.gap, max(until, self.rested_at) + _BABBLE_S))
        return until

    def settle(self, now: float) -> None:
        """Note that the answer to the last request has come, late: nothing need be waited for, but next time longer."""
        if self._owed is not None:
            unit, sent_at = self._owed
            unit.slowest = max(unit.slowest, now - sent_at)
            unit.hold_until = self._quiet_until = -inf
            self._owed = None
