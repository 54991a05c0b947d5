"""How the buffer stands, for health."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """What health shows of the buffer. `left_aside` names files that were set aside and need a person, and why.
    `unlawful` counts, by device, the readings that the ledger does not explain.
    """

    pending_samples: int
    pending_readings: int
    bytes: int
    max_bytes: int
    disk_free_bytes: int
    oldest_age_s: float
    full_in_s: float | None
    dropped_readings: int
    writable: bool
    error: str | None
    kept_bytes: int = 0
    salvaging: bool = False
    left_aside: Mapping[str, str] = field(default_factory=dict)
    unlawful: Mapping[str, int] = field(default_factory=dict)


class Growth:
    """How fast the buffer grew in the last commits."""

    def __init__(self) -> None:
        self._sizes: deque[tuple[float, int]] = deque(maxlen=120)

    def note(self, size: int) -> None:
        """Note the size after a commit, in bytes."""
        self._sizes.append((time.monotonic(), size))

    def full_in_s(self, max_bytes: int) -> float | None:
        """Extrapolate; None while the buffer does not grow."""
        if len(self._sizes) < 2:
            return None
        (start, low), (end, high) = self._sizes[0], self._sizes[-1]
        if high <= low or end <= start:
            return None
        return (max_bytes - high) * (end - start) / (high - low)
