"""Two OPC UA servers, a Modbus unit, the gateway and a broker, each a process; what came of a fault of one server."""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulators.tags import demo_devices
from tests.broker import Broker, Consumer, Received
from tests.end_to_end.books import Book
from tests.end_to_end.rig import WITHIN_S, Gateway, Plant, configure, plant, running

VICTIM, OTHER, UNIT = "robot-1", "robot-2", "press-1"
TIMEOUT_S = 1.0
KEEP_ALIVE_S = 5 * TIMEOUT_S
"""What the gateway asks of the servers: at least so often they say that a subscription lives."""
PROMISE_S = 5.0
SLACK_S = 1.5
"""For a busy test machine, on top of a promise."""
UNIT_INTERVAL_S = 1.0
QUEUE = 400
"""Counts that the server keeps while nobody fetches them, 40 s: what it loses all the same is the gateway's fault."""


@dataclass
class Line:
    """A running line; `victim` is the plant whose robot has the faults, `well` the one beside it."""

    victim: Plant
    well: Plant
    consumer: Consumer
    gateway: Gateway
    trusted: Path
    others: tuple[str, ...] = (OTHER,)
    mark: int = 0
    before: dict[str, tuple[int, int]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    descriptors: int | None = None

    def trust(self) -> None:
        """Let the gateway trust the certificate that the victim has now."""
        shutil.copy(self.victim.where["opcua"]["certificate"], self.trusted / "robot-1.der")

    async def order(self, do: str, **arguments: Any) -> Any:
        """Steer the victim."""
        return await self.victim.order("robot-1", do, **arguments)

    async def flows(self, device: str, *, within: float, tag: str = "counter") -> float:
        """Wait for a good value of a tag that reached the gateway from now on; gives the seconds it took."""
        began, since, mark = time.monotonic(), time.time_ns() // 1_000_000, len(self.consumer.messages)

        def is_there(all_: list[Received]) -> bool:
            return any(
                tag in sample.get("values", {}) and sample.get("rx", sample["ts"]) >= since
                for sample in samples(all_[mark:], device)
            )

        await self.consumer.until(is_there, within=within)
        return time.monotonic() - began

    async def begin(self) -> None:
        """Wait until all is well, and begin to look at what comes."""
        await self.gateway.until(
            lambda now: all(now["devices"][name]["state"] == "ok" for name in (VICTIM, *self.others, UNIT))
        )
        for device in (VICTIM, *self.others):
            await self.flows(device, within=30.0)
        self.mark = len(self.consumer.messages)
        for device in (VICTIM, *self.others):  # without a value from before a fault, nobody could see what it cost
            await self.flows(device, within=30.0)
        self.before = self._account(await self.gateway.health())
        self.counts = _flat(await self.order("report"))
        if self.descriptors is None:
            self.descriptors = self._open_descriptors()

    async def suffered(self) -> dict[str, int]:
        """What the victim's clients met since `begin`, by its own counters: a fault that nobody met shows nothing."""
        now = _flat(await self.order("report"))
        grown = {name: count - self.counts.get(name, 0) for name, count in now.items()}
        return {name: count for name, count in grown.items() if count}

    async def meets(self, fault: str) -> None:
        """Wait until the victim's counter shows that the gateway has met a fault."""
        async with asyncio.timeout(WITHIN_S):
            while not (await self.suffered()).get(fault):
                await asyncio.sleep(0.1)  # the pace of asking

    async def finish(self) -> None:
        """Wait until what was read has arrived, and hold the others and the ledger to what is promised."""
        for device in (VICTIM, *self.others):
            await self.flows(device, within=30.0)
        health = await self.gateway.until(lambda now: now["buffer"]["oldest_age_s"] < 2)
        assert health["ledger"]["unaccounted"] == 0
        devices = health["devices"]
        assert self._account(health) == self.before
        assert {devices[name]["state"] for name in (*self.others, UNIT)} == {"ok"}
        for name in (*self.others, UNIT):
            unwell = [one for one in self.book(name).samples.values() if one.keys() & {"gap", "quality"}]
            assert unwell == [], f"{name} was disturbed"
        for name in self.others:
            assert lost(self.book(name), explained=False) == [], f"{name} was disturbed"
        await self.gateway.until(lambda _: self._open_descriptors() <= (self.descriptors or 0))

    def _account(self, health: dict[str, Any]) -> dict[str, tuple[int, int]]:
        """Skipped cycles and reconnects of the devices that have no fault."""
        devices = health["devices"]
        return {name: (devices[name]["skipped_cycles"], devices[name]["reconnects"]) for name in (*self.others, UNIT)}

    def _open_descriptors(self) -> int:
        """Descriptors of the gateway's process: files and sockets."""
        assert self.gateway.process is not None
        return sum(1 for _ in Path(f"/proc/{self.gateway.process.pid}/fd").iterdir())

    def qualities(self, device: str, tag: str) -> set[str]:
        """The qualities of a tag that were told since `begin`."""
        found = samples(self.consumer.messages[self.mark :], device)
        return {sample["quality"][tag] for sample in found if tag in sample.get("quality", {})}

    def book(self, device: str) -> Book:
        """What came of a device since `begin`."""
        book = Book(device, "")
        book.enter(samples(self.consumer.messages[self.mark :], device))
        return book


def _flat(report: dict[str, Any]) -> dict[str, int]:
    """The victim's counters by name."""
    asked = {f"asked {service}": count for service, count in report["requests"].items()}
    return {**report["suffered"], **asked, "connection": report["connections"]}


def samples(messages: Iterable[Received], device: str) -> list[dict[str, Any]]:
    """The samples of a device."""
    topic = f"factory/hall-3/{device}/data"
    documents = (json.loads(message.payload) for message in messages if message.topic == topic)
    return [sample for document in documents for sample in document["samples"]]


def lost(book: Book, *, counter: str = "counter", explained: bool = True) -> list[int]:
    """The counts that never came, live or from history; with `explained` only those that nothing tells of.

    A gap, or a bad quality of the tag, tells of those between the good values before and after it.

    The robot's counter goes up by one with each step, whether anybody listens or not.
    """
    came: set[int] = set()
    missing: set[int] = set()
    highest: int | None = None
    told = False
    for _, sample in sorted(book.samples.items()):
        quality = sample.get("quality", {})
        told = told or "gap" in sample or counter in quality or "*" in quality
        value = sample.get("values", {}).get(counter)
        if value is None:
            continue
        came.add(value)
        if highest is not None and value > highest + 1 and not (explained and told):
            missing.update(range(highest + 1, value))
        if sample.get("origin") != "history" and (highest is None or value > highest):
            highest, told = value, False
    return sorted(missing - came)


@asynccontextmanager
async def opcua_line(
    folder: Path,
    *,
    history: bool = False,
    redundant: bool = False,
    others: int = 1,
    zones: Callable[[], Mapping[str, str]] = dict,
) -> AsyncIterator[Line]:
    """Start everything; with `history` the victim keeps raw values, and the gateway is to fill holes from them.

    So many `others` are devices at the well robot. `redundant` makes that one the second server of the victim.
    `zones` gives the time zones of the robots' clocks by device, when everything but the gateway is up.
    """
    for name in ("victim", "well"):
        (folder / name).mkdir()
    async with AsyncExitStack() as stack:
        victim, well = [
            await stack.enter_async_context(
                plant(folder / name, "--pki-dir", str(folder / name / "pki"), *(["--history"] if history else []))
            )
            for name in ("victim", "well")
        ]
        broker = stack.enter_context(Broker(folder / "broker", kind="mosquitto"))
        consumer = await broker.subscribe("#")
        config = configure(folder, well.where, broker)
        secured = {"pki_dir": str(folder / "pki"), "password": {"file": str(folder / "robot-password")}}
        config["devices"] = [
            _robot(VICTIM, victim.where, secured),
            *(_robot(name, well.where, secured) for name in _others(others)),
            _unit(config["devices"]),
        ]
        if history:
            config["devices"][0]["history"] = True
        if redundant:
            config["devices"][0]["hosts"] = [well.where["opcua"]["endpoint"].removeprefix("opc.tcp://")]
        for name, zone in zones().items():
            next(device for device in config["devices"] if device["name"] == name)["timezone"] = zone
        gateway = await stack.enter_async_context(running(Gateway(folder, config)))
        line = Line(victim, well, consumer, gateway, folder / "pki" / "trusted", others=_others(others))
        line.trust()
        yield line
        assert await gateway.end() == 0, gateway.said[-3000:]
        assert gateway.unaccounted() == 0


def _others(count: int) -> tuple[str, ...]:
    return tuple(f"robot-{number}" for number in range(2, 2 + count))


def _robot(name: str, where: dict[str, Any], secured: dict[str, Any]) -> dict[str, Any]:
    robot = demo_devices(where["modbus"]["host"], where["modbus"]["port"], where["opcua"]["endpoint"], **secured)[2]
    tags = [{**tag, "queue": QUEUE} if tag["name"] == "counter" else tag for tag in robot["tags"]]
    return {**robot, "name": name, "tags": tags, "timeout": f"{TIMEOUT_S * 1000:.0f}ms"}


def _unit(devices: list[dict[str, Any]]) -> dict[str, Any]:
    unit = next(device for device in devices if device["name"] == UNIT)
    return {**unit, "interval": f"{UNIT_INTERVAL_S * 1000:.0f}ms"}
