"""A gateway that is killed loses nothing that node-opcua still holds. `make opcua-kill-test` does it 50 times."""

from pathlib import Path

import pytest

from tests.broker import require_mosquitto
from tests.interop.node_opcua import require_node
from tests.interop.opcua_kills import run


@pytest.mark.slow
async def test_a_few_kills_between_notification_and_commit_lose_nothing(tmp_path: Path) -> None:
    """P1, towards the PLC, and P3."""
    require_mosquitto()
    require_node()
    outcome = await run(tmp_path, kills=2, seed=4)
    assert outcome.is_clean, outcome
    assert not outcome.in_gaps, outcome
