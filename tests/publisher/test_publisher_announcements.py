"""What is retained at the broker: status, last will, states, metas and health."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.model import DeviceState, MqttState
from tests.broker import Broker, Received
from tests.publisher.line import Line, meta, read, sample, samples, section


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as broker:
        yield broker


def _last(messages: list[Received], suffix: str) -> dict[str, object]:
    found = [message for message in messages if message.topic.endswith(suffix)]
    return json.loads(found[-1].payload) if found and found[-1].payload else {}


async def test_online_is_said_first_and_offline_at_a_clean_end(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    line = Line(section(broker))
    async with line.running():
        await consumer.until(lambda messages: messages)
        online = read(consumer.messages[0])
        await line.until_greeted()
    await consumer.until(lambda messages: _last(messages, "/status").get("state") == "offline")
    assert consumer.messages[0].topic == "factory/hall-3/status"
    assert online["state"] == "online"
    assert set(online) == {"state", "session", "since_ms", "version"}
    offline = {"state": "offline", "session": online["session"], "reason": "stopped"}
    assert _last(consumer.messages, "/status") == offline
    later = await broker.subscribe("factory/#", name="later")
    await later.until(lambda messages: _last(messages, "/status") == offline)
    assert later.on("/status")[0].retain


async def test_a_gateway_that_is_gone_without_a_word_leaves_its_last_will(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    line = Line(section(broker), options={"ack_timeout": 0.5})
    async with line.running():
        await consumer.until(lambda messages: _last(messages, "/status"))
        session = _last(consumer.messages, "/status")["session"]
        await line.until_greeted()
        broker.freeze()
        line.rows.put(meta(), sample(1))
        await line.until(MqttState.UNREACHABLE)  # it drops a connection on which no PUBACK comes
        broker.thaw()
        lost = {"state": "offline", "session": session, "reason": "lost"}
        await consumer.until(lambda messages: any(read(message) == lost for message in messages if message.payload))
        await line.rows.until_empty()


async def test_a_foreign_offline_is_answered_with_online(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/hall-3/status")
    async with Line(section(broker)).running():
        await consumer.until(lambda messages: messages)
        foreign = orjson.dumps({"state": "offline", "session": "00000000", "reason": "lost"})
        await asyncio.to_thread(consumer.publish, "factory/hall-3/status", foreign, retain=True)
        await consumer.until(
            lambda messages: messages[-1].payload != foreign and foreign in [m.payload for m in messages]
        )
        assert _last(consumer.messages, "/status")["state"] == "online"


async def test_the_meta_is_retained_before_the_first_data(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    line = Line(section(broker))
    line.rows.put(meta(), sample(1))
    async with line.running():
        await consumer.until(lambda _: samples(consumer.messages))
    topics = [message.topic for message in consumer.messages]
    assert topics.index("factory/hall-3/press-1/meta") < topics.index("factory/hall-3/press-1/data")
    later = await broker.subscribe("factory/#", name="later")
    await later.until(lambda _: later.on("/meta"))
    assert later.on("/meta")[0].payload == meta().document


async def test_samples_of_an_older_meta_are_preceded_by_it_and_it_is_not_retained(broker: Broker) -> None:
    """P5: no old value under a new scale or unit."""
    consumer = await broker.subscribe("factory/#")
    old = meta(id="00000001")
    line = Line(section(broker))
    line.rows.put(old, sample(1))
    line.rows.put(meta(), sample(2))
    async with line.running():
        await consumer.until(lambda _: len(samples(consumer.messages)) == 2)
    story = [
        (message.topic.rpartition("/")[2], read(message)["meta"])
        for message in consumer.on("/meta") + consumer.on("/data")
    ]
    assert story == [("meta", "9c01d2ab"), ("meta", "00000001"), ("data", "00000001"), ("data", "9c01d2ab")]
    assert [read(message).get("superseded") for message in consumer.on("/meta")] == [None, True]
    order = [
        message.topic.rpartition("/")[2] for message in consumer.messages if read(message).get("meta") == "00000001"
    ]
    assert order == ["meta", "data"]
    later = await broker.subscribe("factory/#", name="later")
    await later.until(lambda _: later.on("/meta"))
    assert read(later.on("/meta")[0])["meta"] == "9c01d2ab"


async def test_a_meta_that_changes_while_connected_is_retained_before_its_data(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    line = Line(section(broker))
    async with line.running():
        await line.until(MqttState.CONNECTED)
        for identity in ("0000000b", "9c01d2ab", "0000000b"):
            line.publisher.use(meta(id=identity))
            line.rows.put(meta(id=identity), sample(1))
            await line.rows.until_empty()
        await consumer.until(lambda _: len(samples(consumer.messages)) == 3)
    assert [read(message)["meta"] for message in consumer.on("/meta")][-3:] == ["0000000b", "9c01d2ab", "0000000b"]


async def test_a_large_meta_comes_in_parts_and_leftovers_are_cleared(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    names = tuple(f"a-rather-long-tag-name-{number:05d}" for number in range(4000))
    large = meta(id="0000000a", names=names, codes=("H",) * 4000)
    async with Line(section(broker, max_message_bytes="32KiB"), metas=[large]).running():
        await consumer.until(lambda messages: any(message.topic.endswith("/meta/4") for message in messages))
    parts = [read(message) for message in consumer.messages if "/meta" in message.topic]
    assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
    assert {part["parts"] for part in parts} == {len(parts)}
    assert tuple(name for part in parts for name in part["tags"]) == names
    assert all(len(message.payload) <= 32 * 1024 for message in consumer.messages)
    seen = len(consumer.messages)
    async with Line(section(broker, max_message_bytes="32KiB")).running():
        cleared = {f"factory/hall-3/press-1/meta/{part}" for part in range(2, len(parts) + 1)}
        await consumer.until(
            lambda messages: {message.topic for message in messages[seen:] if not message.payload} == cleared
        )


async def test_a_devices_state_is_retained_on_connect_and_on_change(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    line = Line(section(broker))
    async with line.running():
        await consumer.until(lambda messages: _last(messages, "/press-1/state"))
        first = _last(consumer.messages, "/press-1/state")
        line.devices["press-1"].become(DeviceState.UNREACHABLE, "192.0.2.10:502 does not answer", "Check its power.")
        await consumer.until(lambda messages: _last(messages, "/press-1/state")["state"] == "unreachable")
    assert (first["state"], first["error"]) == ("connecting", None)
    assert _last(consumer.messages, "/press-1/state") == {
        "v": 1,
        "gateway": "hall-3",
        "device": "press-1",
        "state": "unreachable",
        "since_ms": line.devices["press-1"].since_ms,
        "error": "192.0.2.10:502 does not answer",
        "do": "Check its power.",
    }


async def test_health_is_sent_in_its_interval_and_when_the_status_changes(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    line = Line(section(broker, health_interval="1h"))
    async with line.running():
        await consumer.until(lambda _: consumer.on("/health"))
        line.publisher.look_again()
        line.health = {"status": "degraded", "reasons": []}
        line.publisher.look_again()
        await consumer.until(lambda _: len(consumer.on("/health")) == 2)
        assert read(consumer.on("/health")[-1]) == line.health
    brief = Line(section(broker, health_interval="100ms"))
    async with brief.running():
        await consumer.until(lambda _: len(consumer.on("/health")) >= 5)
    online = [message for message in consumer.on("/status") if read(message)["state"] == "online"]
    assert len(online) >= 5, "online is said again with every health message"


async def test_health_may_be_off(broker: Broker) -> None:
    consumer = await broker.subscribe("factory/#")
    line = Line(section(broker, health_interval="0s"))
    line.rows.put(meta(), sample(1))
    async with line.running():
        line.publisher.look_again()
        await line.rows.until_empty()
    await consumer.until(lambda messages: _last(messages, "/status").get("state") == "offline")
    assert consumer.on("/health") == []


async def test_what_is_retained_of_a_device_that_is_gone_is_cleared_after_its_backlog(broker: Broker) -> None:
    gone = meta("old-9")
    async with Line(section(broker), metas=[gone]).running():
        consumer = await broker.subscribe("factory/#")
        await consumer.until(lambda _: consumer.on("old-9/meta") and consumer.on("old-9/state"))
    line = Line(section(broker), retired={gone.topic: gone.device})
    line.rows.put(gone, sample(1))
    async with line.running():
        empty = {f"{gone.topic}/meta", f"{gone.topic}/state"}
        await consumer.until(lambda messages: {m.topic for m in messages if not m.payload} == empty)
        await line.rows.until_retired(gone.topic)
    story = [message.topic.rpartition("/")[2] for message in consumer.messages if "old-9" in message.topic]
    assert story[-4:] == ["meta", "data", "state", "meta"]
    assert len(samples(consumer.messages, "old-9")) == 1
