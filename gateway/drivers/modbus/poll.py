"""What one poll of a unit finds, answer by answer, and the samples that it makes: no I/O."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Final

from gateway.drivers.modbus.connection import Answer
from gateway.drivers.modbus.plan import Block
from gateway.drivers.modbus.registers import Decoder, picker
from gateway.model import Sample, Value

APART_MS: Final = 100
"""An answer that comes this much later than the first of a sample opens another: one timestamp would be untrue."""
PATIENCE: Final = 2
"""Blocks of one poll that may fail for the same reason before the others are no longer asked."""

TIMEOUT: Final = "timeout"
PROTOCOL_ERROR: Final = "protocol-error"
ILLEGAL_ADDRESS: Final = "illegal-address"

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


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """A block and how to decode it. `settled`: it is known that no part of it would be answered either."""

    block: Block
    decoder: Decoder
    settled: bool = False


class Scan:
    """The queries that read one set of columns, in the order in which they are asked."""

    def __init__(self, columns: tuple[int, ...], queries: Sequence[Query]) -> None:
        self.columns = columns
        self.queries = tuple(queries)
        self.order = list(chain.from_iterable(query.block.columns for query in self.queries))
        position = {column: index for index, column in enumerate(self.order)}
        self.arrange = picker([position[column] for column in columns])
        """Brings values from the order of the answers into that of the columns."""


@dataclass(slots=True)
class _Part:
    """A sample in the making: good columns with their values, and the reasons of the bad ones."""

    ts: int
    columns: list[int] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


class Poll:
    """Collects the answers to a scan. `answered`: something came; `given_up`: the reason not to ask on, or empty."""

    def __init__(self, scan: Scan, names: Sequence[str]) -> None:
        self.answered = False
        self.given_up = ""
        self._scan = scan
        self._names = names
        self._parts: list[_Part] = []
        self._failures: Counter[str] = Counter()

    def take(self, query: Query, answer: Answer) -> None:
        """Note an answer: values, or an exception."""
        self.answered = True
        part = self._part(answer.ts)
        if answer.refusal:
            reason = REASONS.get(answer.refusal, f"exception-{answer.refusal}")
            self._note(part, query, reason)
            return
        values, bad = query.decoder.decode(answer.payload)
        if not bad:
            part.columns += query.block.columns
            part.values += values
            return
        for position, column in enumerate(query.block.columns):
            if position in bad:
                part.bad[column] = bad[position]
            else:
                part.columns.append(column)
                part.values.append(values[position])

    def fail(self, query: Query, reason: str, ts: int) -> None:
        """Note a block that got no answer, or a wrong one. `ts` counts only where nothing came before."""
        self.answered = self.answered or reason == PROTOCOL_ERROR
        self._note(self._parts[-1] if self._parts else self._part(ts), query, reason)

    def is_refused(self, block: Block) -> bool:
        """Whether the unit has refused every column of a block as an illegal address."""
        found = {column for part in self._parts for column, reason in part.bad.items() if reason == ILLEGAL_ADDRESS}
        return found.issuperset(block.columns)

    @property
    def unit_wide(self) -> str:
        """What the gateway in between says of all columns alike, or empty."""
        if any(part.columns for part in self._parts):
            return ""
        reasons = {reason for part in self._parts for reason in part.bad.values()}
        return reasons.pop() if len(reasons) == 1 and reasons <= GATEWAY_REASONS else ""

    def samples(self) -> tuple[Sample, ...]:
        """Make the samples: one, or more where answers came far apart."""
        first = self._parts[0]
        if first.columns == self._scan.order:
            return (Sample.good(first.ts, self._scan.columns, self._scan.arrange(first.values)),)
        return tuple(self._sample(part) for part in self._parts)

    def _part(self, ts: int) -> _Part:
        if not self._parts or ts - self._parts[-1].ts > APART_MS:
            self._parts.append(_Part(ts))
        return self._parts[-1]

    def _note(self, part: _Part, query: Query, reason: str) -> None:
        part.bad.update(dict.fromkeys(query.block.columns, reason))
        self._failures[reason] += 1
        if reason in _WORTH_GIVING_UP and self._failures[reason] >= PATIENCE:
            self.given_up = reason

    def _sample(self, part: _Part) -> Sample:
        good = sorted(zip(part.columns, part.values, strict=True), key=itemgetter(0))
        columns = tuple(column for column, _ in good)
        quality = {self._names[column]: f"bad:{reason}" for column, reason in sorted(part.bad.items())}
        return Sample(part.ts, columns, tuple(value for _, value in good), len(good) + len(quality), quality)
