"""Real drivers under the real supervisor and poller, on a line where things go wrong, and what came of it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import TypeAdapter

from gateway.buffer import Buffer
from gateway.drivers import Device
from gateway.drivers.base import DeviceSection, Shared
from gateway.model import Batch, DeviceState, Meta
from gateway.poller import Poller
from gateway.supervisor import Backoff, supervise
from simulators import ModbusRtuOverTcpSimulator, ModbusSimulator
from simulators.modbus_framing import MBAP, RTU
from tests.faults.counter_plc import Audit, CounterUnit, tags_of
from tests.faults.proxy import FAULTS, Fault, FaultProxy, Front, SerialFront, TcpFront, UdpFront

UNITS = (1, 2)
"""How many units a link has in the runs: one alone is asked again at once, of two the other one comes first."""
QUICK = Backoff(0.01, 0.02)
RECOVERY_S = 30.0
READS_ONLY = frozenset({"1", "2", "3", "4"})


@dataclass(frozen=True)
class Way:
    """A transport of the gateway, and how the proxy takes part in it."""

    protocol: str
    is_serial: bool
    front: Callable[[FaultProxy], Front]


WAYS = {
    "tcp": Way("modbus-tcp", False, TcpFront),
    "udp": Way("modbus-udp", False, UdpFront),
    "rtu-over-tcp": Way("modbus-rtu-over-tcp", True, TcpFront),
    "rtu": Way("modbus-rtu", True, SerialFront),
}


class Auditor:
    """Stands where the buffer stands, and checks what the pollers would store."""

    def __init__(self, audits: dict[str, Audit], enough: Callable[[], bool]) -> None:
        self.audits = audits
        self.done = asyncio.Event()
        self._enough = enough

    def drops(self, device: str) -> int:
        """Nothing is dropped here."""
        return 0

    def append(self, batch: Batch) -> "asyncio.Future[bool]":
        """Check a batch."""
        self.audits[batch.meta.device].take(batch.samples)
        if self._enough():
            self.done.set()
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        stored.set_result(True)
        return stored


@dataclass
class Outcome:
    """What a run came to."""

    way: str
    seed: int
    audits: dict[str, Audit]
    faults: Counter[str]
    codes: Counter[str]
    nonsense: list[bytes]
    dead: list[str] = field(default_factory=list)
    bugs: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    recovery_s: float = 0.0

    @property
    def readings(self) -> int:
        """Readings that the pollers stored, good or bad."""
        return sum(audit.readings for audit in self.audits.values())

    @property
    def checked(self) -> int:
        """Good values, each held against the PLC."""
        return sum(audit.checked for audit in self.audits.values())

    @property
    def wrong(self) -> list[str]:
        """The groups of values that are not the PLC's."""
        return [each for audit in self.audits.values() for each in audit.wrong]

    @property
    def qualities(self) -> Counter[str]:
        """Readings without a value, by reason."""
        return sum((audit.qualities for audit in self.audits.values()), Counter())

    @property
    def is_clean(self) -> bool:
        """Whether all promises were kept."""
        return not (self.wrong or self.dead or self.bugs or self.nonsense or self.codes.keys() - READS_ONLY)

    def __str__(self) -> str:
        """All figures on one line."""
        return (
            f"{self.way}: seed {self.seed}, {self.readings} readings, {self.checked} values checked, "
            f"{len(self.wrong)} wrong, {sum(self.faults.values())} faults, {len(self.dead)} dead tasks, "
            f"{len(self.bugs)} bugs, function codes {_told(self.codes)}, bad {_told(self.qualities)}, "
            f"{self.seconds:.1f} s, well again after {self.recovery_s:.1f} s"
        )


def _told(counts: Counter[str]) -> str:
    return "{" + ", ".join(f"{key}: {count}" for key, count in sorted(counts.items())) + "}"


async def run(
    way: str,
    *,
    seed: int,
    readings: int,
    within_s: float,
    units: int = 2,
    timeout_s: float = 0.06,
    interval_s: float = 0.05,
    share: float = 0.2,
    kinds: Sequence[Fault] = FAULTS,
) -> Outcome:
    """Poll the units of one link through the proxy until there are so many readings, or the time is over."""
    plan = WAYS[way]
    plcs = [CounterUnit(number + 1) for number in range(units)]
    simulator = (ModbusRtuOverTcpSimulator if plan.is_serial else ModbusSimulator)(plcs)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(simulator)
        proxy = FaultProxy(
            (simulator.host, simulator.port), RTU if plan.is_serial else MBAP,
            seed=seed, timeout_s=timeout_s, share=share, kinds=kinds, front=plan.front,
        )  # fmt: skip
        await stack.enter_async_context(proxy)
        sections = [_section(plan.protocol, unit, proxy.where, timeout_s, interval_s) for unit in plcs]
        audits = {section.name: Audit(unit, section.tags) for section, unit in zip(sections, plcs, strict=True)}
        outcome = Outcome(
            f"{way}, {units} unit{'s' * (units > 1)}", seed, audits, proxy.faults, proxy.codes, proxy.nonsense
        )
        auditor = Auditor(audits, lambda: outcome.readings >= readings)
        began = time.monotonic()
        async with _polling(sections, auditor, outcome):
            with suppress(TimeoutError):
                await asyncio.wait_for(auditor.done.wait(), within_s)
            outcome.seconds = time.monotonic() - began
            proxy.share = 0.0
            for audit in audits.values():
                audit.ends_counting()
            outcome.dead = [name for name, audit in audits.items() if not await _recovers(audit)]
            outcome.recovery_s = time.monotonic() - began - outcome.seconds
    return outcome


async def _recovers(audit: Audit) -> bool:
    """Whether a device is read wholly again, once nothing goes wrong any more."""
    with suppress(TimeoutError):
        async with asyncio.timeout(RECOVERY_S):
            while not audit.is_whole:
                await asyncio.sleep(0.05)
    return audit.is_whole


def _section(
    protocol: str, unit: CounterUnit, where: dict[str, Any], timeout_s: float, interval_s: float
) -> DeviceSection:
    keys = {"name": unit.name, "protocol": protocol, "unit_id": unit.unit_id, **where, "tags": tags_of()}
    pace = {"timeout": f"{timeout_s * 1000:.0f}ms", "interval": f"{interval_s * 1000:.0f}ms"}
    section: DeviceSection = TypeAdapter(Device).validate_python({**keys, **pace})
    return section


@asynccontextmanager
async def _polling(sections: Sequence[DeviceSection], auditor: Auditor, outcome: Outcome) -> AsyncIterator[None]:
    shared = Shared("hall-3")
    pollers = {section.name: Poller(section, _meta(section), shared, cast("Buffer", auditor)) for section in sections}
    async with asyncio.TaskGroup() as group:
        tasks = []
        for name, poller in pollers.items():
            component = poller.component

            def look(component: Any = component) -> None:
                if component.error is not None and component.error.startswith("unexpected"):
                    outcome.bugs.append(f"{component.name}: {component.error}")

            component.listeners.append(look)
            running = supervise(component, poller.attempt, broken=DeviceState.UNREACHABLE, backoff=QUICK)
            tasks.append(group.create_task(running, name=name))
        yield
        outcome.states = {name: str(poller.component.state) for name, poller in pollers.items()}
        for task in tasks:
            task.cancel()


def _meta(section: DeviceSection) -> Meta:
    names = tuple(tag.name for tag in section.tags)
    codes = tuple(tag.code for tag in section.tags)
    return Meta(f"meta-{section.name}", section.name, f"plant/{section.name}", names, codes)
