"""A broker that finds it too much: the rate falls, nothing is lost, and there is no loop of reconnects."""

import time
from collections import deque
from itertools import pairwise

import pytest

from gateway.model import MqttState
from tests.publisher.line import Line, meta, sample
from tests.publisher.scripted_broker import Kick, Published, ScriptedBroker


class Quota:
    """Finds more than so many publishes within a second too much; what then, `excess` says."""

    def __init__(self, most: int, excess: int | Kick) -> None:
        self.complaints = 0
        self._most = most
        self._excess = excess
        self._times: deque[float] = deque()

    def __call__(self, one: Published) -> int:
        while self._times and self._times[0] < one.at - 1:
            self._times.popleft()
        self._times.append(one.at)
        if len(self._times) <= self._most:
            return 0
        self.complaints += 1
        if isinstance(self._excess, Kick):
            self._times.clear()
            raise self._excess
        return self._excess


@pytest.mark.parametrize("excess", [0x97, Kick(0x97), Kick(0x96), Kick(None)])
async def test_a_broker_with_a_quota_gets_less_and_all_of_it(excess: int | Kick) -> None:
    """P1: what it refuses or throws us out for is sent again, at a rate that it takes."""
    quota = Quota(30, excess)
    async with ScriptedBroker(quota) as broker:
        line = Line(broker.section())
        for count in range(150):
            line.rows.put(meta(), sample(count), epoch=f"{count:08x}")
        async with line.running():
            await line.rows.until_empty()
            assert [alarm.code for alarm in line.component.alarms if alarm.code == "broker-quota"] == ["broker-quota"]
            assert line.component.refusals == {}, "no topic is refused"
    assert len({one.payload for one in broker.on("/data")}) == 150
    assert len(broker.sessions) <= 8
    assert quota.complaints < 75


async def test_a_session_taken_over_is_an_alarm_and_the_next_attempt_is_slow() -> None:
    def answer(one: Published) -> int:
        if one.topic.endswith("/data"):
            raise Kick(0x8E)
        return 0

    async with ScriptedBroker(answer) as broker:
        line = Line(broker.section())
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.until(MqttState.UNREACHABLE)
            assert "another client took over" in (line.component.error or "")
            assert [alarm.code for alarm in line.component.alarms] == ["client-id-twice"]
        assert len(broker.sessions) == 1


async def test_a_broker_that_is_busy_is_not_hurried() -> None:
    async with ScriptedBroker(connack=b"\x20\x03\x00\x89\x00") as broker:
        error = await Line(broker.section()).failure()
    assert "server busy (0x89)" in str(error)
    assert error.retry_after_s >= 10


async def test_a_puback_that_is_withheld_ends_the_session_and_the_message_goes_again() -> None:
    """P1."""
    withheld = iter([None])

    def answer(one: Published) -> int | None:
        return next(withheld, 0) if one.topic.endswith("/data") else 0

    async with ScriptedBroker(answer) as broker:
        line = Line(broker.section(), options={"ack_timeout": 0.5})
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.rows.until_empty()
    first, second = [one for one in broker.published if one.topic.endswith("/data")]
    assert (first.payload, first.session, second.session) == (second.payload, 1, 2)


async def test_the_receive_maximum_is_never_exceeded() -> None:
    """MQTT 5.0 section 3.3.4: a broker with a window of 3 ends the session of who sends a fourth."""
    open_ones: list[Published] = []

    def answer(one: Published) -> int | None:
        if one.topic.endswith("/status"):
            return 0  # the first, and confirmed before anything else is said
        open_ones.append(one)
        return None

    async with ScriptedBroker(answer, connack=b"\x20\x06\x00\x00\x03\x21\x00\x03") as broker:
        line = Line(broker.section(), options={"ack_timeout": 1.0}, metas=[meta(f"press-{n}") for n in range(9)])
        error = await line.failure()
    assert "has not acknowledged" in str(error)
    assert len(open_ones) == 3


async def test_the_brokers_keep_alive_is_kept_and_not_ours() -> None:
    """MQTT 5.0 section 3.2.2.3.14: a second here, 20 s in the config."""
    async with ScriptedBroker(connack=b"\x20\x06\x00\x00\x03\x13\x00\x01") as broker:
        line = Line(broker.section())
        async with line.running():
            await broker.until(lambda: len(broker.pings) >= 4, within=10)
            began = time.monotonic()
            assert line.component.state is MqttState.CONNECTED
    steps = [later - earlier for earlier, later in pairwise(broker.pings)]
    assert max(steps) <= 1.0
    assert began - broker.sessions[0] > 2
