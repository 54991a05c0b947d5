"""Pace and quota: how many messages go a second, whose they are, and how the rate returns after a complaint."""

import asyncio
from itertools import pairwise

import pytest

from gateway.publisher.pace import Allowance, Pace
from gateway.publisher.quota import Quota
from gateway.publisher.window import Priority


def sent_within(allowance: Allowance, seconds: float, step: float) -> int:
    """Count what goes while somebody asks every `step` seconds."""
    count = 0
    for at in range(round(seconds / step)):
        while allowance.wait(now := 1000 + at * step) <= 0:
            allowance.take(1, now, 1)
            count += 1
    return count


@pytest.mark.parametrize("rate", [0.5, 1, 10, 100, 1000])
@pytest.mark.parametrize("step", [0.001, 0.01])
def test_no_more_go_than_are_allowed_and_not_many_fewer(rate: float, step: float) -> None:
    count = sent_within(Allowance(rate), 20, step)
    assert 20 * rate * 0.95 - 1 <= count <= 20 * rate + max(1, 0.05 * rate)


def test_what_was_not_used_for_long_is_not_made_up_for() -> None:
    allowance = Allowance(100)
    allowance.take(1, 0, 1)
    burst = 0
    while allowance.wait(3600) <= 0:
        allowance.take(1, 3600, 1)
        burst += 1
    assert burst <= 5


def test_a_large_message_goes_and_the_next_waits_the_longer() -> None:
    allowance = Allowance(1000)
    allowance.take(5000, 10, 5000)
    assert allowance.wait(10) == pytest.approx(5)


async def order_of(pace: Pace, *asked: Priority) -> list[Priority]:
    """Ask all at once; gives in which order they may go."""
    order: list[Priority] = []

    async def ask(priority: Priority) -> None:
        await pace.admit(priority, 1)
        order.append(priority)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for priority in asked:
            group.create_task(ask(priority))
    return order


async def test_announcements_go_first_and_live_data_before_the_backlog() -> None:
    pace = Pace(10, None)
    await pace.admit(Priority.BACKLOG, 1)
    backlog, live, control = [Priority.BACKLOG] * 3, [Priority.LIVE] * 3, [Priority.CONTROL] * 2
    order = await order_of(pace, *backlog, *live, *control)
    assert order == [*control, *live, *backlog]


async def test_the_backlog_has_a_share_however_much_is_live() -> None:
    pace = Pace(100, None)
    order = await order_of(pace, *[Priority.LIVE] * 120, *[Priority.BACKLOG] * 5)
    places = [at for at, priority in enumerate(order) if priority is Priority.BACKLOG]
    assert len(places) == 5
    assert places[-1] < 124, "before the last of the live ones"
    assert max(later - earlier for earlier, later in pairwise(places)) <= 10


async def test_one_that_is_cancelled_while_it_waits_costs_the_others_nothing() -> None:
    pace = Pace(20, None)
    await pace.admit(Priority.LIVE, 1)
    await pace.admit(Priority.LIVE, 1)
    waiting = asyncio.create_task(pace.admit(Priority.LIVE, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(30):
        await pace.admit(Priority.LIVE, 1)
    assert loop.time() - began < 5


def busy(quota: Quota, rate: float, since: float, until: float) -> None:
    """Send at a rate."""
    for number in range(round((until - since) * rate)):
        quota.sent(since + number / rate)


def test_a_complaint_halves_the_rate_in_use_and_it_comes_back_slowly() -> None:
    quota = Quota()
    assert quota.now_allowed(0) is None
    busy(quota, 40, 0, 10)
    quota.exceeded(10)
    assert quota.now_allowed(10) == pytest.approx(20, rel=0.05)
    assert quota.now_allowed(40) == pytest.approx(30, rel=0.05)
    assert quota.now_allowed(70) == pytest.approx(40, rel=0.05)
    assert quota.now_allowed(611) is None


def test_complaints_of_one_instant_are_one() -> None:
    quota = Quota()
    busy(quota, 40, 0, 10)
    for _ in range(20):
        quota.exceeded(10)
    assert quota.now_allowed(10) == pytest.approx(20, rel=0.05)


def test_each_further_complaint_lowers_it_again_and_for_longer() -> None:
    quota = Quota()
    busy(quota, 40, 0, 10)
    quota.exceeded(10)
    busy(quota, 20, 10, 20)
    quota.exceeded(20)
    assert quota.now_allowed(20) == pytest.approx(10, rel=0.1)
    assert quota.now_allowed(140) == pytest.approx(20, rel=0.1)


def test_it_never_falls_to_nothing() -> None:
    quota = Quota()
    for at in range(50):
        quota.exceeded(2.0 * at)
    assert quota.now_allowed(100) == pytest.approx(0.5, rel=0.1)
