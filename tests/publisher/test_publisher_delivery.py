"""Delivery to a real broker over TLS: everything that was stored arrives as it was stored."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.model import Gap, MqttState, Sample
from tests.broker import Broker, require_mosquitto
from tests.publisher.line import Line, meta, read, sample, samples, section


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


async def test_what_was_stored_is_delivered_exactly(broker: Broker) -> None:
    """P1: a batch is published as it lies on disk, and deleted after its PUBACK."""
    consumer = await broker.subscribe()
    press = meta(names=("temperature", "running", "level"), codes=("f", "?", "H"), labels={"site": "oslo"})
    line = Line(section(broker), metas=[press])
    line.rows.put(press, Sample.good(1763843000123, (0, 1), (21.5, True)))
    bad = Sample(1763843001124, (0,), (21.6,), 2, {"level": "bad:timeout"}, rx=1763843001130, clock="unsynced")
    line.rows.put(press, bad, Gap(1763843002120, "buffer-full", {"first_seq": 500, "last_seq": 812}))
    async with line.running():
        await line.rows.until_empty()
        await consumer.until(lambda _: len(samples(consumer.messages)) == 3)
    (message,) = consumer.on("press-1/data")
    assert read(message) == {
        "v": 1,
        "gateway": "hall-3",
        "device": "press-1",
        "epoch": "5f0c2a9e",
        "meta": "9c01d2ab",
        "labels": {"site": "oslo"},
        "historical": True,
        "samples": [
            {"seq": 1, "ts": 1763843000123, "values": {"temperature": 21.5, "running": True}},
            {
                "seq": 2,
                "ts": 1763843001124,
                "rx": 1763843001130,
                "clock": "unsynced",
                "values": {"temperature": 21.6},
                "quality": {"level": "bad:timeout"},
            },
            {"seq": 3, "ts": 1763843002120, "gap": {"reason": "buffer-full", "first_seq": 500, "last_seq": 812}},
        ],
    }
    assert line.component.published == 1
    assert line.rows.acknowledged == [1, 2]


async def test_data_stored_during_the_connection_is_not_historical(broker: Broker) -> None:
    consumer = await broker.subscribe()
    line = Line(section(broker))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        line.rows.put(meta(), sample(1))
        await consumer.until(lambda _: samples(consumer.messages))
    assert "historical" not in read(consumer.on("/data")[0])


async def test_a_broker_killed_with_publishes_in_flight_is_noticed_at_once_and_gets_the_rest_again(
    broker: Broker,
) -> None:
    """P1: nothing is deleted that was not acknowledged; what was in flight is sent again."""
    line = Line(section(broker))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        await line.until_greeted()
        broker.freeze()
        for count in range(50):
            line.rows.put(meta(), sample(count))
        await line.until_inflight(1)
        before = len(line.rows.acknowledged)
        broker.kill()
        async with asyncio.timeout(5):
            await line.until(MqttState.UNREACHABLE)
        assert len(line.rows.acknowledged) == before
        broker.start()
        consumer = await broker.subscribe()
        await line.rows.until_empty()
        await consumer.until(lambda _: len(samples(consumer.messages)) >= 50 - before)
    assert [one["seq"] for one in samples(consumer.messages)] == list(range(before + 1, 51))
    assert all(read(message)["historical"] for message in consumer.on("/data"))


async def test_a_message_is_resent_with_the_same_samples_and_no_more_than_the_window_twice(tmp_path: Path) -> None:
    """P3: what a crash between PUBACK and commit sends twice is bounded by the window."""
    with Broker(tmp_path / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        line = Line(section(broker, max_inflight=4))
        line.rows.commits.clear()
        async with line.running():
            await line.until(MqttState.CONNECTED)
            for count in range(40):
                line.rows.put(meta(id=f"{count:08x}"), sample(count))  # a meta each, hence a message each
            await consumer.until(lambda messages: len(messages) == 4)
            await line.until_inflight(4)
            sent_before = [read(message)["samples"] for message in consumer.messages]
        assert len(consumer.messages) == 4
        assert line.rows.acknowledged == []
        again = Line(section(broker), rows=line.rows)  # after the crash: all four are in the buffer still
        line.rows.commits.set()
        line.rows.in_flight.clear()
        async with again.running():
            await line.rows.until_empty()
            await consumer.until(lambda messages: len(messages) == 44)
    assert [read(message)["samples"] for message in consumer.messages[4:8]] == sent_before


async def test_a_topic_that_the_broker_denies_costs_nothing_and_flows_once_it_may(tmp_path: Path) -> None:
    """P1: a PUBACK of 0x87 is not a delivery."""
    require_mosquitto()
    allowed = "topic readwrite factory/hall-3/{}/#\n"
    acl = "topic readwrite factory/hall-3/+\n" + allowed.format("press-1") + "topic read #\n"
    with Broker(tmp_path / "broker", acl=acl) as broker:
        consumer = await broker.subscribe("factory/#")
        press, saw = meta("press-1"), meta("saw-2")
        line = Line(section(broker), metas=[press, saw], options={"retry_refused": 0.1})
        async with line.running():
            await line.until(MqttState.CONNECTED)
            for count in range(20):
                line.rows.put(press, sample(count))
                line.rows.put(saw, sample(count))
            await line.until_refused("saw-2")
            await consumer.until(lambda messages: len(samples(messages, "press-1")) == 20)
            assert samples(consumer.messages, "saw-2") == []
            assert line.component.state is MqttState.CONNECTED
            assert any("saw-2" in text and "(0x87)" in text for text in line.component.refusals.values())
            await line.rows.until_acknowledged(20)
            assert len(line.rows.rows) == 20
            broker.write_acl(acl + allowed.format("saw-2"))
            await line.rows.until_empty()
            await consumer.until(lambda messages: len(samples(messages, "saw-2")) == 20)
    assert [one["seq"] for one in samples(consumer.messages, "saw-2")] == list(range(1, 21))


async def test_data_that_is_denied_while_its_meta_is_not_stays_too(tmp_path: Path) -> None:
    require_mosquitto()
    acl = "topic readwrite factory/hall-3/+\ntopic readwrite factory/hall-3/+/meta\ntopic read #\n"
    with Broker(tmp_path / "broker", acl=acl) as broker:
        line = Line(section(broker), options={"retry_refused": 0.1})
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.until_refused("press-1")
            broker.write_acl(acl + "topic write factory/#\n")
            await line.rows.until_empty()
            assert line.component.rejected >= 1
            assert "factory/hall-3/press-1" not in line.component.refusals


async def test_a_message_that_nobody_has_subscribed_to_is_delivered_and_counted(tmp_path: Path) -> None:
    require_mosquitto()
    with Broker(tmp_path / "broker") as broker:
        line = Line(section(broker))
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.rows.until_empty()
    assert (line.component.published, line.component.unmatched) == (1, 1)


async def test_mqtt_3_1_1_delivers_too(broker: Broker) -> None:
    consumer = await broker.subscribe()
    line = Line(section(broker, protocol="3.1.1"))
    line.rows.put(meta(), sample(1))
    async with line.running():
        await line.rows.until_empty()
        await consumer.until(lambda _: samples(consumer.messages))


async def test_amqtt_is_served_over_3_1_1(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker", kind="amqtt") as broker:
        consumer = await broker.subscribe()
        line = Line(section(broker))
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.rows.until_empty()
            await consumer.until(lambda _: samples(consumer.messages))
