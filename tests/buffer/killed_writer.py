"""A process that lives to be killed: stores numbered batches, has some acknowledged, and says what it was promised.

    python killed_writer.py PATH FIRST SEED

It prints `stored N` when batch N is on disk, `acking N ...` before a broker would have these and `acked` after.
"""

import asyncio
import random
import sys
from dataclasses import replace
from pathlib import Path

from buffer_cases import batch_of, bulky

from gateway.buffer import Buffer, Limits, open_buffer
from gateway.model import Batch


def numbered(number: int, chance: random.Random) -> Batch:
    """Give a batch that carries its number as its timestamp, of any size."""
    device = f"press-{number % 3}"
    batch = bulky(device, number) if chance.random() < 0.3 else batch_of(device, 5, suppressed=1)
    return replace(batch, samples=tuple(replace(sample, ts=number) for sample in batch.samples))


async def store(buffer: Buffer, first: int, chance: random.Random) -> None:
    """Append one group after the other."""
    while True:
        last = first + chance.randint(1, 20)
        futures = {number: buffer.append(numbered(number, chance)) for number in range(first, last)}
        for number, on_disk in futures.items():
            assert await on_disk
            print("stored", number, flush=True)
        first = last


async def forward(buffer: Buffer, chance: random.Random) -> None:
    """Have what is there acknowledged, in any order."""
    while True:
        rows = await buffer.take(0, readings=chance.choice([1, 3000, 20_000]))
        chance.shuffle(rows)
        kept = rows[: len(rows) // 3]
        buffer.release(row.id for row in kept)
        gone = rows[len(kept) :]
        print("acking", *sorted({sample.ts for row in gone for sample in row.samples}), flush=True)
        await buffer.acknowledge([row.id for row in gone], soon=chance.random() < 0.5)
        print("acked", flush=True)


async def main() -> None:
    """Run until killed."""
    path, first, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    async with open_buffer(path, Limits(64 << 20), 0.005) as buffer, asyncio.TaskGroup() as group:
        group.create_task(buffer.run(), name="buffer")
        group.create_task(store(buffer, first, random.Random(seed)), name="store")
        group.create_task(forward(buffer, random.Random(-seed)), name="forward")


if __name__ == "__main__":
    asyncio.run(main())
