"""What waits in memory for the next commit: bounded, in order, and nothing in it is forgotten without a gap."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.buffer.gaps import merge_gaps
from gateway.model import Batch, Gap
from gateway.supervisor import now_ms

MAX_READINGS: Final = 200_000
"""About 16 MiB."""
BATCH_READINGS: Final = 10
"""What a batch takes in memory beside its readings, in readings."""
MAX_SECONDS: Final = 60.0
"""How long batches wait for a disk that fails."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch on its way to the disk; the future tells whether it got there."""

    batch: Batch
    since: float
    future: asyncio.Future[bool]

    def tell(self, *, on_disk: bool) -> None:
        """Tell whoever still wants to know."""
        if not self.future.done():
            self.future.set_result(on_disk)


@dataclass(slots=True)
class Waiting:
    """Batches in the order of coming, before them what had to be given up meanwhile, by device."""

    entries: deque[Entry] = field(default_factory=deque)
    given_up: dict[str, Batch] = field(default_factory=dict)
    readings: int = 0

    def add(self, batch: Batch) -> asyncio.Future[bool]:
        """Let a batch wait; the future tells whether it got to the disk."""
        entry = Entry(batch, time.monotonic(), asyncio.get_running_loop().create_future())
        self.entries.append(entry)
        self.readings += batch.sampled + BATCH_READINGS
        return entry.future

    def shed(self, *, failing: bool) -> None:
        """Give up the oldest batches beyond the bounds: a gap tells of them, and waits in their place."""
        horizon = time.monotonic() - MAX_SECONDS
        while self.entries and (self.readings > MAX_READINGS or (failing and self.entries[0].since < horizon)):
            entry = self.entries.popleft()
            self.readings -= entry.batch.sampled + BATCH_READINGS
            device = entry.batch.meta.device
            self.given_up[device] = give_up(entry.batch, self.given_up.get(device))
            entry.tell(on_disk=False)

    @property
    def batches(self) -> list[Batch]:
        """Everything, in the order in which it is to be stored."""
        return [*self.given_up.values(), *(entry.batch for entry in self.entries)]

    def settle(self, *, on_disk: bool) -> None:
        """Tell everyone who asked whether their batch is on disk."""
        for entry in self.entries:
            entry.tell(on_disk=on_disk)

    def put_back(self, earlier: "Waiting") -> None:
        """Put what could not be written in front of what came meanwhile: order is the promise."""
        for device, batch in self.given_up.items():
            earlier.given_up[device] = give_up(batch, earlier.given_up.get(device))
        self.given_up = earlier.given_up
        self.entries.extendleft(reversed(earlier.entries))
        self.readings += earlier.readings


def give_up(batch: Batch, before: Batch | None) -> Batch:
    """Turn a batch that cannot be kept into what the ledger and a gap record say of it, added to an earlier one."""
    lost = sum(sample.readings for sample in batch.samples)
    gaps = batch.gaps
    if batch.samples:
        times = [sample.ts for sample in batch.samples]
        gaps = (*gaps, Gap(now_ms(), "disk-failed", {"readings": lost, "from": min(times), "to": max(times)}))
    given_up = replace(batch, samples=(), gaps=gaps, dropped=batch.dropped + lost)
    if before is None:
        return given_up
    return replace(
        given_up,
        sampled=before.sampled + given_up.sampled,
        suppressed=before.suppressed + given_up.suppressed,
        dropped=before.dropped + given_up.dropped,
        gaps=_joined((*before.gaps, *given_up.gaps)),
        bookmarks={**before.bookmarks, **given_up.bookmarks},
    )


def _joined(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Join gaps of one reason, so that what waits for a dead disk does not grow."""
    joined: dict[str, Gap] = {}
    for gap in gaps:
        known = joined.get(gap.reason)
        joined[gap.reason] = gap if known is None else merge_gaps(known, gap)
    return tuple(joined.values())
