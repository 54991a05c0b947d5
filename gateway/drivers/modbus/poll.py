"""What one poll of a unit finds, answer by answer, and the samples that it makes: no I/O."""

from collections.abc import Iterable
from itertools import chain
from typing import Final

from gateway.drivers.modbus.assembly import Part, assembled
from gateway.drivers.modbus.fields import ILLEGAL_ADDRESS
from gateway.drivers.modbus.scan import Query, Scan
from gateway.model import Sample

APART_MS: Final = 100
"""An answer that comes this much later than the first of a sample opens another: one timestamp would be untrue."""
PATIENCE: Final = 2
"""Blocks of one poll that may fail for the same reason before the others are no longer asked."""

TIMEOUT: Final = "timeout"
PROTOCOL_ERROR: Final = "protocol-error"

REASONS: Final = {
    0x01: "illegal-function",
    0x02: ILLEGAL_ADDRESS,
    0x03: ILLEGAL_ADDRESS,
    0x04: "device-failure",
    0x05: "device-busy",
    0x06: "device-busy",
    0x07: "negative-acknowledge",
    0x08: "memory-parity-error",
    0x0A: "gateway-path-unavailable",
    0x0B: "gateway-target-failed",
}
"""Qualities for exception codes (Modbus Application Protocol V1.1b3, section 7). A read is refused with 3 where a
device cannot serve that many registers at once."""
GATEWAY_REASONS: Final = frozenset({REASONS[0x0A], REASONS[0x0B]})
"""What a gateway says of a unit behind it: seldom of one block only."""
_WORTH_GIVING_UP: Final = GATEWAY_REASONS | {TIMEOUT, PROTOCOL_ERROR}
"""These cost the time of a response each, or the connection."""


class Poll:
    """Collects the answers to a scan. `answered`: something came; `given_up`: the reason not to ask on, or empty.

    `is_guarded`: no values came since the guard's.
    """

    def __init__(self, scan: Scan) -> None:
        self.answered = False
        self.given_up = ""
        self.is_guarded = False
        self._scan = scan
        self._parts: list[Part] = []
        self._failures: dict[str, int] = {}

    def take(self, query: Query, payload: bytes, ts: int) -> None:
        """Note the values of an answer."""
        part = self._part(ts)
        values, bad = query.decode(payload)
        columns = query.block.columns
        if bad:
            part.bad.update((columns[position], reason) for position, reason in bad.items())
            positions = [position for position in range(len(columns)) if position not in bad]
            columns = tuple(columns[position] for position in positions)
            values = tuple(values[position] for position in positions)
        self.is_guarded = self._scan.fields.guard in columns
        part.columns.append(columns)
        part.values.append(values)

    def refuse(self, columns: Iterable[int], code: int, ts: int) -> None:
        """Note the reason for columns of which the answer was an exception."""
        self._note(self._part(ts), columns, REASONS.get(code, f"exception-{code}"))

    def fail(self, columns: Iterable[int], reason: str, ts: int) -> None:
        """Note columns that got no answer, or a wrong one. `ts` counts only where nothing came before."""
        self.answered = self.answered or reason == PROTOCOL_ERROR
        self._note(self._parts[-1] if self._parts else self._part(ts), columns, reason)

    @property
    def unit_wide(self) -> str:
        """What the gateway in between says of all columns alike, or empty."""
        if any(any(part.columns) for part in self._parts):
            return ""
        reasons = {reason for part in self._parts for reason in part.bad.values()}
        return reasons.pop() if len(reasons) == 1 and reasons <= GATEWAY_REASONS else ""

    def samples(self, ts: int) -> tuple[Sample, ...]:
        """Make the samples: one, or more where answers came far apart. `ts` counts only where nothing came."""
        scan = self._scan
        if not self._parts:
            self._part(ts)
        first = self._parts[0]
        if scan.arrange is None or first.columns != scan.order or first.bad or len(self._parts) > 1:
            return assembled(scan, self._parts, is_guarded=self.is_guarded)
        found = first.values[0] if len(first.values) == 1 else tuple(chain.from_iterable(first.values))
        if scan.guard_at is not None and found[scan.guard_at] != scan.fields.equals:
            return assembled(scan, self._parts, is_guarded=False)
        values = tuple(scan.arrange(found))
        if not scan.quality:
            return (Sample.good(first.ts, scan.columns, values),)
        return (Sample(first.ts, scan.asked, values, len(scan.columns), scan.quality),)

    def _part(self, ts: int) -> Part:
        if not self._parts or ts - self._parts[-1].ts > APART_MS:
            self._parts.append(Part(ts))
        return self._parts[-1]

    def _note(self, part: Part, columns: Iterable[int], reason: str) -> None:
        part.bad.update(dict.fromkeys(columns, reason))
        self._failures[reason] = self._failures.get(reason, 0) + 1
        if reason in _WORTH_GIVING_UP and self._failures[reason] >= PATIENCE:
            self.given_up = reason
