"""Connect, fault, reconnect leaves no task and no socket behind; `make opcua-fault-test` is the long run."""

from pathlib import Path

import pytest

from tests.faults.opcua_cycles import run

CYCLES = 25
SEED = 20261125


@pytest.mark.timeout(300)
async def test_tasks_and_sockets_are_at_their_old_count_after_many_faults(tmp_path: Path) -> None:
    outcome = await run(tmp_path, seed=SEED, cycles=CYCLES)
    print(outcome)
    assert (outcome.dead, outcome.bugs) == ([], [])
    assert len(outcome.faults) > CYCLES / 4, "too few kinds of fault came up"
    assert outcome.is_clean, outcome
