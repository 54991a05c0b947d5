"""What an OPC UA device promises beyond its connection, with the gateway as a process: redundancy, time, history."""

import asyncio
import itertools
import signal
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from tests.broker import require_mosquitto
from tests.end_to_end.opcua_line import OTHER, PROMISE_S, SLACK_S, VICTIM, Line, lost, opcua_line
from tests.end_to_end.rig import WITHIN_S, Plant

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]

LOOK_S = 5.0
"""How often the gateway asks a server for its ServiceLevel."""
READ_AGAIN = 20
"""Values of history that may come although they are there: those at both ends of each hole."""
CHANGE_S = 60
"""So long after the gateway's start a test's time zone changes between summer and winter: the line is up by then."""


@pytest.fixture(autouse=True)
def _mosquitto() -> None:
    require_mosquitto()


async def test_of_two_servers_the_healthier_is_used_with_one_session_in_all(tmp_path: Path) -> None:
    async with opcua_line(tmp_path, redundant=True, others=0) as line:
        await line.flows(VICTIM, within=30.0)
        await line.victim.order("robot-1", "service_level", level=100)
        await _served_by(line, line.well, within=LOOK_S + PROMISE_S + SLACK_S)
        await line.victim.order("robot-1", "service_level", level=255)
        await line.well.order("robot-1", "stop")
        await _served_by(line, line.victim, within=PROMISE_S + SLACK_S)
        await line.well.order("robot-1", "start")
        lives = [life for one in (line.victim, line.well) for life in await _lives(one)]
        stamps = [sample["ts"] for sample in _counted(line)]
    print(f"{len(lives)} sessions, {len(stamps)} counts")
    for (_, closed), (opened, _) in itertools.pairwise(sorted(lives)):
        assert 0 < closed <= opened, "two sessions at a time"
    assert all(before < after for before, after in itertools.pairwise(stamps)), "a value of an earlier time, or twice"


async def test_local_time_of_a_plc_stays_right_when_summer_time_begins_or_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zones = {VICTIM: "Test/Back", OTHER: "Test/Forward"}
    change = 0

    def write_zones() -> dict[str, str]:
        nonlocal change
        change = int(time.time()) + CHANGE_S
        _write_zone(tmp_path / "zones" / zones[VICTIM], change, before_h=2, after_h=1)
        _write_zone(tmp_path / "zones" / zones[OTHER], change, before_h=1, after_h=2)
        return zones

    monkeypatch.setenv("PYTHONTZPATH", str(tmp_path / "zones"))
    async with opcua_line(tmp_path, zones=write_zones) as line:
        for name, plant in ((VICTIM, line.victim), (OTHER, line.well)):
            await plant.order("robot-1", "clock_error", zone=zones[name])
        await line.begin()
        assert time.time() < change, "too late to see the change"
        await asyncio.sleep(change + 3 - time.time())  # the change itself
        await line.finish()
        for name in zones:
            late_ms = [sample["rx"] - sample["ts"] for sample in _counted(line, name)]
            assert -1000 <= min(late_ms) <= max(late_ms) <= 3000, f"{name}: a timestamp is hours off"
            assert lost(line.book(name), explained=False) == []


async def test_what_a_killed_gateway_missed_is_read_from_history_once(tmp_path: Path) -> None:
    async with opcua_line(tmp_path, history=True) as line:
        await line.begin()
        for down_s, forgotten in ((0.0, False), (4.0, False), (3.0, True)):
            await line.gateway.end(signal.SIGKILL)
            if forgotten:
                await line.order("forget_subscriptions")
            await asyncio.sleep(down_s)  # the length of the outage
            await line.gateway.start()
            await line.flows(VICTIM, within=WITHIN_S)
            await line.consumer.until(lambda _: not lost(line.book(VICTIM), explained=False), within=WITHIN_S)
        await line.gateway.until(lambda now: now["buffer"]["oldest_age_s"] < 2)
        counted = [
            sample for _, sample in sorted(line.book(VICTIM).samples.items()) if "counter" in sample.get("values", {})
        ]
        given = (await line.order("report"))["history_values"]["Robot.Counter"]
    counts = [sample["values"]["counter"] for sample in counted]
    kept = sum(sample.get("origin") == "history" for sample in counted)
    print(f"{len(counts)} counts, {kept} of them from history, {given} values read of the server")
    assert len(counts) == len(set(counts)), "a count came twice"
    assert 30 <= kept <= given <= kept + READ_AGAIN, "more was read than was missing"


def _counted(line: Line, device: str = VICTIM) -> list[dict[str, Any]]:
    """The live samples of a device that hold a count, in the order in which they were taken."""
    found = sorted(line.book(device).samples.items())
    return [one for _, one in found if "counter" in one.get("values", {}) and one.get("origin") != "history"]


async def _lives(plant: Plant) -> list[list[float]]:
    """When each session at a plant was opened and closed."""
    report: dict[str, Any] = await plant.order("robot-1", "report")
    lives: list[list[float]] = report["session_lives"]
    return lives


async def _served_by(line: Line, plant: Plant, *, within: float) -> None:
    """Wait until the device is read at this plant, and its values come."""
    port = plant.where["opcua"]["endpoint"].rpartition(":")[2]
    async with asyncio.timeout(within):
        await line.gateway.until(
            lambda now: now["devices"][VICTIM].get("connection", {}).get("address", "").endswith(port)
        )
        await line.flows(VICTIM, within=within)


def _write_zone(path: Path, change: int, *, before_h: int, after_h: int) -> None:
    """Write a time zone (TZif version 1, RFC 8536) that changes from some hours before UTC's to others, once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 1, 2, 8)
    kinds = struct.pack(">lbb", before_h * 3600, 0, 0) + struct.pack(">lbb", after_h * 3600, 1, 4)
    path.write_bytes(header + struct.pack(">lb", change, 1) + kinds + b"OLD\0NEW\0")
