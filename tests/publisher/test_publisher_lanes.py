"""Lanes and packing, against a real broker: what goes first, what goes together, and how it ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model import MqttState, Sample
from tests.broker import Broker, require_mosquitto
from tests.publisher.line import Line, meta, read, sample, samples, section


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


async def test_live_data_overtakes_the_backlog(tmp_path: Path) -> None:
    """P8: a fresh reading does not wait for the backlog."""
    with Broker(tmp_path / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        line = Line(section(broker, max_inflight=4))
        for count in range(300):
            line.rows.put(meta(id=f"{count:08x}"), sample(count))
        async with line.running():
            await consumer.until(lambda messages: messages)
            line.rows.put(meta(), sample(999))
            await line.rows.until_empty()
            await consumer.until(lambda messages: len(messages) == 301)
    places = [at for at, message in enumerate(consumer.messages) if "historical" not in read(message)]
    assert len(places) == 1
    assert places[0] < 300
    history = [one["seq"] for one in samples(consumer.messages) if one["seq"] <= 300]
    assert history == list(range(1, 301))


async def test_messages_keep_to_the_limit_and_to_the_order(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/hall-3/press-1/data")
    names = tuple(f"tag-{number}" for number in range(200))
    wide = meta(names=names, codes=("d",) * 200)
    line = Line(section(broker, max_message_bytes="32KiB"), metas=[wide])
    for count in range(100):
        line.rows.put(wide, *[sample(*[count + 0.5] * 200) for _ in range(3)])
    async with line.running():
        await line.rows.until_empty()
        await consumer.until(lambda _: len(samples(consumer.messages)) == 300)
    assert max(len(message.payload) for message in consumer.messages) <= 32 * 1024
    assert len(consumer.messages) < 300 / 3
    assert [one["seq"] for one in samples(consumer.messages)] == list(range(1, 301))


async def test_a_row_of_more_messages_than_the_window_has_places_is_delivered(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/hall-3/press-1/data")
    names = tuple(f"tag-{number}" for number in range(500))
    wide = meta(names=names, codes=("d",) * 500)
    line = Line(section(broker, max_message_bytes="32KiB", max_inflight=1), metas=[wide])
    line.rows.put(wide, *[sample(*[count + 0.5] * 500) for count in range(12)])
    async with line.running():
        await line.rows.until_empty()
        await consumer.until(lambda _: len(samples(consumer.messages)) == 12)
    assert len(consumer.messages) > 1


async def test_the_brokers_own_packet_limit_is_kept(tmp_path: Path) -> None:
    """A packet over the limit would end the session, again and again (MQTT 5.0 section 3.2.2.3.6)."""
    require_mosquitto()
    with Broker(tmp_path / "broker", settings="max_packet_size 20000") as broker:
        consumer = await broker.subscribe("factory/#")
        names = tuple(f"tag-{number}" for number in range(200))
        wide, huge = meta(names=names, codes=("d",) * 200), meta("saw-2", names=("text",), codes=("j",))
        line = Line(section(broker), metas=[wide, huge])
        line.rows.put(wide, *[sample(*[count + 0.5] * 200) for count in range(50)])
        line.rows.put(huge, sample("x" * 21000))
        line.rows.put(huge, sample("y" * 2100))
        async with line.running():
            await consumer.until(lambda messages: len(samples(messages)) == 50)
            await consumer.until(lambda messages: len(samples(messages, "saw-2")) == 1)
            await line.rows.until_rejected(1)
            assert line.component.state is MqttState.CONNECTED
            assert line.component.refusals == {}
            await line.rows.until_acknowledged(2)
        assert line.rows.rejected == [2]
        assert not line.rows.rows, "what is too large for ever blocks nothing"


async def test_a_message_may_wait_to_be_filled_but_not_a_bad_quality(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/hall-3/press-1/data")
    line = Line(section(broker, flush_interval="1h"))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        await line.until_greeted()
        line.rows.put(meta(), sample(1))
        line.rows.put(meta(), sample(2))
        line.rows.put(meta(), Sample.bad(1763843000123, "timeout", 1))
        await consumer.until(lambda messages: messages)
    assert len(samples(consumer.messages[:1])) == 3


async def test_draining_returns_when_everything_is_acknowledged(broker: Broker) -> None:
    line = Line(section(broker))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        for count in range(200):
            line.rows.put(meta(), sample(count))
        await line.publisher.drain(30)
        assert line.rows.rows == {}


async def test_draining_gives_up_when_the_broker_takes_nothing(broker: Broker) -> None:
    line = Line(section(broker))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        await line.until_greeted()
        broker.freeze()
        line.rows.put(meta(), sample(1))
        await line.publisher.drain(0.2)
        broker.thaw()
    assert 1 in line.rows.rows or line.rows.acknowledged == [1]


async def test_rows_that_wait_to_fill_a_message_are_sent_by_a_drain(broker: Broker) -> None:
    line = Line(section(broker, flush_interval="1h"))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        await line.until_greeted()
        line.rows.put(meta(), sample(1))
        await line.publisher.drain(30)
        assert line.rows.acknowledged == [1]


async def test_rows_that_wait_to_fill_a_message_are_given_back_at_the_end(broker: Broker) -> None:
    line = Line(section(broker, flush_interval="1h"))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        await line.until_greeted()
        line.rows.put(meta(), sample(1))
        await line.rows.until_taken()
    assert list(line.rows.rows) == [1]
    assert line.rows.in_flight == set()
