"""The sliding window: places, precedence, reserve."""

import asyncio

import pytest

from gateway.publisher.holds import Holds
from gateway.publisher.window import Priority, Window


async def _acquire(group: asyncio.TaskGroup, window: Window, order: list[Priority], priority: Priority) -> None:
    async def take() -> None:
        await window.acquire(priority)
        order.append(priority)

    group.create_task(take())
    await asyncio.sleep(0)


async def test_a_freed_place_goes_to_control_then_live_then_backlog() -> None:
    window, order = Window(2), list[Priority]()
    await window.acquire(Priority.LIVE)
    await window.acquire(Priority.LIVE)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for priority in (Priority.BACKLOG, Priority.LIVE, Priority.CONTROL):
            await _acquire(group, window, order, priority)
        for _ in range(4):
            await asyncio.sleep(0)
            window.release()
    assert order == [Priority.CONTROL, Priority.LIVE, Priority.BACKLOG]


@pytest.mark.parametrize(("size", "share"), [(1, 1), (2, 1), (20, 18), (100, 90)])
async def test_the_backlog_leaves_a_tenth_to_the_others(size: int, share: int) -> None:
    """P8."""
    window = Window(size)
    for _ in range(share):
        await window.acquire(Priority.BACKLOG)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await window.acquire(Priority.BACKLOG)
    for _ in range(size - share):
        await window.acquire(Priority.LIVE)


async def test_a_place_that_was_granted_to_someone_who_is_gone_is_not_lost() -> None:
    used = list[int]()
    window = Window(1, used.append)
    await window.acquire(Priority.LIVE)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(window.acquire(Priority.LIVE))
        await asyncio.sleep(0)
        window.release()
        waiting.cancel()
    assert used[-1] == 0
    async with asyncio.timeout(30):
        await window.until_empty()


async def test_a_window_is_tight_when_half_of_it_is_taken() -> None:
    window = Window(4)
    await window.acquire(Priority.LIVE)
    assert not window.is_tight
    await window.acquire(Priority.LIVE)
    assert window.is_tight
    window.release()
    assert not window.is_tight


async def test_a_refused_topic_waits_twice_as_long_each_time_and_is_forgotten_when_accepted() -> None:
    retried = asyncio.Event()
    holds = Holds(retried.set, first=0.01, longest=0.03)
    for _ in range(3):
        holds.hold("t")
        holds.hold("t")
        assert holds.topics == {"t"}
        async with asyncio.timeout(30):
            await retried.wait()
        retried.clear()
        assert holds.topics == set()
    assert holds.delay("t") == pytest.approx(0.03)
    holds.accept("t")
    assert holds.delay("t") == pytest.approx(0.01)
    holds.close()
