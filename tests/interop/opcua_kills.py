"""`python -m tests.interop.opcua_kills`: the gateway is killed between notification and commit, again and again.

node-opcua counts, and holds what was not acknowledged. The consumer must get every number exactly once, or a gap that
covers the time in which it was current. A run counts only if most kills hit: the server had sent a notification, and
it was not on the gateway's disk. `make opcua-kill-test`.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.broker import Broker, Consumer, free_port
from tests.end_to_end.books import Book, book_of
from tests.end_to_end.rig import Gateway, running
from tests.interop.node_opcua import NodeServer, node, node_server

EVERY_MS: Final = 20
_COMMIT_S: Final = 0.4
_WITHIN_S: Final = 60.0
Number = tuple[int, int]
"""A counted number and its source timestamp in ms."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the numbers. `lost` and `twice` break the promise; `in_gaps` are lost and told.

    `hits` are the kills at which the server had sent what was not on disk: of so many notifications `uncommitted`.
    """

    kills: int
    hits: int
    uncommitted: int
    numbers: int
    lost: tuple[int, ...]
    in_gaps: tuple[int, ...]
    twice: tuple[int, ...]
    resent: int
    unaccounted: int

    @property
    def is_clean(self) -> bool:
        """Whether every number came once, or was told as lost, and the kills came when they should."""
        return not self.lost and not self.twice and not self.unaccounted and 2 * self.hits >= self.kills

    def __str__(self) -> str:
        return (
            f"{'clean' if self.is_clean else 'BROKEN'}: {self.kills} kills, {self.hits} of them between notification "
            f"and commit ({self.uncommitted} notifications), {self.numbers} numbers, "
            f"{len(self.lost)} lost {list(self.lost[:20])}, {len(self.in_gaps)} in gaps, "
            f"{len(self.twice)} twice {list(self.twice[:20])}, {self.resent} samples resent, "
            f"{self.unaccounted} unaccounted"
        )


async def run(folder: Path, kills: int, seed: int) -> Outcome:
    """Kill so many times, let everything arrive, and compare what was counted with what came."""
    dice = random.Random(seed)
    with Broker(folder / "broker", kind="mosquitto") as broker:
        consumer = await broker.subscribe("#")
        async with node_server(folder / "plc") as server:
            await server.add(count=("UInt32", 0))
            gateway = Gateway(folder, _config(folder, server, broker))
            async with running(gateway):
                await _came(consumer, 0)
                await server.order("count", name="count", every_ms=EVERY_MS)
                uncommitted = []
                for _ in range(kills):
                    await _came(consumer, await _current(server))
                    await asyncio.sleep(dice.uniform(0, 2 * _COMMIT_S))  # when it happens is what the dice say
                    uncommitted.append(await _kill(gateway, server))
                    await gateway.start()
                last = await server.order("stop", name="count")
                await _came(consumer, last)
                await gateway.until(lambda health: health["buffer"]["pending_samples"] == 0)
                await gateway.end()
    return _judge(book_of(consumer.messages, "plc"), last, uncommitted, gateway.unaccounted())


async def _kill(gateway: Gateway, server: NodeServer) -> int:
    """Kill the gateway; give how many notifications the server had sent that are not on its disk."""
    held = await server.order("held")
    await gateway.end(signal.SIGKILL)
    with contextlib.closing(sqlite3.connect(f"file:{gateway.buffer_file}?mode=ro", uri=True)) as disk:
        query = "SELECT name, value FROM bookmarks WHERE name LIKE 'subscription:%'"
        stored = {int(name.partition(":")[2]): int(last) for name, last in disk.execute(query)}
    return sum(number > stored.get(each["id"], 0) for each in held for number in each["unacknowledged"])


async def _current(server: NodeServer) -> int:
    return int(await server.order("current", name="count"))


async def _came(consumer: Consumer, number: int) -> None:
    """Wait until the consumer has this number, or a later one."""
    seen = 0

    def has_come(messages: list[Any]) -> bool:
        nonlocal seen
        fresh, seen = messages[seen:], len(messages)
        documents = [json.loads(each.payload) for each in fresh if each.topic.endswith("/data")]
        samples = [sample for document in documents for sample in document["samples"]]
        return any(value >= number for value, _ in _numbers(samples))

    await consumer.until(has_come, within=_WITHIN_S)


def _numbers(samples: Any) -> Iterator[Number]:
    for sample in samples:
        if (value := sample.get("values", {}).get("count")) is not None:
            yield value, sample["ts"]


def _judge(book: Book, last: int, uncommitted: list[int], unaccounted: int) -> Outcome:
    assert not book.missing(), book.missing()
    came = list(_numbers(sample for _, sample in sorted(book.samples.items())))
    times = Counter(number for number, _ in came)
    missing = [number for number in range(last + 1) if number not in times]
    told = [number for number in missing if _is_told(number, dict(came), book.gaps)]
    return Outcome(
        kills=len(uncommitted),
        hits=sum(1 for count in uncommitted if count),
        uncommitted=sum(uncommitted),
        numbers=last + 1,
        lost=tuple(sorted({*missing} - {*told})),
        in_gaps=tuple(told),
        twice=tuple(sorted(number for number, count in times.items() if count > 1)),
        resent=book.duplicates,
        unaccounted=unaccounted,
    )


def _is_told(number: int, stamps: dict[int, int], gaps: list[dict[str, Any]]) -> bool:
    """Whether a gap covers the time of a number that did not come: it lies between those of its neighbours."""
    before = max((each for each in stamps if each < number), default=number)
    after = min((each for each in stamps if each > number), default=number)
    begin, end = stamps.get(before, 0), stamps.get(after, sys.maxsize)
    return any((gap.get("from") or 0) <= end and begin <= (gap.get("to") or sys.maxsize) for gap in _source_gaps(gaps))


def _source_gaps(gaps: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give the gaps that tell of lost values: that nobody was there for a while does not, the server held them."""
    return (gap for gap in gaps if gap["reason"] != "gateway-stopped")


def _config(folder: Path, server: NodeServer, broker: Broker) -> dict[str, Any]:
    tag = {"name": "count", "node": node("count"), "sampling": "0s", "queue": 10_000}
    return {
        "gateway": {"id": "hall-3"},
        "mqtt": {"host": broker.host, "port": broker.port, "tls": {"ca_file": str(broker.ca_file)}},
        "buffer": {"path": str(folder / "buffer.db"), "commit_interval": f"{_COMMIT_S * 1000:.0f}ms"},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "control": {"socket": str(folder / "control.sock")},
        "devices": [
            {
                "name": "plc", "protocol": "opcua", "endpoint": server.endpoint, "mode": "subscribe",
                "interval": "100ms", "timeout": "5s", "security": {"policy": "None", "insecure": True}, "tags": [tag],
            }
        ],
    }  # fmt: skip


def main() -> int:
    """Run and print what came of it; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.interop.opcua_kills", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="default: one that is printed")
    parser.add_argument("--kills", type=int, default=50, help="how often the gateway is killed")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="edge-gateway-kills-") as folder:
        outcome = asyncio.run(run(Path(folder), options.kills, options.seed))
    print(outcome)
    return 0 if outcome.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
