"""What holds for the whole suite."""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine is no failure. In CI, Hypothesis does the same by itself, and repeats the same examples in every run.
settings.register_profile("patient", deadline=None)
if not os.environ.get("CI"):
    settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _no_plc_is_changed(request: pytest.FixtureRequest) -> Iterator[None]:
    """P10: no OPC UA Write, Call or the like has reached any simulator or tapped wire, in any test of the suite."""
    yield
    faults = sys.modules.get("simulators.opcua_faults")  # asyncua is imported only by tests that use it
    if faults is None:
        return
    seen = dict(faults.changes)
    faults.changes.clear()
    if request.node.get_closest_marker("changes_a_plc") is None:
        assert seen == {}, "requests that would change a PLC"
