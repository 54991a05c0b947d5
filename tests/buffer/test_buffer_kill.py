"""What was reported to be on disk is there after `kill -9` at any moment, unless the broker has it (P2, P4)."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from buffer_cases import assert_lawful, open_at, take_all

from gateway.model import Gap

KILLS = 20
WRITER = Path(__file__).with_name("killed_writer.py")


class Consumer:
    """What the killed process said, over all its lives."""

    def __init__(self) -> None:
        self.stored: set[int] = set()
        self.acknowledged: set[int] = set()
        self.next = 1

    def listen(self, path: Path, seed: int) -> None:
        """Start the process, and kill it after some of its lines, in the middle of whatever it does then."""
        chance = random.Random(seed)
        command = [sys.executable, str(WRITER), str(path), str(self.next), str(seed)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for _ in range(chance.randint(1, 300)):
                self._note(process.stdout.readline())
            process.kill()
            for line in process.stdout:
                self._note(line)
            assert process.stderr.read() == ""

    def _note(self, line: str) -> None:
        if not line.endswith("\n"):
            return  # cut off by the kill: nobody was told
        word, *numbers = line.split()
        if word == "stored":
            self.stored.add(int(numbers[0]))
        elif word == "acking":
            self.acknowledged.update(map(int, numbers))

    def restart(self, path: Path, epoch: str | None) -> str:
        """Open what was left behind, and hold it against what was said."""
        store = open_at(path)
        assert epoch in (None, store.epoch)
        assert_lawful(store)
        rows = take_all(store)
        assert store.condemned == []
        there = {sample.ts for row in rows for sample in row.samples}
        assert not [sample for row in rows for sample in row.samples if isinstance(sample, Gap)]
        assert self.stored - self.acknowledged <= there
        names = [(row.meta.device, row.first_seq + at) for row in rows for at in range(len(row.samples))]
        assert len(set(names)) == len(names)
        self.next = max(self.stored | there, default=0) + 1
        store.close()
        return store.epoch


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_kills_under_load_cost_nothing_that_was_on_disk(tmp_path: Path) -> None:
    consumer, epoch = Consumer(), None
    for seed in range(KILLS):
        consumer.listen(tmp_path / "buffer.db", seed)
        epoch = consumer.restart(tmp_path / "buffer.db", epoch)
    assert len(consumer.stored) > KILLS
    assert consumer.acknowledged
