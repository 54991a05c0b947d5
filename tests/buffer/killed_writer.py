"""A process that lives to be killed: stores numbered batches, has some acknowledged, and says what it was promised.

    python killed_writer.py PATH FIRST SEED

It prints `stored N` when batch N is on disk, `acking N ...` before a broker would have these and `acked` after.
"""

import asyncio
import os
import random
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from buffer_cases import batch_of, bulky

from gateway.buffer import Buffer, Limits, open_buffer, schema
from gateway.model import Batch


def numbered(number: int, chance: random.Random) -> Batch:
    """Give a batch that carries its number as its timestamp, of any size."""
    device = f"press-{number % 3}"
    batch = bulky(device, number) if chance.random() < 0.3 else batch_of(device, 5, suppressed=1)
    return replace(batch, samples=tuple(sample._replace(ts=number) for sample in batch.samples))


def groups(first: int, seed: int) -> Iterator[dict[int, Batch]]:
    """Give the batches, by their numbers, that a process with this seed stores one group after the other."""
    chance = random.Random(seed)
    while True:
        last = first + chance.randint(1, 20)
        yield {number: numbered(number, chance) for number in range(first, last)}
        first = last


async def store(buffer: Buffer, first: int, seed: int) -> None:
    """Append one group after the other."""
    for group in groups(first, seed):
        futures = {number: buffer.append(batch) for number, batch in group.items()}
        for number, on_disk in futures.items():
            assert await on_disk
            print("stored", number, flush=True)


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
    if os.environ.get("CARELESS"):  # a test of the crash test: commits that the disk may still lose
        connect = schema.prepare

        def careless(connection: sqlite3.Connection, max_bytes: int) -> None:
            connect(connection, max_bytes)
            connection.execute("PRAGMA synchronous=NORMAL")

        schema.prepare = careless
    path, first, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    async with open_buffer(path, Limits(64 << 20), 0.005) as buffer, asyncio.TaskGroup() as group:
        group.create_task(buffer.run(), name="buffer")
        group.create_task(store(buffer, first, seed), name="store")
        group.create_task(forward(buffer, random.Random(-seed)), name="forward")


if __name__ == "__main__":
    asyncio.run(main())
