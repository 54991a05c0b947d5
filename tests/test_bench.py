"""The benchmarks run; what they find is for `make bench` to tell."""

import pytest

from bench import full_request


@pytest.mark.timeout(240)
async def test_a_full_request_is_measured_on_both_sides() -> None:
    figures = await full_request.run(seconds=0.01, rounds=2)
    ratios = figures["CPU, gateway / pymodbus' bare read, each round"]
    assert len(ratios) == 2
    assert all(ratio > 0 for ratio in ratios)
