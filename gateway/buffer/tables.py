"""What the buffer remembers of its tables: streams with their counters, rows, open gaps, and how full it is."""

from dataclasses import dataclass, field, fields, replace
from typing import Final

from gateway.model import Gap, Ledger


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the buffer may hold: bytes of the file; what gives way when it is full; seconds of running time."""

    max_bytes: int
    when_full: str = "drop-oldest"
    max_age: float | None = None
    keep_acked: float = 0.0


@dataclass(slots=True)
class Stream:
    """The numbering and the counters of one device in one epoch. `pending` is recounted from the rows at start."""

    id: int
    epoch: str
    device: str
    next_seq: int = 1
    sampled: int = 0
    suppressed: int = 0
    acked: int = 0
    dropped: int = 0
    resent: int = 0
    rows: int = 0
    """Rows that wait."""
    samples: int = 0
    pending: int = 0

    @property
    def unaccounted(self) -> int:
        """Readings that the ledger's law does not explain: 0, or a bug."""
        return self.sampled - self.suppressed - self.acked - self.pending - self.dropped

    @property
    def ledger(self) -> Ledger:
        """The counters as the ledger shows them."""
        return Ledger(self.sampled, self.suppressed, self.acked, self.pending, self.dropped)


FIRST_PAST: Final = -(1 << 60)
"""The first id of rows from before (see `past`), which come before all others: those count from 1."""
ROW_BYTES: Final = 200
"""What a row takes beside its blob."""


@dataclass(slots=True)
class Row:
    """What is remembered of a stored row without its blob."""

    id: int
    stream: int
    meta: int
    first_seq: int
    samples: int
    readings: int
    from_ms: int
    to_ms: int
    age_ms: int
    size: int
    resent: int = 0
    """Readings that were acknowledged before and are sent again; `readings` is 0 then."""


ROW: Final = ", ".join(column.name for column in fields(Row))
"""The columns of table `batches` that make a `Row`."""


@dataclass(frozen=True, slots=True)
class Level:
    """How full the buffer is."""

    rows: int = 0
    samples: int = 0
    readings: int = 0
    bytes: int = 0
    oldest_age_s: float = 0.0
    dropped: int = 0
    disk_free_bytes: int = 0
    kept_bytes: int = 0


@dataclass(slots=True)
class OpenGap:
    """A gap record that may still grow: its row, and what it says so far."""

    row: int
    stream: int
    seq: int
    gap: Gap


@dataclass(slots=True)
class Tables:
    """What the store keeps in memory of its tables; replaced as a whole when a transaction has committed."""

    streams: dict[int, Stream] = field(default_factory=dict)
    stream_ids: dict[str, int] = field(default_factory=dict)
    """By device, in the present epoch."""
    topics: dict[str, str] = field(default_factory=dict)
    """The device of each topic that data was ever stored for."""
    open_gaps: dict[tuple[int, str], OpenGap] = field(default_factory=dict)
    next_row: int = 1
    next_past: int = FIRST_PAST
    past_rows: int = 0
    rows: int = 0
    samples: int = 0
    kept_rows: int = 0
    kept_bytes: int = 0

    def copy(self) -> "Tables":
        """Give tables that a transaction may change; a stream is copied when it is touched."""
        return replace(
            self,
            streams=dict(self.streams),
            stream_ids=dict(self.stream_ids),
            topics=dict(self.topics),
            open_gaps=dict(self.open_gaps),
        )
