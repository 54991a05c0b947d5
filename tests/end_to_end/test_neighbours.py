"""P6 with the whole gateway: devices that are dead, or freeze, do not harm those beside them.

The simulators' own account of when requests came is the measure. FAULT_SECONDS makes the runs longer (`make
fault-test`).
"""

import asyncio
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.broker import free_port
from tests.end_to_end.rig import Gateway, Plant, plant, running

SECONDS = float(os.environ.get("FAULT_SECONDS", "0"))
IS_LONG = SECONDS > 0
INTERVAL_S = 1.0
UNITS = 50
LIVE = 5
TOLERANCE = 0.1
"""Of the interval: how far from it a cycle may begin, in 99 of 100."""

pytestmark = pytest.mark.timeout(240 + 3 * SECONDS)


def config(folder: Path, devices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A gateway whose broker is not there: that changes nothing for the devices (P7)."""
    return {
        "gateway": {"id": "hall-3"},
        "mqtt": {
            "host": "127.0.0.1",
            "port": free_port(),
            "topic": "factory/{gateway}/{device}",
            "tls": {"insecure_plaintext": True},
        },
        "buffer": {"path": str(folder / "buffer.db")},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "devices": list(devices),
    }


def device(name: str, where: dict[str, Any], protocol: str = "modbus-tcp", **keys: Any) -> dict[str, Any]:
    """A device of one request a cycle."""
    tags = [{"name": f"v{at}", "address": f"holding:{at}", "type": "uint16"} for at in range(1000, 1020)]
    place = {"host": where["host"], "port": where["port"], "unit_id": where["units"][name]}
    interval = f"{INTERVAL_S * 1000:.0f}ms"
    return {"name": name, "protocol": protocol, **place, "interval": interval, **keys, "tags": tags}


async def spacings(there: Plant, names: Sequence[str], since: dict[str, int]) -> list[float]:
    """Seconds from request to request of these units, of all that came after so many."""
    found = []
    for name in names:
        times = (await there.order(name, "arrivals"))[since[name] :]
        found += [later - earlier for earlier, later in itertools.pairwise(times)]
    return found


async def counted(there: Plant, names: Sequence[str]) -> dict[str, int]:
    """How many requests these units have had."""
    return {name: (await there.order(name, "report"))["requests"] for name in names}


async def skipped(gateway: Gateway, names: Sequence[str]) -> dict[str, int]:
    """The cycles that these devices have missed so far, by the gateway's own account."""
    devices = (await gateway.health())["devices"]
    return {name: devices[name]["skipped_cycles"] for name in names}


def jitter(spacing: Sequence[float], share: float) -> float:
    """How far from the interval so many of the spacings are at most, as a share of the interval."""
    off = sorted(abs(each - INTERVAL_S) / INTERVAL_S for each in spacing)
    return off[min(int(len(off) * share), len(off) - 1)]


async def test_p6_of_50_units_on_one_link_45_are_dead_and_5_keep_their_interval(tmp_path: Path) -> None:
    """The live ones are asked on time, with what it costs to look for the dead ones now and then; on two links."""
    timeout = "200ms" if IS_LONG else "60ms"  # the dead are found one after the other, once
    arguments = ("--no-opcua", "--volume-units", str(2 * UNITS), "--rtu-tcp-port", "0")
    async with plant(tmp_path, *arguments) as there:
        names = [name for name in there.where["modbus"]["units"] if name.startswith("volume-")]
        links = {"modbus-tcp": names[:UNITS], "modbus-rtu-over-tcp": names[UNITS:]}
        live = {protocol: linked[:: UNITS // LIVE] for protocol, linked in links.items()}
        dead = {protocol: [name for name in links[protocol] if name not in live[protocol]] for protocol in links}
        for name in itertools.chain(*dead.values()):
            await there.order(name, "freeze")
        places = {"modbus-tcp": there.where["modbus"], "modbus-rtu-over-tcp": there.where["modbus-rtu-over-tcp"]}
        devices = [
            device(name, places[protocol], protocol, timeout=timeout, critical=False)
            for protocol, linked in links.items()
            for name in linked
        ]
        async with running(Gateway(tmp_path, config(tmp_path, devices))) as gateway:
            await gateway.until(
                lambda now: (
                    all(now["devices"][name]["state"] == "ok" for name in itertools.chain(*live.values()))
                    and all(now["devices"][name]["state"] == "unreachable" for name in itertools.chain(*dead.values()))
                )
            )
            await asyncio.sleep(2 * INTERVAL_S)  # whoever was found dead last held up a cycle, once
            skipped_before = await skipped(gateway, names)
            before = await counted(there, names)
            await asyncio.sleep(SECONDS or 8)  # the length of the look
            after = await counted(there, names)
            spacing = {protocol: await spacings(there, live[protocol], before) for protocol in links}
            skipped_after = await skipped(gateway, names)
    for protocol in links:
        asked = sum(after[name] - before[name] for name in dead[protocol])
        p50, p90, p99 = (jitter(spacing[protocol], share) for share in (0.5, 0.9, 0.99))
        print(f"{protocol}: {len(spacing[protocol])} cycles of the live, jitter p50 {p50:.2%} p90 {p90:.2%} "
              f"p99 {p99:.2%}, {asked} requests to the dead")  # fmt: skip
        assert len(spacing[protocol]) >= LIVE * ((SECONDS or 8) / INTERVAL_S - 2)
        # A busy test machine may hold up single cycles, of which a short run has too few for a p99.
        assert (p99 if IS_LONG else p90) < TOLERANCE, sorted(spacing[protocol])
        assert [skipped_after[name] for name in live[protocol]] == [skipped_before[name] for name in live[protocol]]
        assert asked, "nobody looked whether the dead ones have come back"


async def test_p6_a_device_that_freezes_costs_no_other_a_cycle_and_comes_back(tmp_path: Path) -> None:
    """SIGSTOP of a PLC: its connections stay open and nothing answers, as with a cable pulled or a CPU halted."""
    frozen_s = SECONDS or 5
    (tmp_path / "frozen").mkdir()
    async with (
        plant(tmp_path / "frozen", "--no-opcua") as frozen,
        plant(tmp_path, "--no-opcua", "--volume-units", "8") as well,
    ):
        victim = device("press-1", frozen.where["modbus"], timeout="1s")
        names = [name for name in well.where["modbus"]["units"] if name.startswith("volume-")]
        devices = [victim, *(device(name, well.where["modbus"], timeout="100ms") for name in names)]
        everything = ["press-1", *names]
        async with running(Gateway(tmp_path, config(tmp_path, devices))) as gateway:
            await gateway.until(lambda now: all(now["devices"][name]["state"] == "ok" for name in everything))
            before, skipped_before = await counted(well, names), await skipped(gateway, names)
            async with frozen.paused():
                began = asyncio.get_running_loop().time()
                await gateway.until(lambda now: now["devices"]["press-1"]["state"] == "unreachable")
                await asyncio.sleep(began + frozen_s - asyncio.get_running_loop().time())  # the rest of the freeze
                spacing = await spacings(well, names, before)
                skipped_after = await skipped(gateway, names)
            await gateway.until(lambda now: now["devices"]["press-1"]["state"] == "ok")
    print(f"frozen for {frozen_s:g} s: {len(spacing)} cycles of the others, longest {max(spacing):.3f} s")
    assert skipped_after == skipped_before
    assert max(spacing) < 2 * INTERVAL_S
    assert len(spacing) >= len(names) * (frozen_s / INTERVAL_S - 2)
