"""10 units x 1000 uint16 registers at 10 Hz, from a simulator in another process to mosquitto over TLS.

CPU seconds of the gateway's process for each 100,000 readings, beside a bare loop without any of its promises:
pymodbus read, orjson, one insert per commit, publish. Both are measured in turn, round by round.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from tests.broker import Broker, free_port
from tests.end_to_end.rig import Child, Gateway, Plant, plant, running

UNITS = 10
REGISTERS = 1000
INTERVAL_S = 0.1
EXPECTED = UNITS * REGISTERS / INTERVAL_S
"""Readings a second, if no cycle is skipped."""
WARM_UP_S = 4.0


async def run(seconds: float, rounds: int) -> dict[str, Any]:
    """Measure both sides in turn; give medians, and the ratio of each round."""
    measured: dict[str, list[dict[str, float]]] = {"gateway": [], "bare loop": []}
    with tempfile.TemporaryDirectory(prefix="edge-gateway-bench-") as name:
        folder = Path(name)
        async with plant(folder, "--no-opcua", "--volume-units", str(UNITS)) as simulated:
            with Broker(folder / "broker", kind="mosquitto") as broker:
                await broker.subscribe("#")  # somebody reads it all, as in the field
                for number in range(rounds):
                    measured["gateway"].append(await _gateway(folder / f"g{number}", simulated, broker, seconds))
                    measured["bare loop"].append(await _bare(folder / f"b{number}", simulated, broker, seconds))
    return _figures(measured)


def _figures(measured: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for side, rounds in measured.items():
        figures[f"{side}: CPU s per 100,000 readings"] = round(median(each["cpu"] for each in rounds), 3)
        figures[f"{side}: readings/s"] = round(median(each["rate"] for each in rounds))
        figures[f"{side}: RSS MB"] = round(median(each["rss"] for each in rounds), 1)
    pairs = zip(measured["gateway"], measured["bare loop"], strict=True)
    ratios = sorted(round(gateway["cpu"] / bare["cpu"], 2) for gateway, bare in pairs)
    figures["CPU, gateway / bare loop, each round"] = ratios
    figures["CPU, gateway / bare loop, median"] = median(ratios)
    return figures


async def _gateway(folder: Path, simulated: Plant, broker: Broker, seconds: float) -> dict[str, float]:
    folder.mkdir()
    tags = [{"name": f"r{n:04}", "address": f"holding:{1000 + n}", "type": "uint16"} for n in range(REGISTERS)]
    where = simulated.where["modbus"]
    gateway = Gateway(
        folder,
        {
            "gateway": {"id": "bench"},
            "mqtt": {"host": broker.host, "port": broker.port, "tls": {"ca_file": str(broker.ca_file)}},
            "buffer": {"path": str(folder / "buffer.db")},
            "http": {"listen": f"127.0.0.1:{free_port()}"},
            "defaults": {"interval": f"{INTERVAL_S * 1000:.0f}ms"},
            "devices": [
                {
                    "name": f"volume-{unit}", "protocol": "modbus-tcp", "host": where["host"], "port": where["port"],
                    "unit_id": 10 + unit, "tags": tags,
                }
                for unit in range(1, UNITS + 1)
            ],
        },
    )  # fmt: skip

    async def acked() -> int:
        return int((await gateway.health())["ledger"]["acked"])

    async with running(gateway):
        await gateway.until(lambda health: health["ledger"]["acked"] > EXPECTED)
        return await _measure(_pid(gateway), acked, seconds)


async def _bare(folder: Path, simulated: Plant, broker: Broker, seconds: float) -> dict[str, float]:
    folder.mkdir()
    where = simulated.where["modbus"]
    count = folder / "count"
    arguments = (where["host"], str(where["port"]), broker.host, str(broker.port), str(broker.ca_file), str(count))
    loop = Child(folder / "bare.log", str(Path(__file__).parent / "bare_loop.py"), *arguments)
    await loop.start()
    try:
        async with _counted(count) as published:
            return await _measure(_pid(loop), published, seconds)
    finally:
        await loop.end()


@asynccontextmanager
async def _counted(file: Path) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Read the number that the bare loop writes; waits until it has begun."""

    async def count() -> int:
        return int(file.read_text() or 0)

    async with asyncio.timeout(60):
        while not file.exists() or await count() < EXPECTED:
            await asyncio.sleep(0.1)
    yield count


async def _measure(pid: int, readings: Callable[[], Awaitable[int]], seconds: float) -> dict[str, float]:
    await asyncio.sleep(WARM_UP_S)
    cpu, count = _cpu_s(pid), await readings()
    await asyncio.sleep(seconds)
    cpu, count = _cpu_s(pid) - cpu, await readings() - count
    return {"cpu": cpu / count * 100_000, "rate": count / seconds, "rss": _rss_mb(pid)}


def _pid(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def _cpu_s(pid: int) -> float:
    """User and system time of the whole process (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024
