"""OPC UA subscriptions from a server in another process to mosquitto over TLS: 1,000 items at 10 Hz, 10,000 at 1 Hz.

CPU of the gateway's process for each notification, with shaping, storing and publishing, beside asyncua's iterator,
which only counts. Both are measured in turn, round by round. The types of neighbours differ; "one stamp": a cycle's
items share a source timestamp; "own stamps": they are spread over the milliseconds of the cycle.
"""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.processes import WARM_UP_S, counted, measure
from tests.broker import Broker, free_port
from tests.end_to_end.rig import RUN, Child, Gateway, running

NAMESPACE: Final = "urn:bench:plc"
AT_MOST: Final = 1.3
"""What the gateway may cost, in units of asyncua's bare iterator."""
BLOCKED_AT_MOST_MS: Final = 20.0
"""How long one step may keep the event loop."""


@dataclass(frozen=True)
class Load:
    """So many items that all change once in each interval."""

    name: str
    items: int
    interval_ms: int
    spread: bool

    @property
    def rate(self) -> float:
        """Notifications a second."""
        return self.items * 1000 / self.interval_ms


LOADS: Final = (
    Load("1,000 at 10 Hz, one stamp", 1000, 100, spread=False),
    Load("1,000 at 10 Hz, own stamps", 1000, 100, spread=True),
    Load("10,000 at 1 Hz, one stamp", 10_000, 1000, spread=False),
    Load("10,000 at 1 Hz, own stamps", 10_000, 1000, spread=True),
)


async def run(seconds: float, rounds: int, loads: Sequence[Load] = LOADS) -> dict[str, Any]:
    """Measure both sides in turn, under each load; give medians, and the ratio of each round."""
    figures: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(prefix="edge-gateway-bench-") as name,
        Broker(Path(name) / "broker", kind="mosquitto") as broker,
    ):
        await broker.subscribe("#")  # somebody reads it all, as in the field
        for number, load in enumerate(loads):
            folder = Path(name) / f"load-{number}"
            folder.mkdir()
            figures |= await _under(load, folder, broker, seconds, rounds)
    return {**figures, "CPU at most": AT_MOST, "longest step at most, ms": BLOCKED_AT_MOST_MS}


async def _under(load: Load, folder: Path, broker: Broker, seconds: float, rounds: int) -> dict[str, Any]:
    ours, bare = [], []
    async with _server(folder, load) as endpoint:
        for number in range(rounds):
            ours.append(await _gateway(folder / f"g{number}", endpoint, load, broker, seconds))
            bare.append(await _bare(folder / f"b{number}", endpoint, load, seconds))
        wall, cpu = await _longest_step(folder / "timed", endpoint, load, broker, seconds)
    ratios = sorted(round(each["cpu"] / other["cpu"], 2) for each, other in zip(ours, bare, strict=True))
    sides = {"gateway": ours, "bare iterator": bare}
    return {
        **{
            f"{load.name}: {side}: CPU us per notification": round(median(each["cpu"] for each in found) * 10, 2)
            for side, found in sides.items()
        },
        f"{load.name}: gateway: notifications/s": round(median(each["rate"] for each in ours)),
        f"{load.name}: gateway: RSS MB": round(median(each["rss"] for each in ours), 1),
        f"{load.name}: gateway: longest step, CPU ms": cpu,
        f"{load.name}: gateway: longest step, wall ms": wall,
        f"{load.name}: CPU, gateway / bare iterator, each round": ratios,
        f"{load.name}: CPU, gateway / bare iterator, median": median(ratios),
    }


@asynccontextmanager
async def _server(folder: Path, load: Load) -> AsyncIterator[str]:
    more = ["--spread"] if load.spread else []
    server = Child(folder / "server.log", "-m", "bench.opcua_server", str(load.items), *more)
    process = await server.start(stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield (await asyncio.wait_for(process.stdout.readline(), 120)).decode().strip()
    finally:
        await server.end(signal.SIGKILL)


async def _gateway(folder: Path, endpoint: str, load: Load, broker: Broker, seconds: float) -> dict[str, float]:
    gateway = _configured(folder, endpoint, load, broker)
    async with running(gateway):
        await gateway.until(lambda health: health["ledger"]["acked"] > load.rate)

        async def acked() -> int:
            return int((await gateway.health())["ledger"]["acked"])

        return await measure(gateway, acked, seconds)


async def _bare(folder: Path, endpoint: str, load: Load, seconds: float) -> dict[str, float]:
    folder.mkdir()
    counter = folder / "count"
    arguments = (endpoint, str(load.items), str(load.interval_ms), str(counter))
    child = Child(folder / "bare.log", "-m", "bench.bare_iterator", *arguments)
    await child.start()
    try:
        async with counted(counter, load.rate) as count:
            return await measure(child, count, seconds)
    finally:
        await child.end(signal.SIGKILL)


async def _longest_step(folder: Path, endpoint: str, load: Load, broker: Broker, seconds: float) -> tuple[float, float]:
    """Give the milliseconds, on the wall and of CPU, that the longest step of the event loop took."""
    result = folder / "longest"
    gateway = _configured(folder, endpoint, load, broker, ("-m", "bench.timed_gateway", str(result)))
    async with running(gateway):
        await gateway.until(lambda health: health["ledger"]["acked"] > load.rate)
        await asyncio.sleep(WARM_UP_S)
        await _told(gateway, result)
        await asyncio.sleep(seconds)
        wall, cpu = (await _told(gateway, result)).split()
    return float(wall), float(cpu)


async def _told(gateway: Gateway, result: Path) -> str:
    assert gateway.process is not None
    result.unlink(missing_ok=True)
    gateway.process.send_signal(signal.SIGUSR1)
    async with asyncio.timeout(10):
        while not result.exists() or not result.read_text():
            await asyncio.sleep(0.05)
    return result.read_text()


def _configured(folder: Path, endpoint: str, load: Load, broker: Broker, program: Sequence[str] = RUN) -> Gateway:
    folder.mkdir()
    names = [f"v{number:05}" for number in range(load.items)]
    interval = f"{load.interval_ms}ms"
    return Gateway(
        folder,
        {
            "gateway": {"id": "bench"},
            "mqtt": {"host": broker.host, "port": broker.port, "tls": {"ca_file": str(broker.ca_file)}},
            "buffer": {"path": str(folder / "buffer.db")},
            "http": {"listen": f"127.0.0.1:{free_port()}"},
            "control": {"socket": str(folder / "control.sock")},
            "devices": [
                {
                    "name": "plc", "protocol": "opcua", "endpoint": endpoint, "mode": "subscribe", "interval": interval,
                    "security": {"policy": "None", "insecure": True},
                    "tags": [{"name": name, "node": f"nsu={NAMESPACE};s={name}"} for name in names],
                }
            ],
        },
        program,
    )  # fmt: skip
