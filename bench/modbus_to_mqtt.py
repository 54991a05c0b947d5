"""10 units x 1000 uint16 registers at 10 Hz, from a simulator in another process to mosquitto over TLS.

CPU seconds of the gateway's process for each 100,000 readings, beside a bare loop without any of its promises:
pymodbus read, orjson, one insert per commit, publish. Both are measured in turn, round by round.
"""

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.processes import counted, measure
from tests.broker import Broker, free_port
from tests.end_to_end.rig import Child, Gateway, Plant, plant, running

UNITS = 10
REGISTERS = 1000
INTERVAL_S = 0.1
EXPECTED = UNITS * REGISTERS / INTERVAL_S
"""Readings a second, if no cycle is skipped."""


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
        return await measure(gateway, acked, seconds)


async def _bare(folder: Path, simulated: Plant, broker: Broker, seconds: float) -> dict[str, float]:
    folder.mkdir()
    where = simulated.where["modbus"]
    count = folder / "count"
    arguments = (where["host"], str(where["port"]), broker.host, str(broker.port), str(broker.ca_file), str(count))
    loop = Child(folder / "bare.log", "-m", "bench.bare_loop", *arguments)
    await loop.start()
    try:
        async with counted(count, EXPECTED) as published:
            return await measure(loop, published, seconds)
    finally:
        await loop.end()
