"""A buffer whose commits run, and how to hold its thread or fill its disk at the right moment."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from buffer_cases import ROOMY, batch_of

from gateway.buffer import Buffer, Limits, open_buffer, schema
from gateway.buffer.store import Store
from gateway.buffer.stored import Stored
from gateway.model import Ledger

TIMEOUT = 60


@contextlib.asynccontextmanager
async def running(
    path: Path, interval: float = 0.01, limits: Limits = ROOMY, machine_id: str | None = None
) -> AsyncIterator[Buffer]:
    """Open a buffer, with its commits running."""
    async with (
        asyncio.timeout(TIMEOUT),
        open_buffer(path, limits, interval, machine_id) as buffer,
        asyncio.TaskGroup() as group,
    ):
        committing = group.create_task(buffer.run(), name="buffer")
        try:
            yield buffer
        finally:
            committing.cancel()


@contextlib.contextmanager
def busy(buffer: Buffer) -> Iterator[None]:
    """Hold the buffer's thread, as a slow disk does, until the end of the block."""
    gate = threading.Event()
    buffer._writer.start(lambda _: gate.wait(TIMEOUT))
    try:
        yield
    finally:
        gate.set()


@contextlib.asynccontextmanager
async def in_the_middle_of_a_commit(buffer: Buffer) -> AsyncIterator[None]:
    """Begin the block when the next commit has begun, which goes on when the block ends."""
    loop, begun, gate = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold(statement: str) -> None:
        if statement.startswith("BEGIN"):
            loop.call_soon_threadsafe(begun.set)
            gate.wait(TIMEOUT)

    await buffer._writer.run(lambda store: store.connection.set_trace_callback(hold))
    buffer.append(batch_of("meter-7"))
    await begun.wait()
    try:
        yield
    finally:
        gate.set()


@contextlib.asynccontextmanager
async def failing_soon() -> AsyncIterator[asyncio.Event]:
    """Give an event that is set when the buffer says that its disk fails, which it says once."""
    failing = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert not failing.is_set(), "said once"
            failing.set()

    listener = Listener(logging.ERROR)
    logging.getLogger("gateway.buffer.buffer").addHandler(listener)
    try:
        yield failing
    finally:
        logging.getLogger("gateway.buffer.buffer").removeHandler(listener)


async def fill_disk(buffer: Buffer) -> None:
    """Let SQLite find no more room, as on a full disk."""
    await buffer._writer.run(lambda store: store.connection.execute("PRAGMA max_page_count=1").fetchall())


async def free_disk(buffer: Buffer) -> None:
    """Let SQLite find room again."""
    await buffer._writer.run(lambda store: store.connection.execute("PRAGMA max_page_count=100000").fetchall())


def zero_all_pages_but_the_first(store: Store) -> None:
    """Damage the file behind SQLite's back, as a dying SD card does."""
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = store.path.stat().st_size // schema.PAGE_BYTES
    with store.path.open("r+b") as file:
        file.seek(schema.PAGE_BYTES)
        file.write(bytes((pages - 1) * schema.PAGE_BYTES))
    store.connection.execute("PRAGMA shrink_memory")


async def everything(buffer: Buffer) -> list[Stored]:
    """Take all that is there."""
    rows: list[Stored] = []
    while more := await buffer.take(rows[-1].id if rows else 0):
        rows += more
    return rows


def total(buffer: Buffer) -> Ledger:
    """Add up the ledgers of all devices."""
    return sum(buffer.ledgers.values(), Ledger())
