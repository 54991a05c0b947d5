"""The benchmarks run; what they find is for `make bench` to tell."""

import pytest

from bench import full_request, opcua_to_mqtt, outage
from tests.broker import require_mosquitto


@pytest.mark.timeout(240)
async def test_a_full_request_is_measured_on_both_sides() -> None:
    figures = await full_request.run(seconds=0.01, rounds=2)
    ratios = figures["CPU, gateway / pymodbus' bare read, each round"]
    assert len(ratios) == 2
    assert all(ratio > 0 for ratio in ratios)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_opcua_notifications_are_measured_on_both_sides() -> None:
    require_mosquitto()
    load = opcua_to_mqtt.Load("few", 20, 100, spread=True)
    figures = await opcua_to_mqtt.run(seconds=1.0, rounds=1, loads=[load])
    assert figures["few: gateway: notifications/s"] > 0
    assert figures["few: gateway: RSS MB"] > 0
    assert len(figures["few: CPU, gateway / bare iterator, each round"]) == 1
    assert figures["few: gateway: longest step, CPU ms"] > 0


@pytest.mark.timeout(240)
async def test_an_outage_is_drained_with_a_quota_and_without() -> None:
    figures = await outage.run(0.05, 1)
    assert figures["100 messages/s: readings of the backlog"] == 2 * 50 * 10
    assert figures["100 messages/s: messages/s in all"] <= 110
    assert figures["no limit: each device's backlog in order"]
