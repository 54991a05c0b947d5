"""P5, P6, P10 on a line where everything goes wrong: never a wrong value, never a dead task, nothing but reads.

A small run; `make fault-test` is the long one, over all transports.
"""

import pytest

from tests.faults.rig import run

READINGS = 20_000
WITHIN_S = 8.0
SEED = 20261125


@pytest.mark.parametrize(("way", "units"), [("tcp", 1), ("tcp", 2), ("rtu", 1), ("rtu", 2)])
async def test_p5_no_fault_of_the_line_makes_a_wrong_value_or_ends_the_polling(way: str, units: int) -> None:
    outcome = await run(way, seed=SEED, readings=READINGS, within_s=WITHIN_S, units=units, share=0.35)
    print(outcome)
    assert outcome.wrong == []
    assert (outcome.dead, outcome.bugs, outcome.nonsense) == ([], [], [])
    assert outcome.codes.keys() == {"1", "2", "3", "4"}
    assert outcome.checked > outcome.readings * 0.1, "the line was so bad that nothing was tested"
    assert len(outcome.faults) > 15, "too few faults came up"
    assert outcome.is_clean
