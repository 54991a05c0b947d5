"""Connect, fault, reconnect, many times over: OPC UA devices under the real supervisor and poller, and what they leave.

The server is a process of its own: every task and every descriptor of this one is the gateway's or the test's.
`python -m tests.faults.opcua_cycles` is the long run, `make opcua-fault-test`.
"""

import argparse
import asyncio
import gc
import logging
import os
import random
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from pydantic import TypeAdapter

from gateway.buffer import Buffer
from gateway.drivers import Device
from gateway.drivers.base import DeviceSection, Shared
from gateway.model import Batch, DeviceState, Meta
from gateway.poller import Poller
from gateway.supervisor import Backoff, supervise
from simulators.tags import robot_tags
from tests.end_to_end.rig import Plant, plant

RECOVERY_S = 60.0
"""More than any fault here takes to be found out; a device that is not back by then is dead."""
SETTLE_S = 5.0
GROWN_MIB = 4.0
"""More than the allocator's own ups and downs over a hundred cycles; a connection that is kept whole is 1 MiB."""
TIMEOUT = "300ms"
QUICK = Backoff(0.01, 0.1)
Order = tuple[str, dict[str, Any]]


def order(do: str, **arguments: Any) -> Order:
    """What the simulator is told."""
    return do, arguments


CONNECTING = ("CreateSession", "ActivateSession", "Read", "CreateSubscription", "CreateMonitoredItems")
FAULTS: dict[str, tuple[Order, ...]] = {
    "cut": (order("cut"),),
    "kill": (order("restart"),),
    "shutdown": (order("restart", graceful=True),),
    "away": (order("restart", down_s=0.3),),
    "freeze": (order("freeze"), order("resume")),
    "freeze and cut": (order("freeze"), order("cut"), order("resume")),
    "drop": (order("drop_sessions"),),
    "forget": (order("forget_subscriptions", silently=False),),
    "forget silently": (order("forget_subscriptions"),),
    "stop publishing": (order("stop_publishing"), order("resume_publishing")),
    "limits": (order("limit", nodes_per_read=3, items_per_call=3, announced=False), order("cut"), order("limit")),
    "node": (order("remove", node="Robot.Name"), order("restore", node="Robot.Name")),
    **{
        f"refuse {service}": (order("refuse_services", services=[service]), order("cut"), order("clear"))
        for service in CONNECTING
    },
    "mute Read": (order("mute_services", services=["Read"]), order("clear")),
}
"""What happens in a cycle, one order after the other, a moment between them."""


