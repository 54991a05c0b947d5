"""What every Modbus test is held to: nothing escapes into the event loop."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
async def nothing_escapes() -> AsyncIterator[None]:
    """Fail the test if a callback raised, or an exception was never looked at."""
    escaped: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert escaped == []
