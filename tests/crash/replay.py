"""States of the buffer's folder after a cut of the power, opened as the gateway opens them and held to its promises."""

import random
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from gateway.buffer import Limits
from gateway.buffer.opening import open_store
from gateway.buffer.store import Store
from gateway.buffer.stored import Stored
from gateway.model import Batch, Ledger, Sample
from tests.crash.disk import Disk
from tests.crash.recording import Event, Said, record

WRITER = Path(__file__).parents[1] / "buffer" / "killed_writer.py"
ROOMY = Limits(64 << 20)
_BEGINNING = 100
"""Events in which a new file is made."""


@dataclass
class Promised:
    """What the process had been told, or had told, up to the moment of a cut."""

    stored: set[int] = field(default_factory=set)
    offered: set[int] = field(default_factory=set)
    """Batches that the broker may have: they may be gone."""
    gone: set[int] = field(default_factory=set)
    """Batches whose deletion was reported to be on disk: they must not come back."""
    _offering: set[int] = field(default_factory=set)

    def hear(self, said: Said) -> None:
        """Take a line of the process."""
        match said.words:
            case ("stored", number):
                self.stored.add(int(number))
            case ("acking", *numbers):
                self._offering = set(map(int, numbers))
                self.offered |= self._offering
            case ("acked",):
                self.gone |= self._offering


@dataclass
class Verdict:
    """What became of a number of states; `broken` says of each that kept no promise what it broke."""

    states: int = 0
    checked: int = 0
    broken: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        calls = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.states} states opened, {self.checked} committed and unacknowledged batches looked for, "
            f"{len(self.broken)} states broken (recorded: {calls})"
        )


def crash_test(seed: int, states: int, folder: Path, *, lines: int = 400) -> Verdict:
    """Record a load with this seed, and open so many states of it after a cut."""
    command = [sys.executable, str(WRITER), str(folder / "live" / "buffer.db"), "1", str(seed)]
    events = record(command, folder / "live", folder / "strace.log", lines=lines)
    verdict = Verdict(kinds=Counter(type(event).__name__ for event in events))
    written = _batches(seed, events)
    chance = random.Random(seed)
    cuts = Counter(_moment(chance, len(events)) for _ in range(states))
    disk, promised = Disk(), Promised()
    for at, event in enumerate(events):
        if isinstance(event, Said):
            promised.hear(event)
        else:
            disk.do(event)
        for number in range(cuts[at]):
            state = folder / "state"
            state.mkdir()
            disk.cut(chance, state)
            if (fault := _judge(state / "buffer.db", promised, written, verdict)) is not None:
                verdict.broken.append(f"seed {seed}, after event {at}, state {number}: {fault}")
            shutil.rmtree(state)
    return verdict


def _moment(chance: random.Random, events: int) -> int:
    """Choose when the power is cut; often while the file is made, where many things happen once."""
    return chance.randrange(min(_BEGINNING, events) if chance.random() < 0.25 else events)


def _batches(seed: int, events: list[Event]) -> dict[int, Batch]:
    """Make again what the process stored, and a little more than it told of."""
    last = max(int(event.words[1]) for event in events if isinstance(event, Said) and event.words[0] == "stored")
    sys.path.insert(0, str(WRITER.parent))
    from killed_writer import groups

    batches: dict[int, Batch] = {}
    for group in islice(groups(1, seed), last + 50):
        batches |= group
        if min(group) > last:
            break
    return batches


def _judge(path: Path, promised: Promised, written: dict[int, Batch], verdict: Verdict) -> str | None:
    """Open a state; say which promise it breaks, None if it keeps them all."""
    verdict.states += 1
    try:
        store = open_store(path, ROOMY, None)
    except (sqlite3.Error, OSError) as error:
        return f"it does not open: {error!r}"
    try:
        if promised.stored and (store.identity.why is not None or list(path.parent.glob("*.aside-*"))):
            return f"its buffer was set aside: {store.identity.why}"
        rows = list(_everything(store))
        return next(_faults(store, rows, promised, written, verdict), None)
    except sqlite3.Error as error:
        return f"it cannot be read: {error!r}"
    finally:
        store.connection.close()


def _faults(
    store: Store, rows: list[Stored], promised: Promised, written: dict[int, Batch], verdict: Verdict
) -> Iterator[str]:
    if store.condemned:
        yield f"{len(store.condemned)} rows cannot be read back"
    found: dict[int, list[Sample]] = {}
    for sample in (sample for row in rows for sample in row.samples):
        if not isinstance(sample, Sample):
            yield f"a gap that nobody caused: {sample}"
        else:
            found.setdefault(sample.ts, []).append(sample)
    owed = promised.stored - promised.offered
    verdict.checked += len(owed)
    if missing := owed - found.keys():
        yield f"{len(missing)} batches are missing, the first is {min(missing)}"
    if back := promised.gone & found.keys():
        yield f"{len(back)} acknowledged batches came back, the first is {min(back)}"
    for number, samples in found.items():
        if number not in written or not _same(samples, written[number]):
            yield f"batch {number} is not what was written"
    yield from _false_books(store, rows)


def _false_books(store: Store, rows: list[Stored]) -> Iterator[str]:
    names = Counter((row.meta.device, row.first_seq + at) for row in rows for at in range(len(row.samples)))
    if names and max(names.values()) > 1:
        yield f"{names.most_common(1)[0]} was given more than once"
    total = sum(store.ledgers().values(), Ledger())
    if total.unaccounted:
        yield f"the ledger does not add up: {total}"
    if total.pending != sum(row.readings for row in rows):
        yield f"the ledger says that {total.pending} readings are pending, there are others"


def _same(samples: list[Sample], batch: Batch) -> bool:
    """Whether these are the batch's samples, which may have been cut into several."""
    return [value for sample in samples for value in sample.values] == [
        value for sample in batch.samples for value in sample.values
    ]


def _everything(store: Store) -> Iterator[Stored]:
    while taken := store.take(0):
        yield from taken
