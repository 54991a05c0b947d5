"""A message that the broker refuses for itself: taken apart, the sample at fault set aside, and nobody else waits."""

import json
import time
from pathlib import Path

import pytest

from gateway.model import Gap, MqttState
from tests.broker import Broker, require_mosquitto
from tests.publisher.line import Line, meta, sample, samples, section
from tests.publisher.scripted_broker import Answer, Kick, Published, ScriptedBroker

TEXT = meta(names=("text",), codes=("j",))


def finds_fault(code: int = 0x99, word: bytes = b"bad") -> Answer:
    """Answer data that holds the word with this reason code, and all else with a success."""
    return lambda one: code if one.topic.endswith("/data") and word in one.payload else 0


def seqs(broker: ScriptedBroker, device: str = "press-1") -> list[int]:
    """The seqs of what was accepted of a device, in the order of arrival."""
    return [one["seq"] for data in broker.on(f"{device}/data") for one in json.loads(data.payload)["samples"]]


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x99])
async def test_one_sample_at_fault_among_many_is_found_and_set_aside(code: int) -> None:
    """P1: all others are delivered, none is lost, and it costs no more than some tries."""
    async with ScriptedBroker(finds_fault(code)) as broker:
        line = Line(broker.section(), metas=[TEXT])
        for count in range(300):
            line.rows.put(TEXT, sample("bad" if count == 123 else f"good {count}"))
        async with line.running():
            await line.rows.until_empty()
            assert line.component.refusals == {}
            assert line.component.set_aside == 1
            (alarm,) = line.component.alarms
            assert f"(0x{code:02x})" in alarm.text
            assert line.component.state is MqttState.CONNECTED
    assert sorted(set(seqs(broker))) == [*range(1, 124), *range(125, 301)]
    (letter,) = line.rows.letters
    assert (letter.seq, letter.readings) == (124, 1)
    assert json.loads(letter.sample)["values"] == {"text": "bad"}
    assert f"(0x{code:02x})" in letter.why
    assert len([one for one in broker.published if one.topic.endswith("/data")]) < 40


async def test_of_a_batch_only_the_sample_at_fault_is_set_aside() -> None:
    async with ScriptedBroker(finds_fault()) as broker:
        line = Line(broker.section(), metas=[TEXT])
        line.rows.put(TEXT, *[sample("bad" if count in (3, 7) else f"good {count}") for count in range(10)])
        line.rows.put(TEXT, sample("good"))
        async with line.running():
            await line.rows.until_empty()
    assert set(seqs(broker)) == {1, 2, 3, 5, 6, 7, 9, 10, 11}
    assert [letter.seq for letter in line.rows.letters] == [4, 8]


async def test_a_sample_is_not_blamed_while_nothing_at_all_is_taken_on_its_topic() -> None:
    """It may be the topic that is refused; what tells is that another sample is taken."""
    async with ScriptedBroker(finds_fault()) as broker:
        line = Line(broker.section(), metas=[TEXT], options={"retry_refused": 0.2})
        line.rows.put(TEXT, sample("bad"))
        async with line.running():
            await line.until_refused("press-1")
            tries = len(broker.published)
            await broker.until(lambda: len(broker.published) > tries + 2)
            assert line.rows.letters == []
            line.rows.put(TEXT, sample("good"))
            await line.rows.until_empty()
            assert line.component.refusals == {}
    assert [letter.seq for letter in line.rows.letters] == [1]


async def test_a_topic_that_is_denied_loses_nothing_however_long_it_lasts() -> None:
    """P1: an access rule is not the samples' fault."""
    denied = True

    def answer(one: Published) -> int:
        return 0x87 if denied and one.topic.endswith("/data") else 0

    async with ScriptedBroker(answer) as broker:
        line = Line(broker.section(), metas=[TEXT], options={"retry_refused": 0.05})
        for count in range(50):
            line.rows.put(TEXT, sample(f"good {count}"))
        async with line.running():
            await broker.until(lambda: len([one for one in broker.published if one.topic.endswith("/data")]) > 12)
            assert line.rows.letters == []
            denied = False
            await line.rows.until_empty()
    assert sorted(set(seqs(broker))) == list(range(1, 51))