@dataclass
class Outcome:
    """What a run came to: counts of tasks and descriptors, connected at first and at last, and when all had ended.

    `rss_mib` is the memory (MiB) that the process held after each cycle.
    """

    seed: int
    cycles: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    dead: list[str] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    idle: tuple[int, int] = (0, 0)
    first: tuple[int, int] = (0, 0)
    last: tuple[int, int] = (0, 0)
    ended: tuple[int, int] = (0, 0)
    rss_mib: list[float] = field(default_factory=list)
    slowest_s: float = 0.0
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether each device came back each time and nothing was left."""
        nothing_left = _within(self.last, self.first) and _within(self.ended, self.idle) and self.grown_mib <= GROWN_MIB
        return nothing_left and not (self.dead or self.bugs or self.report["changes"])

    @property
    def grown_mib(self) -> float:
        """By how much memory grew over the second half: the first one loads code and fills caches."""
        later = self.rss_mib[len(self.rss_mib) // 2 :]
        return later[-1] - later[0] if later else 0.0

    def __str__(self) -> str:
        """All figures on one line."""
        return (
            f"{'clean' if self.is_clean else 'BROKEN'}: seed {self.seed}, {self.cycles} cycles, {len(self.dead)} dead, "
            f"{len(self.bugs)} bugs, (tasks, descriptors) idle {self.idle}, connected {self.first} and at last "
            f"{self.last}, ended {self.ended}, {self.rss_mib[-1] if self.rss_mib else 0:.0f} MiB, grown by "
            f"{self.grown_mib:.1f} in the second half, slowest recovery {self.slowest_s:.1f} s, "
            f"{self.report['connections']} connections, {self.report['changes']} requests that change a PLC"
        )


class Follower:
    """A device under the supervisor; stands where the buffer stands, and counts the good counter values."""

    def __init__(self, section: DeviceSection, outcome: Outcome) -> None:
        self.section = section
        self.good = 0
        self.state = ""
        self._news = asyncio.Event()
        self._outcome = outcome
        self._running: asyncio.Task[None] | None = None

    def drops(self, device: str) -> int:
        """Nothing is dropped here."""
        return 0

    def append(self, batch: Batch) -> "asyncio.Future[bool]":
        """Take a batch; column 0 is the counter."""
        self.good += sum(0 in sample.columns for sample in batch.samples)
        self._news.set()
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        stored.set_result(True)
        return stored

    async def flows(self) -> bool:
        """Whether counter values come, from now on."""
        wanted = self.good + 3
        try:
            async with asyncio.timeout(RECOVERY_S):
                while self.good < wanted:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin, as at a start or a reload."""
        names = tuple(tag.name for tag in self.section.tags)
        meta = Meta("meta", self.section.name, "plant", names, tuple(tag.code for tag in self.section.tags))
        poller = Poller(self.section, meta, Shared("hall-3"), cast("Buffer", self))
        poller.component.listeners.append(lambda: self._look(poller.component.state, poller.component.error))
        running = supervise(poller.component, poller.attempt, broken=DeviceState.UNREACHABLE, backoff=QUICK)
        self._running = group.create_task(running, name=self.section.name)

    async def stop(self) -> None:
        """End, wherever it is."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    def _look(self, state: object, error: str | None) -> None:
        self.state = f"{state}: {error}"
        if error is not None and error.startswith("unexpected"):
            self._outcome.bugs.append(f"{self.section.name}: {error}")


async def run(folder: Path, *, seed: int, cycles: int) -> Outcome:
    """Go through so many cycles of faults in the order that the seed gives."""
    dice = random.Random(seed)
    outcome = Outcome(seed)
    async with plant(folder, "--step", "0.05") as there:
        followers = [Follower(section, outcome) for section in _sections(folder, there)]
        outcome.idle = _counts()
        async with asyncio.TaskGroup() as group:
            for follower in followers:
                follower.start(group)
            await _all_flow(followers, outcome, "start")
            outcome.first = _counts()
            for _ in range(cycles):
                if outcome.dead:
                    break
                await _cycle(there, followers, group, dice, outcome)
                outcome.rss_mib.append(_resident_mib())
            outcome.last = await _settled(outcome.first)
            for follower in followers:
                await follower.stop()
        outcome.ended = await _settled(outcome.idle)
        outcome.report = await there.order("robot-1", "report")
    return outcome


async def _cycle(
    there: Plant, followers: list[Follower], group: asyncio.TaskGroup, dice: random.Random, outcome: Outcome
) -> None:
    outcome.cycles += 1
    fault = dice.choice([*FAULTS, "reload"])
    outcome.faults[fault] += 1
    for do, arguments in FAULTS.get(fault, (order("cut"),)):
        await there.order("robot-1", do, **arguments)
        await asyncio.sleep(dice.uniform(0.0, 0.15))  # the moment of the next order
    if fault == "reload":  # ended while it connects again, or just has
        for follower in followers:
            await follower.stop()
            follower.start(group)
    await _all_flow(followers, outcome, fault)


async def _all_flow(followers: list[Follower], outcome: Outcome, fault: str) -> None:
    began = time.monotonic()
    flowing = await asyncio.gather(*(follower.flows() for follower in followers))
    outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - began)
    for follower, flows in zip(followers, flowing, strict=True):
        if not flows:
            name = follower.section.name
            outcome.dead.append(f"{name} after cycle {outcome.cycles}, {fault}; it is {follower.state}")


def _sections(folder: Path, there: Plant) -> list[DeviceSection]:
    """One encrypted with a subscription, and one plain that polls."""
    trusted = folder / "pki" / "trusted"
    trusted.mkdir(parents=True)
    shutil.copy(there.where["opcua"]["certificate"], trusted)
    common = {"protocol": "opcua", "endpoint": there.where["opcua"]["endpoint"], "timeout": TIMEOUT}
    secured = {"policy": "Basic256Sha256", "mode": "SignAndEncrypt", "pki_dir": str(folder / "pki")}
    plain = {"policy": "None", "insecure": True}
    sections: list[Any] = [
        {**common, "name": "subscriber", "interval": "100ms", "security": secured, "tags": robot_tags()},
        {**common, "name": "poller", "interval": "100ms", "mode": "poll", "security": plain, "tags": robot_tags()},
    ]
    return [TypeAdapter(Device).validate_python(section) for section in sections]


def _counts() -> tuple[int, int]:
    """Tasks that run, and descriptors that are open."""
    gc.collect()
    return len(asyncio.all_tasks()), sum(1 for _ in Path("/proc/self/fd").iterdir())


def _resident_mib() -> float:
    """The memory that this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _within(counts: tuple[int, int], old: tuple[int, int]) -> bool:
    return counts[0] <= old[0] and counts[1] <= old[1]


async def _settled(old: tuple[int, int]) -> tuple[int, int]:
    """The counts once they are back at the old ones, or after some seconds: a request may be under way."""
    end = time.monotonic() + SETTLE_S
    while not _within(counts := _counts(), old) and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return counts


def main() -> int:
    """Run, print a line; 1 if something was left, or did not come back."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.opcua_cycles", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="default: one that is printed")
    parser.add_argument("--cycles", type=int, default=200)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with TemporaryDirectory() as folder:
        outcome = asyncio.run(run(Path(folder), seed=options.seed, cycles=options.cycles))
    print(outcome)
    for sentence in (*outcome.dead, *outcome.bugs):
        print(f"  {sentence}")
    return 0 if outcome.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
