"""Whatever happens in whatever order, every seq is told of exactly once and the ledger's law holds (P2, P3, P4)."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from buffer_cases import MIB, NOW, TINY, assert_lawful, batch_of, bulky, meta_of, open_at
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.buffer import codec
from gateway.buffer.dead_letters import Letter
from gateway.buffer.stored import Stored
from gateway.model import Batch, Gap, Sample

DEVICES = ["press-1", "press-2", "meter-7"]
PICKS = st.lists(st.integers(0, 9999), min_size=1, max_size=60)
Name = tuple[str, str, int]


@st.composite
def batches(draw: st.DrawFn) -> list[Batch]:
    """Give one group commit's batches: small and bulky ones, suppressed readings, gaps, and losses before storing."""
    made = []
    for _ in range(draw(st.integers(1, 12))):
        device, seed = draw(st.sampled_from(DEVICES)), draw(st.integers(0, 999))
        kind = draw(st.sampled_from(["small", "bulky", "bulky", "burst", "suppressed", "gap", "lost"]))
        if kind == "small":
            made.append(batch_of(device, draw(st.integers(1, 50)), suppressed=draw(st.integers(0, 5))))
        elif kind == "bulky":
            made.append(bulky(device, seed, draw(st.sampled_from([100, 270, 500, 900, 2000]))))
        elif kind == "burst":
            one = bulky(device, seed, 600)
            made.append(replace(one, samples=one.samples * 4, sampled=one.sampled * 4))
        elif kind == "suppressed":
            made.append(Batch(meta_of(device), (), 7, 7))
        else:
            lost = seed if kind == "lost" else 0
            reason = draw(st.sampled_from(["cycles-skipped", "source-overflow"]))
            gap = Gap(NOW, reason, {"count": 1, "readings": lost})
            made.append(Batch(meta_of(device), (), lost, gaps=(gap,), dropped=lost))
    return made


@contextlib.contextmanager
def interrupted(connection: sqlite3.Connection, steps: int) -> Iterator[None]:
    """Cut each statement short that takes so many steps of SQLite's machine, though never one that ends a transaction.

    SQLite looks for an interruption once more when a statement is through: COMMIT would fail after it had committed.
    """
    ending = False

    def begin(statement: str) -> None:
        nonlocal ending
        ending = statement in {"COMMIT", "ROLLBACK"}

    connection.set_trace_callback(begin)
    connection.set_progress_handler(lambda: not ending, steps)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_trace_callback(None)


