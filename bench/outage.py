"""After an outage: how old live data is while the backlog drains over TLS, with a quota of 100 messages/s and without.

50 devices with 10 tags are polled once a second; the outage lasted 40 times `--seconds`. The publisher, the buffer and
the consumer share one process here. Ages are by the samples' own timestamps, when they are with the consumer.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.buffer import Limits, open_buffer
from gateway.buffer.buffer import Buffer
from gateway.model import Batch, Meta, MqttState, Sample
from tests.broker import Broker
from tests.consumer import Consumer, Received
from tests.publisher.line import Line, meta, section

DEVICES: Final = 50
TAGS: Final = 10
QUOTA: Final = 100
_PATIENCE_S: Final = 600.0


@dataclass
class _Book:
    """What the consumer got."""

    since: float
    messages: int = 0
    first_live_s: float | None = None
    ages: list[float] = field(default_factory=list)
    history: dict[str, list[int]] = field(default_factory=dict)
    old: int = 0

    def note(self, message: Received) -> None:
        """Note a message that has just come."""
        document = json.loads(message.payload)
        seqs = [one["seq"] for one in document["samples"]]
        self.messages += 1
        if document.get("historical"):
            self.old += len(seqs)
            self.history.setdefault(document["device"], []).extend(seqs)
            return
        self.first_live_s = self.first_live_s or time.monotonic() - self.since
        self.ages += [time.time() - one["ts"] / 1000 for one in document["samples"]]


async def run(seconds: float, _rounds: int) -> dict[str, Any]:
    """Drain the backlog with and without the quota; gives the figures of both."""
    outage = max(1, round(40 * seconds))
    limited = await _drain(outage, max_messages_per_second=QUOTA)
    free = await _drain(outage)
    return {f"{QUOTA} messages/s: {what}": value for what, value in limited.items()} | {
        f"no limit: {what}": value for what, value in free.items()
    }


async def _drain(outage: int, **limits: Any) -> dict[str, Any]:
    names = tuple(f"tag-{number}" for number in range(TAGS))
    metas = [meta(f"press-{at}", names, ("d",) * TAGS, id=f"{at:08x}") for at in range(DEVICES)]
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/+/data")
        async with (
            open_buffer(Path(folder) / "buffer.db", Limits(1 << 30), 0.2) as buffer,
            asyncio.TaskGroup() as group,
        ):
            committing = group.create_task(buffer.run(), name="buffer")
            await _store(buffer, metas, outage)
            line = Line(section(broker, **limits), rows=buffer, metas=metas)
            async with line.running():
                await line.until(MqttState.CONNECTED)
                polling = group.create_task(_poll(buffer, metas), name="polls")
                book = await _follow(consumer, DEVICES * outage)
                polling.cancel()
            committing.cancel()
    return _figures(book, time.monotonic() - book.since)


async def _store(buffer: Buffer, metas: Sequence[Meta], outage: int) -> None:
    now = time.time_ns() // 1_000_000
    for second in range(outage):
        stored = [buffer.append(_batch(one, now - (outage - second) * 1000, second)) for one in metas]
        if second % 10 == 9 or second == outage - 1:
            await asyncio.gather(*stored)


async def _poll(buffer: Buffer, metas: Sequence[Meta]) -> None:
    count = 0
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        for one in metas:
            count, due = count + 1, due + 1 / DEVICES
            await asyncio.sleep(due - loop.time())
            buffer.append(_batch(one, time.time_ns() // 1_000_000, count))


def _batch(of: Meta, ts: int, count: int) -> Batch:
    values = tuple(count * 0.5 + at for at in range(TAGS))
    return Batch(of, (Sample.good(ts, tuple(range(TAGS)), values),), TAGS)


async def _follow(consumer: Consumer, backlog: int) -> _Book:
    book, seen = _Book(time.monotonic()), 0
    while book.old < backlog:
        await consumer.until(lambda messages, seen=seen: len(messages) > seen, within=_PATIENCE_S)  # type: ignore[misc]
        for message in consumer.messages[seen:]:
            book.note(message)
        seen = len(consumer.messages)
    return book


def _figures(book: _Book, took: float) -> dict[str, Any]:
    ages = sorted(book.ages)
    return {
        "readings of the backlog": book.old * TAGS,
        "drained in, s": round(took, 1),
        "messages/s in all": round(book.messages / took, 1),
        "first live sample after, s": None if book.first_live_s is None else round(book.first_live_s, 2),
        "age of live samples, median, s": round(ages[len(ages) // 2], 3) if ages else None,
        "age of live samples, 99 of 100, s": round(ages[len(ages) * 99 // 100], 3) if ages else None,
        "each device's backlog in order": all(seqs == sorted(seqs) for seqs in book.history.values()),
    }
