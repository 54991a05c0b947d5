"""P2: what was committed survives a cut of the power at any system call, whatever the disk had not written yet."""

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.crash.disk import Disk
from tests.crash.recording import Create, Resize, Sync, SyncFolder, Write
from tests.crash.replay import crash_test

SEED = 20261125
STATES = 300


@pytest.fixture(autouse=True)
def _strace() -> None:
    if shutil.which("strace") is None:
        if os.environ.get("CI"):
            pytest.fail("strace is missing; .ci/run installs it")
        pytest.skip("strace is not installed")


@pytest.mark.slow
def test_p2_no_committed_batch_is_missing_after_a_cut_of_the_power(tmp_path: Path) -> None:
    verdict = crash_test(SEED, STATES, tmp_path, lines=1500)
    assert verdict.broken == []
    assert verdict.states == STATES
    assert verdict.checked > STATES
    assert verdict.kinds["Sync"] > 30


@pytest.mark.slow
def test_a_buffer_that_does_not_wait_for_the_disk_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: without the sync of each commit, committed batches are missing."""
    monkeypatch.setenv("CARELESS", "1")
    verdict = crash_test(SEED, 60, tmp_path, lines=600)
    assert [fault for fault in verdict.broken if "batches are missing" in fault]


def test_what_was_synced_is_always_there_and_the_rest_in_any_part(tmp_path: Path) -> None:
    class Lot:
        """A chance that always draws the same fate."""

        def __init__(self, kind: str) -> None:
            self.kind = kind

        def choice(self, kinds: tuple[str, ...]) -> str:
            assert self.kind in kinds
            return self.kind

    disk = Disk()
    for event in (Create("a"), Write("a", 0, b"old"), Sync("a"), SyncFolder(), Write("a", 1, b"new"), Resize("a", 2)):
        disk.do(event)
    found = {}
    for kind in ("all", "nothing"):
        folder = tmp_path / kind
        folder.mkdir()
        disk.cut(Lot(kind), folder)  # type: ignore[arg-type]
        found[kind] = (folder / "a").read_bytes()
    assert found == {"all": b"on", "nothing": b"old"}


def test_a_name_that_was_not_synced_may_be_missing_though_its_file_was(tmp_path: Path) -> None:
    disk = Disk()
    for event in (Create("a"), Write("a", 0, b"x"), Sync("a")):
        disk.do(event)
    seen = set()
    for seed in range(50):
        folder = tmp_path / str(seed)
        folder.mkdir()
        disk.cut(random.Random(seed), folder)
        seen.add((folder / "a").exists())
    assert seen == {True, False}
