"""How the buffer stands, for health."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BufferStatus:
    """What health shows of the buffer."""

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
