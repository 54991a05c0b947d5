"""A buffer in memory, at the seam between buffer and publisher; it remembers all that was asked of it."""

import asyncio
from collections.abc import Collection, Iterable, Sequence

from gateway.buffer.dead_letters import Letter
from gateway.buffer.stored import Stored
from gateway.model import Gap, Meta, Sample


class FakeRows:
    """Keeps rows in a dict. `commits` gives the disk's word: cleared, nothing is ever committed."""

    def __init__(self) -> None:
        self.last_id = 0
        self.past = 0
        self.rows: dict[int, Stored] = {}
        self.in_flight: set[int] = set()
        self.acknowledged: list[int] = []
        self.rejected: list[int] = []
        self.letters: list[Letter] = []
        self.retired: list[str] = []
        self.asked_soon = 0
        self.commits = asyncio.Event()
        self.commits.set()
        self._grown = asyncio.Event()
        self._drained = asyncio.Event()
        self._taken = asyncio.Event()
        self._seqs: dict[str, int] = {}

    def put(self, meta: Meta, *samples: Sample | Gap, epoch: str = "5f0c2a9e") -> Stored:
        """Store one row."""
        self.last_id += 1
        first_seq = self._seqs.get(meta.device, 1)
        self._seqs[meta.device] = first_seq + len(samples)
        readings = sum(sample.readings for sample in samples if isinstance(sample, Sample))
        row = self.rows[self.last_id] = Stored(self.last_id, epoch, meta, first_seq, samples, readings)
        _pulse(self._grown)
        return row

    async def wait_for_past(self, seen: int) -> None:
        while self.past <= seen:
            await self._grown.wait()

    async def take(
        self, after: int, upto: int | None = None, *, readings: int = 5000, skip_topics: Collection[str] = ()
    ) -> list[Stored]:
        await asyncio.sleep(0)
        taken: list[Stored] = []
        for row in sorted(self.rows.values(), key=lambda row: row.id):
            wanted = row.id > after and (upto is None or row.id <= upto) and row.meta.topic not in skip_topics
            if wanted and row.id not in self.in_flight and sum(row.readings for row in taken) < readings:
                taken.append(row)
        self.in_flight.update(row.id for row in taken)
        _pulse(self._taken)
        return taken

    def release(self, ids: Iterable[int]) -> None:
        self.in_flight.difference_update(ids)

    async def acknowledge(self, ids: Collection[int], *, soon: bool = False) -> None:
        self.asked_soon += soon
        await self.commits.wait()
        for row in ids:
            assert row in self.in_flight, f"row {row} was acknowledged, but not taken"
            del self.rows[row]
            self.in_flight.remove(row)
        self.acknowledged += ids
        _pulse(self._drained)

    def set_aside(self, row: int, letters: Sequence[Letter]) -> None:
        del self.rows[row]
        self.in_flight.remove(row)
        self.rejected.append(row)
        self.letters += letters
        _pulse(self._drained)

    async def until_rejected(self, count: int) -> None:
        """Wait until so many rows were given up."""
        async with asyncio.timeout(30):
            while len(self.rejected) < count:
                await self._drained.wait()

    async def wait(self, after: int) -> None:
        while self.last_id <= after:
            await self._grown.wait()

    async def retire_topic(self, topic: str) -> None:
        self.retired.append(topic)
        _pulse(self._drained)

    async def until_retired(self, topic: str) -> None:
        """Wait until a topic was forgotten."""
        async with asyncio.timeout(30):
            while topic not in self.retired:
                await self._drained.wait()

    async def until_acknowledged(self, count: int) -> None:
        """Wait until so many rows were acknowledged."""
        async with asyncio.timeout(30):
            while len(self.acknowledged) < count:
                await self._drained.wait()

    async def until_taken(self) -> None:
        """Wait until something is in flight."""
        async with asyncio.timeout(30):
            while not self.in_flight:
                await self._taken.wait()

    async def until_empty(self) -> None:
        """Wait until nothing is stored any more."""
        async with asyncio.timeout(30):
            while self.rows:
                await self._drained.wait()


def _pulse(event: asyncio.Event) -> None:
    event.set()
    event.clear()
