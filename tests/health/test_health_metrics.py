"""The Prometheus text: every figure of the report, under names that dashboards rely on."""

import asyncio

import aiohttp
from fake_parts import FakeBroker, FakeDevice, expiring, fake_parts
from prometheus_client.parser import text_string_to_metric_families

from gateway.config.local import HttpSection
from gateway.health.http import serve
from gateway.health.lag import LoopLag, ticking
from gateway.health.metrics import render
from gateway.health.report import Parts, report
from gateway.model import DeviceState, MqttState
from gateway.version import VERSION


def samples(parts: Parts, lag: float = 0.0) -> dict[tuple[str, ...], float]:
    """Parse the text into {(name, values of its labels in their order...): value}."""
    families = text_string_to_metric_families(render(report(parts), lag).decode())
    return {
        (each.name, *(value for _, value in sorted(each.labels.items()))): each.value
        for family in families
        for each in family.samples
    }


def test_the_ledger_of_each_device_is_counted() -> None:
    found = samples(fake_parts())
    assert found["edge_gateway_readings_sampled_total", "press-1"] == 93_000
    assert found["edge_gateway_readings_suppressed_total", "press-1"] == 11_800
    assert found["edge_gateway_readings_acked_total", "press-1"] == 81_100
    assert found["edge_gateway_readings_dropped_total", "press-1"] == 0
    assert found["edge_gateway_pending_readings", "press-1"] == 100
    assert found["edge_gateway_unaccounted_readings", "press-1"] == 0


def test_a_device_has_exactly_one_state() -> None:
    found = samples(fake_parts(FakeDevice(state=DeviceState.UNREACHABLE), FakeDevice("press-2")))
    states = {key[1:]: value for key, value in found.items() if key[0] == "edge_gateway_device_state"}
    assert {key for key, value in states.items() if value == 1} == {("press-1", "unreachable"), ("press-2", "ok")}
    assert len(states) == 2 * len(DeviceState)


def test_cycles_tags_and_times_are_there_where_they_are_known() -> None:
    notifying = FakeDevice("robot-2", cycle_last_s=None, cycle_p95_s=None, last_good_ms=None, skipped_cycles=3)
    found = samples(fake_parts(FakeDevice(bad_tags=2), notifying))
    assert found["edge_gateway_cycle_last_seconds", "press-1"] == 0.041
    assert found["edge_gateway_cycle_p95_seconds", "press-1"] == 0.055
    assert found["edge_gateway_cycle_interval_seconds", "press-1"] == 1
    assert found["edge_gateway_device_tags", "press-1"] == 1000
    assert found["edge_gateway_device_bad_tags", "press-1"] == 2
    assert found["edge_gateway_device_last_good_timestamp_seconds", "press-1"] == 1_763_843_009.123
    assert found["edge_gateway_device_skipped_cycles_total", "robot-2"] == 3
    assert ("edge_gateway_cycle_last_seconds", "robot-2") not in found
    assert ("edge_gateway_device_last_good_timestamp_seconds", "robot-2") not in found


def test_broker_buffer_and_gateway_are_told() -> None:
    certificate = expiring("mqtt client", 40)
    broker = FakeBroker(MqttState.UNREACHABLE, error="away", rejected=2, unmatched=3)
    found = samples(fake_parts(broker=broker, clock=lambda: False, certificates=lambda: (certificate,)), 0.012)
    assert found["edge_gateway_mqtt_connected",] == 0
    assert found["edge_gateway_mqtt_state", "unreachable"] == 1
    assert found["edge_gateway_mqtt_published_messages_total",] == 812
    assert found["edge_gateway_mqtt_rejected_messages_total",] == 2
    assert found["edge_gateway_mqtt_unmatched_messages_total",] == 3
    assert found["edge_gateway_buffer_bytes",] == 40_960
    assert found["edge_gateway_buffer_writable",] == 1
    assert found["edge_gateway_status", "degraded"] == 1
    assert found["edge_gateway_reasons", "broker-unreachable"] == 1
    assert found["edge_gateway_clock_synchronised",] == 0
    assert found["edge_gateway_event_loop_lag_seconds",] == 0.012
    assert found["edge_gateway_certificate_expiry_timestamp_seconds", "mqtt client"] == certificate.not_after_ms / 1000
    assert found["edge_gateway_build_info", "77ab01cd", "5f0c2a9e", "hall-3", VERSION] == 1
    assert ("edge_gateway_buffer_full_in_seconds",) not in found
    assert found["process_resident_memory_bytes",] > 0


def test_an_unknown_clock_has_no_figure() -> None:
    assert ("edge_gateway_clock_synchronised",) not in samples(fake_parts(clock=lambda: None))


def test_two_gateways_in_one_process_do_not_meet() -> None:
    first, second = fake_parts(FakeDevice("a")), fake_parts(FakeDevice("b"))
    assert ("edge_gateway_device_tags", "b") not in samples(first)
    assert ("edge_gateway_device_tags", "a") not in samples(second)
    assert samples(first).keys() == samples(first).keys()


async def test_metrics_are_served_as_prometheus_text() -> None:
    async with (
        asyncio.timeout(30),
        serve(HttpSection(listen="127.0.0.1:0"), fake_parts()) as endpoint,
        aiohttp.ClientSession() as client,
        client.get(f"{endpoint.url}metrics") as response,
    ):
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        names = {family.name for family in text_string_to_metric_families(await response.text())}
    assert "edge_gateway_readings_sampled" in names


async def test_the_lag_of_the_event_loop_is_what_blocked_it() -> None:
    lag = LoopLag()
    ticked = asyncio.Event()

    def tick(late_s: float) -> None:
        lag.note(late_s)
        ticked.set()

    with ticking(tick, interval_s=0.01):
        blocked_until = asyncio.get_running_loop().time() + 0.1
        while asyncio.get_running_loop().time() < blocked_until:
            pass
        async with asyncio.timeout(30):
            await ticked.wait()
    assert lag.worst_s >= 0.05
