"""From the lock on the buffer's file to its clean end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.buffer import folder
from gateway.buffer.buffer import Buffer
from gateway.buffer.tables import Limits
from gateway.buffer.writer import Writer


@asynccontextmanager
async def open_buffer(
    path: Path, limits: Limits, commit_interval: float, machine_id: str | None = None
) -> AsyncIterator[Buffer]:
    """Open the buffer for this process alone; flush and close it on the way out. `commit_interval` is in seconds.

    Raises StorageError if another process has it, or the disk cannot be used.
    """
    with folder.held(path):
        writer = Writer(path, limits, machine_id)
        buffer = Buffer(writer, limits, commit_interval)
        try:
            await buffer.open()
            try:
                yield buffer
            finally:
                await buffer.close()
        finally:
            writer.close()
