"""A full request, 125 registers, decoded into 125 scaled tags with deadband: from the socket to the batch.

CPU of this process for each register, beside pymodbus' bare read of the same registers, which scales and compares
nothing. Both ask one simulator in another process, by turns of 50 requests, so that both see the same machine.
"""

import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

from pymodbus.client import AsyncModbusTcpClient

from gateway.drivers import ModbusTcpDevice
from gateway.drivers.base import DeviceSection, Driver, Shared
from gateway.model import Batch, Meta, Sample
from gateway.shaping import Shaper
from tests.end_to_end.rig import plant

REGISTERS: Final = 125
START: Final = 1000
UNIT: Final = 11
TURN: Final = 50
AT_MOST: Final = 1.5
"""What the gateway may cost, in units of pymodbus' bare read."""

Request = Callable[[], Awaitable[None]]


async def run(seconds: float, rounds: int) -> dict[str, Any]:
    """Measure both sides by turns; give medians of the rounds, and the ratio of each."""
    costs: dict[str, list[float]] = {"gateway": [], "pymodbus": []}
    with tempfile.TemporaryDirectory(prefix="edge-gateway-bench-") as folder:
        async with plant(Path(folder), "--no-opcua", "--volume-units", "1") as simulated:
            where = simulated.where["modbus"]
            async with _gateway(where) as poll, _pymodbus(where) as read:
                for _ in range(rounds):
                    for side, cost in (await _measure({"gateway": poll, "pymodbus": read}, seconds)).items():
                        costs[side].append(cost)
    ratios = sorted(round(ours / bare, 2) for ours, bare in zip(costs["gateway"], costs["pymodbus"], strict=True))
    return {
        **{f"{side}: CPU us per register": round(median(found), 3) for side, found in costs.items()},
        "gateway: of it shaping": round(_shaping_cost(), 3),
        "CPU, gateway / pymodbus' bare read, each round": ratios,
        "CPU, gateway / pymodbus' bare read, median": median(ratios),
        "at most": AT_MOST,
    }


async def _measure(sides: dict[str, Request], seconds: float) -> dict[str, float]:
    """Give the CPU microseconds that a register costs each side."""
    spent, count = dict.fromkeys(sides, 0.0), 0
    until = time.monotonic() + 2 * seconds
    while time.monotonic() < until:
        for side, request in sides.items():
            began = time.process_time()
            for _ in range(TURN):
                await request()
            spent[side] += time.process_time() - began
        count += TURN * REGISTERS
    return {side: total / count * 1e6 for side, total in spent.items()}


@asynccontextmanager
async def _gateway(where: dict[str, Any]) -> AsyncIterator[Request]:
    """Do what the poller does with each poll, up to the batch."""
    section = _section(where)
    names = tuple(tag.name for tag in section.tags)
    meta = Meta("bench", section.name, "bench", names, tuple(tag.code for tag in section.tags))
    shaper, columns = Shaper(section), tuple(range(REGISTERS))
    section.prepare()
    async with section.open(Shared("bench")) as driver:

        async def poll() -> None:
            samples = await driver.read(columns)
            _batch(meta, shaper, samples)

        await _check(driver, columns)
        yield poll


def _batch(meta: Meta, shaper: Shaper, samples: tuple[Sample, ...]) -> Batch:
    now = time.monotonic()
    shaped = tuple(sample for raw in samples if (sample := shaper.shape(raw, now)) is not None)
    sampled, sent = sum(raw.readings for raw in samples), sum(sample.readings for sample in shaped)
    return Batch(meta, shaped, sampled, sampled - sent)


async def _check(driver: Driver, columns: tuple[int, ...]) -> None:
    (sample,) = await driver.read(columns)
    assert sample.columns == columns, sample.quality


def _section(where: dict[str, Any]) -> DeviceSection:
    tags = [
        {"name": f"r{n:03}", "address": f"holding:{START + n}", "type": "uint16", "scale": 0.1, "deadband": 0.5}
        for n in range(REGISTERS)
    ]
    device = {"name": "volume-1", "protocol": "modbus-tcp", "unit_id": UNIT, "tags": tags}
    return ModbusTcpDevice.model_validate({**device, "host": where["host"], "port": where["port"]})


@asynccontextmanager
async def _pymodbus(where: dict[str, Any]) -> AsyncIterator[Request]:
    """Read, and do nothing with what was read."""
    client = AsyncModbusTcpClient(where["host"], port=where["port"], retries=0)
    assert await client.connect()
    try:

        async def read() -> None:
            answer = await client.read_holding_registers(START, count=REGISTERS, device_id=UNIT)
            assert len(answer.registers) == REGISTERS

        yield read
    finally:
        client.close()


def _shaping_cost() -> float:
    """CPU microseconds for each value from sample to batch: all within their deadband, but for one in fifty."""
    section = _section({"host": "127.0.0.1", "port": 502})
    meta = Meta("bench", section.name, "bench", tuple(tag.name for tag in section.tags), ())
    shaper, columns, polls = Shaper(section), tuple(range(REGISTERS)), 2000
    samples = [Sample.good(poll, columns, tuple(1000 + n + (poll + n) // 10 for n in columns)) for poll in range(polls)]
    _batch(meta, shaper, (samples[0],))
    began = time.process_time()
    for sample in samples:
        _batch(meta, shaper, (sample,))
    return (time.process_time() - began) / polls / REGISTERS * 1e6
