"""The buffer's file itself, for the commands, where no gateway runs."""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.buffer import Limits, folder, open_buffer, read_machine_id
from gateway.buffer.inspection import open_alone
from gateway.config.schema import Config
from gateway.errors import StorageError
from gateway.publisher.buffer_desk import BufferDesk, Question

Ask = Callable[[Any], Coroutine[Any, Any, Any]]


@asynccontextmanager
async def alone(config: Config, aside: Path | None) -> AsyncIterator[Ask]:
    """Look into the buffer, or into a file that was set aside. Raises StorageError if a gateway uses it after all."""
    path = aside or config.buffer.path

    async def ask(question: Question) -> Any:
        if question.ask == "resend":
            return await _resend(config, question)
        with contextlib.nullcontext() if aside else folder.held(path), open_alone(path) as file:
            return await BufferDesk(file, config.mqtt, config.gateway.id, check_s=None).answer(question)

    if not path.exists():
        raise StorageError(f"{path}: there is no buffer", do="Check buffer.path, or start the gateway.")
    yield ask


async def _resend(config: Config, question: Question) -> Any:
    """Let it wait in the file; it goes out when the gateway runs."""
    section = config.buffer
    limits = Limits(section.max_bytes, section.when_full, section.max_age, section.keep_acked)
    async with open_buffer(section.path, limits, section.commit_interval, read_machine_id()) as buffer:
        return await BufferDesk(buffer, config.mqtt, config.gateway.id).answer(question)
