"""Scripted PLCs on one side, a real buffer on the other, and the pollers between them: what the poller tests use."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.buffer import Buffer, Limits, open_buffer
from gateway.drivers.base import Shared
from gateway.errors import DeviceError
from gateway.model import Batch, DeviceState, Gap, Meta, Sample
from gateway.poller import Changed, Poller
from gateway.supervisor import Backoff, supervise
from tests.scripted import PATIENCE_S, Plc, ScriptedSection, meta_of, scripted, scripted_tag

AT_ONCE = Backoff(0.0, 0.0)
QUICK_S = 0.01
NEVER_S = 3600.0
MIB = 1 << 20


class Line:
    """Devices, their pollers, and the buffer that these fill."""

    def __init__(self, buffer: Buffer, pollers: dict[str, Poller]) -> None:
        self.buffer = buffer
        self.pollers = pollers
        self._rows: list[tuple[str, Sample | Gap]] = []
        self._last = 0

    async def stored(self, device: str = "press-1") -> list[Sample | Gap]:
        """Give all that is on disk of a device, once all that was appended is there."""
        await asyncio.wait_for(self.buffer.flush(), PATIENCE_S)
        while rows := await self.buffer.take(self._last):
            self._last = rows[-1].id
            self._rows += [(row.meta.device, sample) for row in rows for sample in row.samples]
        return [sample for name, sample in self._rows if name == device]

    async def samples(self, device: str = "press-1") -> list[Sample]:
        """Give the samples among them."""
        return [found for found in await self.stored(device) if isinstance(found, Sample)]

    async def gaps(self, device: str = "press-1") -> list[Gap]:
        """Give the gap records among them."""
        return [found for found in await self.stored(device) if isinstance(found, Gap)]

    def becomes(self, state: DeviceState, device: str = "press-1") -> "asyncio.Future[None]":
        """Give a future that is done once the device has that state."""
        component = self.pollers[device].component
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look() -> None:
            if component.state is state and not reached.done():
                reached.set_result(None)

        component.listeners.append(look)
        look()
        return reached


@asynccontextmanager
async def line(
    folder: Path,
    *sections: ScriptedSection,
    clock: Callable[[], bool | None] = lambda: None,
    max_bytes: int = 8 * MIB,
    commit_interval: float = QUICK_S,
    phases: Mapping[str, float] = MappingProxyType({}),
    changed: Changed | None = None,
) -> AsyncIterator[Line]:
    """Poll the devices into a new buffer beside the test; at the end, the ledger must be whole."""
    async with open_buffer(folder / "buffer.db", Limits(max_bytes), commit_interval) as buffer:
        shared = Shared("hall-3", bookmarks=buffer.bookmarks)
        pollers = {
            section.name: Poller(
                section,
                meta_of(section),
                shared,
                buffer,
                clock=clock,
                phase=phases.get(section.name, 0.0),
                changed=changed,
            )
            for section in sections
        }
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(buffer.run(), name="buffer")]
            for name, poller in pollers.items():
                running = supervise(poller.component, poller.attempt, broken=DeviceState.UNREACHABLE, backoff=AT_ONCE)
                tasks.append(group.create_task(running, name=name))
            made = Line(buffer, pollers)
            yield made
            await asyncio.wait_for(buffer.flush(), PATIENCE_S)
            assert {name: ledger.unaccounted for name, ledger in buffer.ledgers.items()} == dict.fromkeys(
                buffer.ledgers, 0
            )
            for task in tasks:
                task.cancel()


def device(
    plc: Plc | None = None, name: str = "press-1", deadband: float | None = None, **keys: Any
) -> ScriptedSection:
    """Make a device with two tags that is polled as fast as may be."""
    keys.setdefault("tags", [scripted_tag("level", deadband=deadband), scripted_tag("flow", deadband=deadband)])
    keys.setdefault("interval", QUICK_S)
    section = scripted(name, **keys)
    if plc is not None:
        section._plc = plc
    return section


def lost(reason: str = "timeout") -> DeviceError:
    """Make the error of a device that cannot be read as a whole."""
    return DeviceError("192.0.2.1:4711 does not answer.", reason=reason)


def all_bad(reason: str) -> dict[str, str]:
    """Give the quality that says it of all tags."""
    return {"*": f"bad:{reason}"}


async def flood(buffer: Buffer) -> None:
    """Push everything older out of a buffer of one MiB."""
    meta = Meta("flood", "flood", "plant/flood", ("noise",), ("*",))
    noise = random.Random(7)
    for number in range(200):
        sample = Sample.good(number, (0,), (noise.randbytes(4000).hex(),))
        buffer.append(Batch(meta, (sample,), 1))
    await asyncio.wait_for(buffer.flush(), PATIENCE_S)
    await asyncio.wait_for(buffer.flush(), PATIENCE_S)