class BufferMachine(RuleBasedStateMachine):
    """A store, and beside it what a consumer has seen of it."""

    when_full = "drop-oldest"
    keep_acked = 0.0

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._limits = replace(TINY, when_full=self.when_full, keep_acked=self.keep_acked)
        self._incarnation = 0
        self._path = self._folder / "0" / "buffer.db"
        self._path.parent.mkdir()
        self._now = 1000.0
        self._start()
        self.sampled: Counter[str] = Counter()
        self.taken: dict[int, Stored] = {}
        self.seen: dict[Name, Sample | Gap] = {}
        self.delivered: dict[str, list[tuple[int, Sample | Gap]]] = {device: [] for device in DEVICES}
        self.delivered_readings = 0
        self.damaged: set[int] = set()
        self.flipped: set[int] = set()

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.store.connection.close()
        shutil.rmtree(self._folder)

    @rule(seconds=st.sampled_from([0.0001, 0.05, 0.2, 40.0, 86400.0]))
    def wait(self, seconds: float) -> None:
        """Time passes only here: the ages in the file take room, and with it decide what has to give way."""
        self._now += seconds

    @rule(group=batches())
    def append(self, group: list[Batch]) -> None:
        self.store.commit(group, (), NOW)
        for batch in group:
            self.sampled[batch.meta.device] += batch.sampled

    @rule(group=batches(), steps=st.integers(1, 3000))
    def fail_to_append(self, group: list[Batch], steps: int) -> None:
        """A commit that is cut short at any point leaves no trace."""
        try:
            with interrupted(self.store.connection, steps):
                self.store.commit(group, (), NOW)
        except sqlite3.OperationalError:
            return
        for batch in group:
            self.sampled[batch.meta.device] += batch.sampled

    @rule(after=st.integers(0, 30), readings=st.sampled_from([1, 1000, 20_000]))
    def take(self, after: int, readings: int) -> None:
        rows = self.store.take(after, readings=readings)
        assert [row.id for row in rows] == sorted(row.id for row in rows)
        for row in rows:
            assert row.id > after
            assert row.id not in self.taken
            assert row.id not in self.damaged
            self._see(row)
            self.taken[row.id] = row

    def _see(self, row: Stored) -> None:
        for seq, sample in enumerate(row.samples, row.first_seq):
            name = (row.epoch, row.meta.device, seq)
            assert self.seen.setdefault(name, sample) == sample, f"{name} meant something else before"

    def _some_taken(self, picks: list[int]) -> list[int]:
        """Choose among what is in flight by numbers: what is drawn must not depend on what a blob's size led to."""
        taken = sorted(self.taken)
        return [taken[pick % len(taken)] for pick in picks] if taken else []

    @rule(picks=PICKS)
    def acknowledge(self, picks: list[int]) -> None:
        """The broker acknowledges some of what is in flight, in any order, and perhaps twice."""
        ids = self._some_taken(picks)
        self.store.commit((), ids, NOW)
        for id_ in set(ids):
            row = self.taken.pop(id_)
            self.delivered[row.meta.device] += enumerate(row.samples, row.first_seq)
            self.delivered_readings += row.readings

    @rule(picks=PICKS)
    def release(self, picks: list[int]) -> None:
        """The connection is lost with some of it in flight."""
        for id_ in set(self._some_taken(picks)):
            self.store.release([id_])
            del self.taken[id_]

    @rule(pick=st.integers(0, 9999))
    def reject(self, pick: int) -> None:
        """The broker can never take a row: it is dropped with a gap record of its own."""
        ids = [id_ for id_ in self._some_taken([pick]) if not isinstance(self.taken[id_].samples[0], Gap)]
        for id_ in ids:
            row = self.taken.pop(id_)
            samples = [(seq, one) for seq, one in enumerate(row.samples, row.first_seq) if isinstance(one, Sample)]
            self.store.set_aside(id_, [Letter(seq, one.ts, one.readings, b"{}") for seq, one in samples])
        self.store.commit((), (), NOW)

    @rule()
    def expire(self) -> None:
        """All that is not in flight has waited too long."""
        self.store.limits = replace(self._limits, max_age=-1.0)
        self.store.commit((), (), NOW)
        self.store.limits = self._limits

    @rule(pick=st.integers(0, 9999), bit=st.integers(0, 1 << 24))
    def damage(self, pick: int, bit: int) -> None:
        """A bit of a stored blob flips; of a gap record, which is kept twice, that of one copy."""
        # Not the same row twice: the second flip might undo the first.
        rows = [row for row, _ in self._rows() if row not in self.taken and row not in self.flipped]
        if not rows:
            return
        chosen = rows[pick % len(rows)]
        execute = self.store.connection.execute
        (blob,) = execute("SELECT blob FROM blobs WHERE id = ?", (chosen,)).fetchone()
        flipped = bytearray(blob)
        bit %= len(blob) * 8
        flipped[bit // 8] ^= 1 << bit % 8
        execute("UPDATE blobs SET blob = ? WHERE id = ?", (bytes(flipped), chosen))
        self.flipped.add(chosen)
        if execute("SELECT gap FROM batches WHERE id = ?", (chosen,)).fetchone()[0] is None:
            self.damaged.add(chosen)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self._resume()

    @rule()
    def crash(self) -> None:
        """The process dies: what is on the disk at this moment is all there is."""
        self._incarnation += 1
        folder = self._folder / str(self._incarnation)
        shutil.copytree(self._path.parent, folder)
        self.store.connection.close()
        self._path = folder / "buffer.db"
        self._resume()

    def _resume(self) -> None:
        epoch = self.store.epoch
        self._start()
        assert self.store.epoch == epoch
        self.taken.clear()
        present = {row for row, _ in self._rows()}  # the numbers of those that are gone may be given again from now on
        self.damaged &= present
        self.flipped &= present

    def _start(self) -> None:
        self.store = open_at(self._path, self._limits, clock=lambda: self._now)
        # A crash here is one of the process, and its files are copied: what only a power cut would need is left out.
        self.store.connection.execute("PRAGMA synchronous=OFF")

    def _rows(self) -> Iterator[tuple[int, bytes | None]]:
        yield from self.store.connection.execute("SELECT id, gap FROM batches").fetchall()

    @invariant()
    def the_ledger_is_lawful(self) -> None:
        assert_lawful(self.store)
        ledgers = self.store.ledgers()
        assert {d: ledger.sampled for d, ledger in ledgers.items() if ledger.sampled} == dict(+self.sampled)
        assert sum(ledger.acked for ledger in ledgers.values()) == self.delivered_readings

    @invariant()
    def the_file_keeps_its_bound(self) -> None:
        (pages,) = self.store.connection.execute("PRAGMA page_count").fetchone()
        assert pages * 4096 <= MIB

    @invariant()
    def what_is_in_flight_is_not_dropped(self) -> None:
        assert set(self.taken) <= {row for row, _ in self._rows()}

    @invariant()
    def every_seq_is_told_of_exactly_once(self) -> None:
        query = (
            "SELECT b.id, s.epoch, s.device, b.first_seq, b.samples, b.gap FROM batches b"
            " JOIN streams s ON s.id = b.stream ORDER BY b.id"
        )
        told = {device: [seq for seq, _ in samples] for device, samples in self.delivered.items()}
        records = {device: [s for _, s in samples if isinstance(s, Gap)] for device, samples in self.delivered.items()}
        newest: Counter[str] = Counter()
        for id_, epoch, device, first_seq, samples, sealed in self.store.connection.execute(query):
            assert first_seq > newest[device], "seqs ascend in the order of storing"
            newest[device] = first_seq + samples - 1
            told[device] += range(first_seq, first_seq + samples)
            if sealed is not None:
                gap = codec.unpack_gap(codec.unseal(sealed, epoch=epoch, device=device, seq=first_seq))
                records[device].append(gap)
                assert self.seen.get((epoch, device, first_seq), gap) == gap, "a gap grew after it was given out"
                assert id_ not in self.damaged
        for device, found in records.items():
            for gap in found:
                if "first_seq" in gap.fields:
                    told[device] += range(gap.fields["first_seq"], gap.fields["last_seq"] + 1)
        for stream in self.store.tables.streams.values():
            assert sorted(told[stream.device]) == list(range(1, stream.next_seq)), stream.device


class FullBufferKeepsTheOld(BufferMachine):
    """The same with drop-newest: what came first stays."""

    when_full = "drop-newest"

    @invariant()
    def nothing_stored_is_dropped_for_room(self) -> None:
        for _, sealed in self._rows():
            if sealed is not None:
                assert b'"buffer-full",{"first_seq"' not in sealed


class KeepsAcknowledged(BufferMachine):
    """The same with acknowledged rows that stay: they are in nobody's way."""

    keep_acked = 3600.0


@pytest.mark.parametrize("machine", [BufferMachine, FullBufferKeepsTheOld, KeepsAcknowledged])
def test_the_buffer_keeps_its_promises_whatever_happens(machine: type[BufferMachine]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
