"""The gateway as a process on a disk that loses a page: it goes on, sends what is whole, and says what is lost."""

import signal
from pathlib import Path

import pytest

from gateway.buffer import Limits, folder, schema
from gateway.buffer.opening import open_store
from tests.broker import require_mosquitto
from tests.end_to_end.books import keep_books
from tests.end_to_end.test_nothing_is_lost import DEVICES, line

pytestmark = pytest.mark.timeout(240)


def lose_a_page(path: Path) -> tuple[str, dict[str, int]]:
    """Let a page in the middle of the backlog read as zeros; give the epoch and the last seq of each device."""
    store = open_store(path, Limits(64 << 20), None)
    rows = "SELECT blob FROM blobs JOIN batches USING(id) ORDER BY id LIMIT 1 OFFSET (SELECT count(*) / 2 FROM blobs)"
    (blob,) = store.connection.execute(rows).fetchone()
    last = store.present_seqs()
    store.close()
    octets = path.read_bytes()
    page = octets.index(blob) // schema.PAGE_BYTES
    with path.open("r+b") as file:
        file.seek(page * schema.PAGE_BYTES)
        file.write(bytes(schema.PAGE_BYTES))
    return store.epoch, last


async def test_a_page_of_the_backlog_that_is_lost_costs_what_was_in_it_and_a_gap_tells(tmp_path: Path) -> None:
    """P2, P3, P4, P11."""
    require_mosquitto()
    async with line(tmp_path, "mosquitto") as there:
        await there.flows()
        there.broker.stop()
        await there.gateway.until(lambda now: now["buffer"]["pending_samples"] > 200)
        await there.gateway.end(signal.SIGKILL)
        epoch, last = lose_a_page(there.gateway.buffer_file)
        await there.gateway.start()
        subscriptions = there.consumer.subscriptions
        there.broker.start()
        await there.consumer.subscribed(subscriptions + 1)
        await there.gateway.until(
            lambda now: now["epoch"] != epoch and not folder.set_asides(there.gateway.buffer_file)
        )
        await there.flows()
        health = await there.gateway.health()
        assert (health["ledger"]["unaccounted"], health["buffer"]["set_aside"]) == (0, {})
        assert await there.gateway.end() == 0
    books = keep_books(there.consumer.messages)
    for device in DEVICES:
        told: set[int] = set()
        for (name, other), book in books.items():
            if name == device and other != epoch:
                for gap in book.gaps:
                    if gap.get("previous_epoch") == epoch and "first_seq" in gap:
                        told.update(range(gap["first_seq"] or 1, (gap["last_seq"] or last[device]) + 1))
        missing = set(books[device, epoch].missing(last[device]))
        assert missing <= told
        assert len(missing) < 60
