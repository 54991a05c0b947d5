"""Programs of others that tests need: where one is missing the test is skipped with the reason; in CI it fails."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

START_S = 30.0
"""How long a program may take to start; far more than it needs."""


def require_program(name: str, package: str) -> str:
    """Where the program is; Debian has it in `package`."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed: apt-get install {package}")
    return str(found)


def missing(sentence: str) -> None:
    """Skip the test that is running; in CI, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {sentence}")
    pytest.skip(sentence)


@asynccontextmanager
async def program(*command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program beside the test, with a pipe for its output; it is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def next_line(process: asyncio.subprocess.Process) -> str:
    """The next line that it says; fails if it ends instead."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), START_S)
    assert line, "it ended without a word"
    return line.decode().strip()


@asynccontextmanager
async def serial_pair(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Two serial ports that are each other's other end, made by socat: what goes into one comes out of the other."""
    socat = require_program("socat", "socat")
    ends = folder / "tty-a", folder / "tty-b"
    sides = [f"pty,raw,echo=0,link={end}" for end in ends]
    async with program(socat, "-d", "-d", *sides) as process:
        while "starting data transfer loop" not in await next_line(process):
            pass
        assert all(end.exists() for end in ends)
        yield str(ends[0]), str(ends[1])
