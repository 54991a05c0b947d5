"""What a process of a benchmark costs: CPU for each reading, memory."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.end_to_end.rig import Child

WARM_UP_S: Final = 4.0
Count = Callable[[], Awaitable[int]]


async def measure(child: Child, readings: Count, seconds: float) -> dict[str, float]:
    """Give CPU seconds for each 100,000 readings, readings a second, and MB of memory, after a warm-up."""
    await asyncio.sleep(WARM_UP_S)
    pid = pid_of(child)
    cpu, count = _cpu_s(pid), await readings()
    await asyncio.sleep(seconds)
    cpu, count = _cpu_s(pid) - cpu, await readings() - count
    return {"cpu": cpu / count * 100_000, "rate": count / seconds, "rss": _rss_mb(pid)}


@asynccontextmanager
async def counted(file: Path, at_least: float) -> AsyncIterator[Count]:
    """Read the number that a baseline writes to a file; waits until it has begun."""

    async def count() -> int:
        return int(file.read_text())

    async with asyncio.timeout(60):
        while not file.exists() or not file.stat().st_size or await count() < at_least:
            await asyncio.sleep(0.1)
    yield count


def pid_of(child: Child) -> int:
    """Give the id of a process that runs."""
    assert child.process is not None
    return child.process.pid


def _cpu_s(pid: int) -> float:
    """User and system time of the whole process (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
