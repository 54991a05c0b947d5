"""The publisher with the real buffer: what is on disk arrives, and the ledger agrees with the broker."""

import asyncio
import contextlib
import json
import sqlite3
from pathlib import Path

import orjson

from gateway.buffer import Limits, dead_letters, open_buffer
from gateway.buffer.opening import open_store
from gateway.model import Batch, MqttState
from tests.broker import Broker, require_mosquitto
from tests.publisher.line import Line, meta, read, sample, samples, section
from tests.publisher.scripted_broker import ScriptedBroker


async def test_rows_of_the_real_buffer_arrive_and_the_ledger_agrees(tmp_path: Path) -> None:
    """P4: sampled = acked once the broker has acknowledged everything."""
    with Broker(tmp_path / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        async with (
            open_buffer(tmp_path / "buffer.db", Limits(64 << 20), 0.05) as buffer,
            asyncio.timeout(60),
            asyncio.TaskGroup() as group,
        ):
            committing = group.create_task(buffer.run(), name="buffer")
            stored = [buffer.append(Batch(meta(), (sample(count),), 1)) for count in range(100)]
            await asyncio.gather(*stored)
            line = Line(section(broker), rows=buffer)
            async with line.running():
                await line.until(MqttState.CONNECTED)
                for count in range(100, 200):
                    assert await buffer.append(Batch(meta(), (sample(count),), 1))
                await line.publisher.drain(30)
                await consumer.until(lambda _: len(samples(consumer.messages)) == 200)
            ledger = buffer.ledgers["press-1"]
            committing.cancel()
    history = [message for message in consumer.messages if read(message).get("historical")]
    live = [message for message in consumer.messages if not read(message).get("historical")]
    # Each lane keeps its order; live data may overtake the backlog.
    assert [one["seq"] for lane in (history, live) for one in samples(lane)] == list(range(1, 201))
    assert (ledger.sampled, ledger.acked, ledger.pending, ledger.unaccounted) == (200, 200, 0, 0)


async def test_what_a_broker_outage_leaves_in_flight_is_sent_again_from_disk(tmp_path: Path) -> None:
    """P1."""
    require_mosquitto()
    with Broker(tmp_path / "broker", persistent=True) as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        async with (
            open_buffer(tmp_path / "buffer.db", Limits(64 << 20), 0.05) as buffer,
            asyncio.timeout(90),
            asyncio.TaskGroup() as group,
        ):
            committing = group.create_task(buffer.run(), name="buffer")
            line = Line(section(broker), rows=buffer)
            async with line.running():
                await line.until(MqttState.CONNECTED)
                for outage in range(3):
                    counts = range(100 * outage, 100 * outage + 100)
                    await asyncio.gather(*[buffer.append(Batch(meta(), (sample(count),), 1)) for count in counts])
                    if outage < 2:
                        broker.kill()
                        broker.start()
                        await consumer.subscribed(times=outage + 2)
                await line.until(MqttState.CONNECTED)
                await consumer.until(lambda _: {one["seq"] for one in samples(consumer.messages)} >= {300})
                await line.publisher.drain(30)
            ledger = buffer.ledgers["press-1"]
            committing.cancel()
    assert (ledger.acked, ledger.pending, ledger.unaccounted) == (300, 0, 0)


async def test_a_sample_that_is_refused_for_itself_is_kept_and_a_gap_tells_of_it(tmp_path: Path) -> None:
    """P4: dropped to the ledger, and the consumer knows which one."""
    text = meta(names=("text",), codes=("j",))
    async with (
        ScriptedBroker(lambda one: 0x99 if b"bad" in one.payload else 0) as broker,
        open_buffer(tmp_path / "buffer.db", Limits(64 << 20), 0.05) as buffer,
        asyncio.timeout(60),
        asyncio.TaskGroup() as group,
    ):
        committing = group.create_task(buffer.run(), name="buffer")
        line = Line(broker.section(), rows=buffer, metas=[text])
        async with line.running():
            for at in range(20):
                batch = Batch(text, (sample("good"), sample("bad" if at == 7 else "good")), 2)
                assert await buffer.append(batch)
            await broker.until(lambda: any(b"rejected" in one.payload for one in broker.on("/data")))
            await line.publisher.drain(30)
        ledger = buffer.ledgers["press-1"]
        committing.cancel()
    with contextlib.closing(sqlite3.connect(tmp_path / "buffer.db")) as connection:
        (kept,) = dead_letters.read(connection)
    told = [one for data in broker.on("/data") for one in json.loads(data.payload)["samples"]]
    (gap,) = [one["gap"] for one in told if "gap" in one]
    assert (gap["reason"], gap["first_seq"], gap["last_seq"], gap["readings"]) == ("rejected", 16, 16, 1)
    assert {one["seq"] for one in told} == set(range(1, 42)) - {16}
    assert (kept.device, kept.seq, json.loads(kept.sample)["values"]) == ("press-1", 16, {"text": "bad"})
    assert (ledger.acked, ledger.dropped, ledger.pending, ledger.unaccounted) == (39, 1, 0, 0)


async def test_a_resend_in_the_middle_of_a_session_is_history_under_the_old_names_beside_what_is_read_now(
    tmp_path: Path,
) -> None:
    """P3: (epoch, seq) names a sample for ever."""
    with Broker(tmp_path / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        async with (
            open_buffer(tmp_path / "buffer.db", Limits(64 << 20, keep_acked=3600), 0.02) as buffer,
            asyncio.timeout(60),
            asyncio.TaskGroup() as group,
        ):
            committing = group.create_task(buffer.run(), name="buffer")
            line = Line(section(broker), rows=buffer)
            async with line.running():
                await line.until(MqttState.CONNECTED)
                await asyncio.gather(*[buffer.append(Batch(meta(), (sample(count),), 1)) for count in range(50)])
                await consumer.until(lambda _: len(samples(consumer.messages)) == 50)
                await line.publisher.drain(30)
                first = samples(consumer.messages)
                assert (await buffer.resend("press-1", 0, 1 << 50)).samples == 50
                await buffer.append(Batch(meta(), (sample(50),), 1))
                await consumer.until(lambda _: len(samples(consumer.messages)) == 101)
                await line.publisher.drain(30)
            ledger = buffer.ledgers["press-1"]
            committing.cancel()
    documents = [orjson.loads(message.payload) for message in consumer.messages]
    again = [one for document in documents if document.get("historical") for one in document["samples"]]
    assert again == first
    assert {document["epoch"] for document in documents} == {buffer.epoch}
    assert [one["seq"] for document in documents[-2:] for one in document["samples"] if one["seq"] > 50] == [51]
    assert (ledger.sampled, ledger.acked, ledger.unaccounted) == (51, 51, 0)


async def test_a_flipped_bit_on_disk_is_never_sent_and_a_gap_tells_of_it(tmp_path: Path) -> None:
    """P5: what its checksum does not bear out is no reading."""
    path, limits = tmp_path / "buffer.db", Limits(64 << 20)
    store = open_store(path, limits, None)
    store.commit([Batch(meta(), (sample(count),), 1) for count in range(10)], (), 1)
    (blob,) = store.connection.execute("SELECT blob FROM blobs WHERE id = 4").fetchone()
    store.close()
    octets = bytearray(path.read_bytes())
    octets[octets.index(blob) + len(blob) - 3] ^= 1
    path.write_bytes(octets)
    with Broker(tmp_path / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        async with open_buffer(path, limits, 0.02) as buffer, asyncio.timeout(60), asyncio.TaskGroup() as group:
            committing = group.create_task(buffer.run(), name="buffer")
            async with Line(section(broker), rows=buffer).running():
                await consumer.until(lambda _: len(samples(consumer.messages)) == 10)
            committing.cancel()
    told = {one["seq"]: one for one in samples(consumer.messages)}
    assert sorted(told) == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
    gap = told[11]["gap"]
    assert (gap["reason"], gap["first_seq"], gap["last_seq"], gap["readings"]) == ("corrupt", 4, 4, 1)
