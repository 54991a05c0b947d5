"""What every Modbus test is held to: nothing escapes into the event loop, nothing is logged by the library."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
async def nothing_escapes(caplog: pytest.LogCaptureFixture) -> AsyncIterator[None]:
    """Fail the test if a callback raised, an exception was never looked at, a task is left, or pymodbus logged."""
    escaped: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    caplog.set_level(logging.DEBUG)
    yield
    gc.collect()
    await asyncio.sleep(0)
    assert escaped == []
    assert [record for record in caplog.get_records("call") if record.name.startswith("pymodbus")] == []
