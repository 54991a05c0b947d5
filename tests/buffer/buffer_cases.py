"""What the buffer's tests store: a few devices, batches of any size, and what must be true of every store."""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import orjson

from gateway.buffer.opening import open_store
from gateway.buffer.store import Store
from gateway.buffer.stored import Stored
from gateway.buffer.tables import Limits
from gateway.model import Batch, Gap, Meta, Sample

MIB = 1 << 20
ROOMY = Limits(64 * MIB)
TINY = Limits(MIB)
NOW = 1_763_843_000_000
PER_SAMPLE = 250


def meta_of(device: str, tags: int = 3, code: str = "f", **more: str) -> Meta:
    """Give a meta with as many tags of one code."""
    names = tuple(f"tag-{number}" for number in range(tags))
    document = orjson.dumps({"device": device, "tags": names, **more})
    return Meta(f"{device}-{code}-{tags}", device, f"factory/hall/{device}", names, (code,) * tags, {}, document)


def batch_of(device: str, readings: int = 3, *, ts: int = NOW, suppressed: int = 0, seed: int | None = None) -> Batch:
    """Give a batch of one sample with that many 32-bit floats; with a seed they do not compress."""
    chance = random.Random(seed)
    values = tuple(0.5 if seed is None else chance.getrandbits(32) * 0.5 for _ in range(readings))
    sample = Sample.good(ts, tuple(range(readings)), values)
    return Batch(meta_of(device, readings, "d"), (sample,), readings + suppressed, suppressed)


def bulky(device: str, seed: int, values: int = 2000) -> Batch:
    """Give a batch of about eight bytes a value on disk, in samples of at most `PER_SAMPLE` values."""
    noise = memoryview(random.Random(seed).randbytes(8 * values)).cast("q")
    shares = [tuple(noise[start : start + PER_SAMPLE]) for start in range(0, values, PER_SAMPLE)]
    samples = tuple(Sample.good(NOW, tuple(range(len(share))), share) for share in shares)
    return Batch(meta_of(device, PER_SAMPLE, "q"), samples, values)


def open_at(
    path: Path, limits: Limits = ROOMY, machine_id: str | None = None, clock: Callable[[], float] = time.monotonic
) -> Store:
    """Open a store as the buffer does."""
    return open_store(path, limits, machine_id, clock)


def commit(store: Store, *batches: Batch, acked: Iterable[int] = (), now: int = NOW) -> frozenset[str]:
    """Commit batches and acknowledgements."""
    return store.commit(batches, tuple(acked), now)


def take_all(store: Store) -> list[Stored]:
    """Take everything that is not in flight."""
    taken: list[Stored] = []
    while rows := store.take(taken[-1].id if taken else 0):
        taken += rows
    return taken


def seqs(rows: Iterable[Stored], device: str) -> list[int]:
    """Give the seqs of a device's rows, in their order."""
    return [row.first_seq + at for row in rows if row.meta.device == device for at in range(len(row.samples))]


def gaps(rows: Iterable[Stored], reason: str | None = None) -> list[Gap]:
    """Give the gap records in the rows."""
    found = [sample for row in rows for sample in row.samples if isinstance(sample, Gap)]
    return [gap for gap in found if reason in (None, gap.reason)]


def ranges(found: Sequence[Gap]) -> list[tuple[int, int]]:
    """Give the ranges of seqs that gap records tell of."""
    return [(gap.fields["first_seq"], gap.fields["last_seq"]) for gap in found if "first_seq" in gap.fields]


def assert_lawful(store: Store) -> None:
    """The ledger's law, and sums in memory that are those of the file."""
    ledgers = store.ledgers()
    assert {device: ledger.unaccounted for device, ledger in ledgers.items()} == dict.fromkeys(ledgers, 0)
    assert all(stream.pending >= 0 for stream in store.tables.streams.values())
    rows, samples, readings = store.connection.execute(
        "SELECT count(*), coalesce(sum(samples), 0), coalesce(sum(readings), 0) FROM batches"
    ).fetchone()
    level = store.level()
    assert (level.rows, level.samples, level.readings) == (rows, samples, readings)
    (kept,) = store.connection.execute("SELECT count(*) FROM kept").fetchone()
    assert store.tables.kept_rows == kept
    assert store.connection.execute("SELECT count(*) FROM blobs").fetchone() == (rows + kept,)
