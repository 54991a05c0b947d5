"""P6: dead units behind a link cost the live ones nothing that shows, and are found back when they come alive."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from modbus_peer import Peer, Request, device, link_to, serving, within

from gateway.drivers.modbus.link import ModbusLink

INTERVAL_S = 0.5
TIMEOUT_S = 0.2
LIVE = range(1, 6)
DEAD = range(6, 51)


class Line:
    """Polls units of a link as pollers do, and notes when each answer came, and what the dead ones did."""

    def __init__(self, link: ModbusLink) -> None:
        self.link = link
        self.answers: dict[int, list[float]] = {}
        self.polls: dict[int, list[float]] = {}
        """When the first of a poll's two answers came."""
        self.late: list[float] = []
        """By how much the machine itself was late to begin a poll."""
        self.heard = asyncio.Condition()

    async def poll(self, unit: int, phase: float) -> None:
        due = monotonic() + phase
        while True:
            await asyncio.sleep(due - monotonic())
            self.late.append(max(0.0, monotonic() - due))
            while due <= monotonic():
                due += INTERVAL_S
            self.link.expect(unit, due)
            await self.read(unit, 0)
            self.polls.setdefault(unit, []).append(monotonic())
            await self.read(unit, 100)
            self.link.rest(unit)

    async def retry(self, unit: int) -> None:
        """Ask again and again, as the supervisor has a device that failed do."""
        while True:
            with contextlib.suppress(TimeoutError):
                await self.read(unit, 0)
                return
            await asyncio.sleep(0.25)

    async def read(self, unit: int, start: int) -> None:
        await self.link.read(unit, "holding", start, 10, timeout=TIMEOUT_S)
        async with self.heard:
            self.answers.setdefault(unit, []).append(monotonic())
            self.heard.notify_all()

    async def until(self, done: Callable[[], bool]) -> None:
        async with self.heard:
            await within(self.heard.wait_for(done))


@asynccontextmanager
async def polled(alive: set[int]) -> AsyncIterator[tuple[Line, Peer]]:
    """Poll the live units, and once all of them have answered try the dead ones."""

    def script(request: Request) -> None:
        if request.unit in alive:
            request.send(request.good())

    async with serving(script) as peer:
        line = Line(link_to(peer.port))
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(line.poll(unit, unit * INTERVAL_S / len(LIVE)), name=f"unit {unit}") for unit in LIVE
            ]
            await line.until(lambda: all(len(line.answers.get(unit, ())) >= 2 for unit in LIVE))
            line.polls.clear()
            tasks += [group.create_task(line.retry(unit), name=f"unit {unit}") for unit in DEAD]
            yield line, peer
            for task in tasks:
                task.cancel()
        line.link.close()


def most(seconds: list[float]) -> float:
    """Give the 99th percentile."""
    return sorted(seconds)[int(len(seconds) * 0.99)]


def deviations(polls: list[float]) -> list[float]:
    """Give by how much the time from poll to poll was off."""
    return [abs(after - before - INTERVAL_S) for before, after in itertools.pairwise(polls)]


@pytest.mark.slow
async def test_p6_with_45_of_50_units_dead_the_live_ones_keep_their_interval() -> None:
    """Their polls are evenly spread, so that no timeout ever fits between two of them."""
    alive = set(LIVE)
    async with polled(alive) as (line, peer):
        # The hardest time is the first, in which the dead ones are found to be dead.
        await line.until(lambda: {request.unit for request in peer.requests} >= {*LIVE, *DEAD})
        asked = len(peer.requests)
        enough = max(map(len, line.polls.values())) + 10
        await line.until(lambda: all(len(line.polls[unit]) >= enough for unit in LIVE))
        off = most([each for unit in LIVE for each in deviations(line.polls[unit])])
        assert off - 2 * most(line.late) < 0.1 * INTERVAL_S
        assert any(request.unit in DEAD for request in peer.requests[asked:]), "they are asked again"
        assert peer.connections == 1


async def test_units_that_come_alive_are_found_back() -> None:
    alive = {1}
    async with serving(lambda request: request.unit in alive and request.send(request.good())) as peer:
        line = Line(link_to(peer.port))
        async with asyncio.TaskGroup() as group:
            polling = group.create_task(line.poll(1, 0.0), name="unit 1")
            await line.until(lambda: 1 in line.answers)
            for unit in (2, 3):
                group.create_task(line.retry(unit), name=f"unit {unit}")
            while {request.unit for request in peer.requests} < {1, 2, 3}:
                await peer.asked(len(peer.requests) + 1)
            alive.update({2, 3})
            await line.until(lambda: line.answers.keys() >= {1, 2, 3})
            polling.cancel()
        assert peer.connections == 1
        line.link.close()


async def test_a_probe_that_was_cut_short_and_answered_in_its_time_finds_the_unit() -> None:
    """Unit 2 is slower than any pause between two polls of unit 1, and faster than its timeout."""
    loop = asyncio.get_running_loop()

    def script(request: Request) -> None:
        loop.call_later(0.15 if request.unit == 2 else 0.0, request.send, request.good())

    async with serving(script) as peer:
        link = link_to(peer.port)
        turns = link._turns
        await within(link.read(1, "holding", 0, 1, timeout=5.0))
        turns.unit(2).missed()
        turns._pauses._before = turns._pauses._longest = 0.1
        turns._pauses._since = monotonic()
        link.expect(1, monotonic() + 0.11)
        link.rest(1)
        with pytest.raises(TimeoutError):
            await within(link.read(2, "holding", 0, 1, timeout=5.0))
        assert (await within(link.read(2, "holding", 0, 1, timeout=5.0))).took < 1.0
        assert turns.unit(2).live
        link.close()


@pytest.mark.parametrize("code", [0x0A, 0x0B])
async def test_p6_what_a_gateway_says_of_a_unit_marks_the_unit_and_keeps_the_connection(code: int) -> None:
    def script(request: Request) -> None:
        request.send(request.refused(code) if request.unit == 2 else request.good())

    async with serving(script) as peer:
        link = link_to(peer.port)
        await within(link.read(1, "holding", 0, 1, timeout=5.0))
        for _ in range(3):
            assert (await within(link.read(2, "holding", 0, 1, timeout=0.05))).refusal == code
        assert not link._turns.unit(2).live
        assert link._turns.unit(1).live
        assert peer.connections == 1
        link.close()


async def test_a_probe_that_waits_for_its_turn_can_be_cancelled_and_holds_up_nobody() -> None:
    async with serving(lambda request: request.unit == 1 and request.send(request.good())) as peer:
        link = link_to(peer.port)
        with pytest.raises(TimeoutError):
            await within(link.read(2, "holding", 0, 1, timeout=0.05))
        await within(link.read(1, "holding", 0, 1, timeout=5.0))
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(link.read(2, "holding", 0, 1, timeout=60.0), name="probe")
            for _ in range(5):
                link.expect(1, monotonic() + 1.0)
                await within(link.read(1, "holding", 0, 1, timeout=5.0))
                link.rest(1)
            waiting.cancel()
        assert waiting.cancelled()
        assert [request.unit for request in peer.requests] == [2] + [1] * 6
        link.close()


async def test_a_link_tells_what_its_units_need_of_its_time_and_forgets_those_that_left() -> None:
    async with serving() as peer:
        link = link_to(peer.port)
        section = device(peer.port, [], unit_id=2)
        link.join(section)
        link.cycle(1, 0.9, 1.0)
        link.cycle(2, 0.5, 1.0)
        assert link.load == pytest.approx(1.4)
        link.leave(section)
        assert link.load == pytest.approx(0.9)
