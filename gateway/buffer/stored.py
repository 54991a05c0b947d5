"""What the buffer hands to the publisher: one row, a batch or a gap, as it lies on disk."""

from dataclasses import dataclass
from typing import Final

from gateway.model import Gap, Meta, Sample

FIRST: Final = -(1 << 62)
"""Less than every row's id."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One row: the samples `first_seq`, `first_seq` + 1, ... of one device, or one gap record with one seq.

    `id` tells the order of storing; rows are taken and acknowledged by it. `readings` is what the ledger counts.
    """

    id: int
    epoch: str
    meta: Meta
    first_seq: int
    samples: tuple[Sample | Gap, ...]
    readings: int
