"""The one retry loop: how long it waits, what it says, and that nothing but being stopped ends it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import supervisor
from gateway.errors import DeviceError, PublishError
from gateway.model import DeviceState, MqttState
from gateway.supervisor import Backoff, Component, supervise
from tests.scripted import PATIENCE_S

AT_ONCE = Backoff(0.0, 0.0)
WELL = frozenset({DeviceState.OK, DeviceState.DEGRADED})

Attempt = Callable[[], Coroutine[Any, Any, None]]


def component() -> Component[DeviceState]:
    """Make a component that is a device."""
    return Component("press-1", DeviceState.CONNECTING, well=WELL)


def unreachable(text: str = "192.0.2.10:502 does not answer.") -> DeviceError:
    """Make the error of a device that is off."""
    return DeviceError(text, reason="timeout", do="Check its power.")


class Script:
    """Attempts that end one after the other as a test has written; then one that lasts."""

    def __init__(self, *steps: "Exception | Callable[[], None]") -> None:
        self.steps = list(steps)
        self.played = asyncio.Event()

    async def attempt(self) -> None:
        """Play the next step."""
        if not self.steps:
            self.played.set()
            await asyncio.Event().wait()
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        step()


@asynccontextmanager
async def supervised(part: Component[DeviceState], attempt: Attempt, backoff: Backoff = AT_ONCE) -> AsyncIterator[None]:
    """Run the supervisor beside the test."""
    async with asyncio.TaskGroup() as group:
        running = supervise(part, attempt, broken=DeviceState.UNREACHABLE, backoff=backoff)
        task = group.create_task(running, name=part.name)
        yield
        assert not task.done()
        task.cancel()


async def play(part: Component[DeviceState], *steps: "Exception | Callable[[], None]") -> None:
    """Supervise until the script is at its end."""
    script = Script(*steps)
    async with supervised(part, script.attempt):
        await asyncio.wait_for(script.played.wait(), PATIENCE_S)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Give what was logged."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


@given(st.integers(min_value=1, max_value=10**6))
def test_a_delay_lies_between_half_and_all_of_what_doubles_up_to_the_cap(failures: int) -> None:
    longest = min(5.0, 0.25 * 2 ** (failures - 1)) if failures < 10 else 5.0
    assert longest / 2 <= Backoff().delay(failures) <= longest


def test_delays_differ_so_that_a_hundred_gateways_do_not_return_in_one_instant() -> None:
    delays = {Backoff().delay(6) for _ in range(100)}
    assert len(delays) > 90
    assert max(delays) - min(delays) > 1.0


@dataclass(frozen=True)
class Recorded(Backoff):
    """A back-off that does not wait, and notes after how many failures in a row it was asked."""

    asked: list[int] = field(default_factory=list)

    def delay(self, failures: int) -> float:
        """Note it."""
        self.asked.append(failures)
        return 0.0


async def test_failures_in_a_row_wait_longer_and_longer() -> None:
    backoff = Recorded()
    script = Script(*[unreachable()] * 4)
    async with supervised(component(), script.attempt, backoff):
        await asyncio.wait_for(script.played.wait(), PATIENCE_S)
    assert backoff.asked == [1, 2, 3, 4]


async def test_what_ends_an_attempt_that_was_stable_is_the_first_failure_again() -> None:
    backoff, loop, shift = Recorded(), asyncio.get_running_loop(), [0.0]
    real_time = loop.time
    loop.time = lambda: real_time() + shift[0]  # type: ignore[method-assign] -- the loop's clock is not our code

    def lasts() -> None:
        shift[0] += supervisor.STABLE_S + 1
        raise unreachable()

    script = Script(unreachable(), unreachable(), lasts, unreachable(), unreachable())
    async with supervised(component(), script.attempt, backoff):
        await asyncio.wait_for(script.played.wait(), PATIENCE_S)
    assert backoff.asked == [1, 2, 1, 2, 3]


@dataclass(frozen=True)
class Longest(Backoff):
    """A back-off that does not wait, and notes the longest that it would have."""

    pauses: list[float] = field(default_factory=list)

    def delay(self, failures: int) -> float:
        """Note it."""
        self.pauses.append(min(self.cap, self.first * 2 ** (failures - 1)))
        return 0.0


async def test_a_refused_login_is_tried_again_slowly_and_other_trouble_as_before() -> None:
    backoff = Longest()
    refused = DeviceError("it refuses the login", reason="x", state=DeviceState.AUTH_ERROR, retry_after_s=30.0)
    script = Script(unreachable(), unreachable(), *[refused] * 6, unreachable(), refused)
    async with supervised(component(), script.attempt, backoff):
        await asyncio.wait_for(script.played.wait(), PATIENCE_S)
    assert backoff.pauses == [0.25, 0.5, 30, 60, 120, 240, 300, 300, 5, 30]


async def test_an_outage_is_one_line_when_it_begins_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    part = component()
    caplog.set_level(logging.INFO)
    errors = [unreachable(), unreachable(), unreachable("192.0.2.10:502 refuses."), unreachable(), unreachable()]
    await play(part, *errors, lambda: part.become(DeviceState.OK))
    assert lines(caplog) == [
        ("WARNING", "press-1: 192.0.2.10:502 does not answer. Check its power."),
        ("INFO", "press-1: back after 0 s and 5 failed attempts"),
    ]


async def test_every_outage_is_told(caplog: pytest.LogCaptureFixture) -> None:
    part = component()
    caplog.set_level(logging.INFO)

    def comes_and_goes() -> None:
        part.become(DeviceState.OK)
        raise unreachable()

    await play(part, unreachable(), comes_and_goes, unreachable(), lambda: part.become(DeviceState.OK))
    assert lines(caplog) == [
        ("WARNING", "press-1: 192.0.2.10:502 does not answer. Check its power."),
        ("INFO", "press-1: back after 0 s and 1 failed attempt"),
        ("WARNING", "press-1: 192.0.2.10:502 does not answer. Check its power."),
        ("INFO", "press-1: back after 0 s and 2 failed attempts"),
    ]


async def test_a_first_start_that_succeeds_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    part = component()
    caplog.set_level(logging.INFO)
    await play(part, lambda: part.become(DeviceState.OK))
    assert lines(caplog) == []


async def test_the_state_is_that_of_the_error_with_its_sentence_and_what_to_do() -> None:
    part = component()
    refused = DeviceError("the PLC refuses us", reason="x", state=DeviceState.AUTH_ERROR, do="Check the password.")
    await play(part, refused)
    assert (part.state, part.error, part.do) == (DeviceState.AUTH_ERROR, "the PLC refuses us", "Check the password.")
    assert not part.is_well


async def test_a_broker_that_fails_is_retried_like_a_device() -> None:
    part: Component[MqttState] = Component("mqtt", MqttState.CONNECTING, well=frozenset({MqttState.CONNECTED}))
    script = Script(PublishError("the certificate is not valid", state=MqttState.CERTIFICATE_ERROR))
    async with asyncio.TaskGroup() as group:
        running = supervise(part, script.attempt, broken=MqttState.UNREACHABLE, backoff=AT_ONCE)
        task = group.create_task(running, name="mqtt")
        await asyncio.wait_for(script.played.wait(), PATIENCE_S)
        task.cancel()
    assert part.state is MqttState.CERTIFICATE_ERROR


async def test_p6_a_bug_costs_its_component_only_and_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    broken, sound = component(), component()
    alive = asyncio.Event()
    script = Script(RuntimeError("that was not foreseen"))

    async def attempt() -> None:
        await script.played.wait()
        sound.become(DeviceState.OK)
        alive.set()
        await asyncio.Event().wait()

    async with supervised(broken, script.attempt), supervised(sound, attempt):
        await asyncio.wait_for(alive.wait(), PATIENCE_S)
    assert broken.state is DeviceState.UNREACHABLE
    assert broken.error == "unexpected RuntimeError: that was not foreseen"
    assert sound.state is DeviceState.OK
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "in attempt" in caplog.text
    assert "that was not foreseen" in caplog.text
    assert record.levelname == "ERROR"


async def test_a_bug_that_stays_leaves_one_traceback_and_not_one_each_retry(caplog: pytest.LogCaptureFixture) -> None:
    await play(component(), *[RuntimeError("the same")] * 5, *[RuntimeError("another")] * 5)
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["the same", "another"]


async def test_being_stopped_ends_it_while_it_attempts_and_while_it_waits() -> None:
    for script, backoff in ((Script(), AT_ONCE), (Script(unreachable()), Backoff(3600.0, 3600.0))):
        part = component()
        known = asyncio.Event()
        part.listeners.append(known.set)
        task = asyncio.ensure_future(supervise(part, script.attempt, broken=DeviceState.UNREACHABLE, backoff=backoff))
        first = [asyncio.ensure_future(event.wait()) for event in (script.played, known)]
        await asyncio.wait(first, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        for waiting in first:
            waiting.cancel()
        task.cancel()
        await asyncio.wait([task], timeout=PATIENCE_S)
        assert task.cancelled()


async def test_p6_a_cancellation_from_within_is_retried_and_does_not_end_a_device_for_good() -> None:
    part = component()

    def cancelled_within() -> None:
        raise asyncio.CancelledError

    await play(part, cancelled_within)
    assert part.state is DeviceState.UNREACHABLE
    assert "cancelled" in str(part.error)


async def test_p6_a_device_whose_tasks_failed_can_still_be_stopped_and_still_be_cancelled_within() -> None:
    async def fails() -> None:
        raise unreachable()

    part, ends, played = component(), iter(["group", "within", "group"]), asyncio.Event()

    async def attempt() -> None:
        match next(ends, None):
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(fails(), name="fails")
            case "within":
                raise asyncio.CancelledError
            case _:
                played.set()
                await asyncio.Event().wait()

    async with supervised(part, attempt):
        await asyncio.wait_for(played.wait(), PATIENCE_S)


async def test_being_stopped_ends_it_though_the_attempt_fails_on_its_way_out() -> None:
    begun = asyncio.Event()

    async def attempt() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise unreachable("the connection could not be closed")

    async with supervised(component(), attempt):
        await asyncio.wait_for(begun.wait(), PATIENCE_S)


async def test_an_attempt_that_just_returns_is_repeated_too() -> None:
    part = component()
    await play(part, lambda: None, lambda: part.become(DeviceState.OK))
    assert part.is_well


async def test_listeners_hear_of_changes_and_of_nothing_else() -> None:
    part = component()
    heard: list[tuple[DeviceState, str | None]] = []
    part.listeners.append(lambda: heard.append((part.state, part.error)))
    part.become(DeviceState.OK)
    part.become(DeviceState.OK)
    part.become(DeviceState.DEGRADED, "slow")
    part.become(DeviceState.DEGRADED, "slower")
    part.become(DeviceState.DEGRADED, "slower")
    part.become(DeviceState.OK)
    assert heard == [
        (DeviceState.OK, None),
        (DeviceState.DEGRADED, "slow"),
        (DeviceState.DEGRADED, "slower"),
        (DeviceState.OK, None),
    ]


async def test_since_tells_when_the_state_began_and_not_when_its_sentence_changed() -> None:
    part = component()
    part.become(DeviceState.UNREACHABLE, "first")
    since = part.since_ms = part.since_ms - 1000
    part.become(DeviceState.UNREACHABLE, "second")
    assert part.since_ms == since
    part.become(DeviceState.OK)
    assert part.since_ms > since