async def test_other_devices_and_later_samples_do_not_wait_for_it() -> None:
    async with ScriptedBroker(finds_fault()) as broker:
        saw = meta("saw-2", names=("text",), codes=("j",))
        line = Line(broker.section(), metas=[TEXT, saw])
        async with line.running():
            await line.until(MqttState.CONNECTED)
            await line.until_greeted()
            for count in range(20):
                line.rows.put(TEXT, sample("bad" if count == 0 else f"good {count}"))
                line.rows.put(saw, sample(f"good {count}"))
            began = time.monotonic()
            await line.rows.until_empty()
            took = time.monotonic() - began
    assert took < 3, "a topic that is held back waits for 5 s"
    assert len(set(seqs(broker, "saw-2"))) == 20
    assert len(set(seqs(broker))) == 19


async def test_a_gap_record_that_a_broker_does_not_know_blocks_nothing() -> None:
    async with ScriptedBroker(finds_fault(word=b'"gap"')) as broker:
        line = Line(broker.section(), metas=[TEXT])
        line.rows.put(TEXT, sample("good"), Gap(1763843002120, "paused"), sample("good"))
        async with line.running():
            await line.rows.until_empty()
    assert set(seqs(broker)) == {1, 3}
    assert [letter.is_gap for letter in line.rows.letters] == [True]


async def test_a_sample_larger_than_any_message_does_not_block_the_rest_of_its_batch(tmp_path: Path) -> None:
    require_mosquitto()
    with Broker(tmp_path / "broker", settings="max_packet_size 20000") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        line = Line(section(broker), metas=[TEXT])
        line.rows.put(TEXT, sample("a" * 9000), sample("b" * 21000), sample("c" * 15000))
        async with line.running():
            await line.rows.until_empty()
            await consumer.until(lambda messages: len(samples(messages)) == 2)
            assert line.component.refusals == {}
    assert [one["seq"] for one in samples(consumer.messages)] == [1, 3]
    assert [letter.seq for letter in line.rows.letters] == [2]
    assert "Maximum Packet Size" in line.rows.letters[0].why


@pytest.mark.parametrize("together", [1, 20])
@pytest.mark.parametrize("code", [0x95, 0x99])
async def test_a_sample_that_the_broker_ends_the_session_for_is_found_and_set_aside(code: int, together: int) -> None:
    """P1: it does not say which message it minds; sent one by one, they tell. All others arrive."""

    def answer(one: Published) -> int:
        if one.topic.endswith("/data") and b"bad" in one.payload:
            raise Kick(code)
        return 0

    async with ScriptedBroker(answer) as broker:
        saw = meta("saw-2", names=("text",), codes=("j",))
        line = Line(broker.section(), metas=[TEXT, saw])
        texts = ["bad" if count == 12 else f"good {count}" for count in range(40)]
        for first in range(0, 40, together):
            line.rows.put(TEXT, *map(sample, texts[first : first + together]))
            line.rows.put(saw, *[sample(f"good {count}") for count in range(first, first + together)])
        async with line.running():
            await line.rows.until_empty()
            assert line.component.set_aside == 1
        assert len(broker.sessions) <= 12
    assert set(seqs(broker)) == {*range(1, 13), *range(14, 41)}
    assert set(seqs(broker, "saw-2")) == set(range(1, 41))
    (letter,) = line.rows.letters
    assert (letter.seq, "ended the session each time" in letter.why) == (13, True)


async def test_no_sample_is_blamed_for_a_link_that_breaks() -> None:
    """P1: only a broker that says that a packet is at fault is believed."""
    kicks = iter([None] * 6)

    def answer(one: Published) -> int:
        if one.topic.endswith("/data") and next(kicks, "enough") is None:
            raise Kick(None)
        return 0

    async with ScriptedBroker(answer) as broker:
        line = Line(broker.section(), metas=[TEXT])
        line.rows.put(TEXT, sample("good"))
        async with line.running():
            await broker.until(lambda: len(broker.sessions) >= 3)
    assert line.rows.letters == []
    assert list(line.rows.rows) == [1]
