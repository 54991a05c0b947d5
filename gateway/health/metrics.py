"""The Prometheus text of `/metrics`, computed from one health report: no reading costs anything for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.health.reasons import Status
from gateway.model import DeviceState, MqttState

_PREFIX: Final = "edge_gateway_"


@dataclass(frozen=True, slots=True)
class _Figure:
    """One metric: its name without prefix, where its value is in the section, whether it only counts up."""

    name: str
    key: str
    help: str
    counts: bool = False


_DEVICE: Final = (
    _Figure("device_tags", "tags", "Configured tags."),
    _Figure("device_bad_tags", "bad_tags", "Tags without a good value when last read."),
    _Figure("device_skipped_cycles", "skipped_cycles", "Polls left out because the one before took too long.", True),
    _Figure("device_reconnects", "reconnects", "Connections made after the first.", True),
)
_CYCLE: Final = (
    _Figure("cycle_last_seconds", "last", "Duration of the last poll."),
    _Figure("cycle_p95_seconds", "p95", "95th percentile of the duration of recent polls."),
    _Figure("cycle_interval_seconds", "interval", "Configured interval."),
)
_LEDGER: Final = (
    _Figure("readings_sampled", "sampled", "Readings that were due or notified.", True),
    _Figure("readings_suppressed", "suppressed", "Readings left out by deadband.", True),
    _Figure("readings_acked", "acked", "Readings that the broker acknowledged.", True),
    _Figure("readings_dropped", "dropped", "Readings dropped, each within a gap record.", True),
    _Figure("pending_readings", "pending", "Readings that wait for an acknowledgement."),
    _Figure("unaccounted_readings", "unaccounted", "Readings that the ledger cannot explain: 0, or a bug."),
)
_BUFFER: Final = (
    _Figure("pending_samples", "pending_samples", "Samples that wait for an acknowledgement."),
    _Figure("buffer_bytes", "bytes", "Size of the buffer."),
    _Figure("buffer_max_bytes", "max_bytes", "Configured limit of the buffer."),
    _Figure("buffer_disk_free_bytes", "disk_free_bytes", "Free space on the buffer's file system."),
    _Figure("buffer_oldest_age_seconds", "oldest_age_s", "Age of the oldest pending sample."),
    _Figure("buffer_full_in_seconds", "full_in_s", "When the buffer is full at the present rate; absent if unknown."),
    _Figure("buffer_writable", "writable", "1 while the disk takes readings."),
)
_MQTT: Final = (
    _Figure("mqtt_published_messages", "published", "Messages that the broker acknowledged.", True),
    _Figure("mqtt_rejected_messages", "rejected", "Messages that the broker refused.", True),
    _Figure("mqtt_unmatched_messages", "unmatched", "Messages that nobody subscribed to.", True),
    _Figure("mqtt_set_aside_samples", "set_aside", "Samples that the broker refused for themselves.", True),
    _Figure("mqtt_inflight_messages", "inflight", "Messages that wait for their acknowledgement."),
    _Figure("mqtt_last_ack_age_seconds", "last_ack_age_s", "Time since the last acknowledgement."),
    _Figure("mqtt_tls", "tls", "1 while the connection is configured to be encrypted."),
)


def render(report: Mapping[str, Any], loop_lag_s: float) -> bytes:
    """Write a health report, and the event loop's worst recent lateness, as Prometheus text.

    Takes some milliseconds for dozens of devices: call it in a thread.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(report, loop_lag_s))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, report: Mapping[str, Any], loop_lag_s: float) -> None:
        self._report = report
        self._loop_lag_s = loop_lag_s

    def collect(self) -> Iterable[Metric]:
        report = self._report
        devices = report["devices"]
        yield from _of_gateway(report)
        yield _gauge("event_loop_lag_seconds", "Worst lateness of the event loop in the last minute.", self._loop_lag_s)
        yield _states("device_state", "1 for the state that the device has.", devices)
        yield _last_good(devices)
        yield from _figures(_DEVICE, devices)
        yield from _figures(_CYCLE, {name: device["cycle_s"] for name, device in devices.items()})
        yield from _figures(_LEDGER, {name: device["ledger"] for name, device in devices.items()})
        yield from _figures(_BUFFER, {None: report["buffer"]})
        yield from _figures(_MQTT, {None: report["mqtt"]})
        yield from _of_broker(report["mqtt"]["state"])
        yield _expiries(report["certificates"])


def _of_gateway(report: Mapping[str, Any]) -> Iterable[Metric]:
    build = GaugeMetricFamily(f"{_PREFIX}build_info", "Always 1.", labels=("version", "gateway", "epoch", "config"))
    build.add_metric((report["version"], report["gateway"], report["epoch"], report["config"]["hash"]), 1)
    yield build
    yield _gauge("uptime_seconds", "Time since the start.", report["uptime_s"])
    yield _one_of("status", "1 for the gateway's status.", Status, report["status"])
    reasons = GaugeMetricFamily(f"{_PREFIX}reasons", "How many reasons of a kind health gives.", labels=("code",))
    codes = [reason["code"] for reason in report["reasons"]]
    for code in sorted(set(codes)):
        reasons.add_metric((code,), codes.count(code))
    yield reasons
    if (synchronised := report["clock"]["synchronised"]) is not None:
        yield _gauge("clock_synchronised", "1 while the system's clock is synchronised.", synchronised)


def _of_broker(state: str) -> Iterable[Metric]:
    yield _gauge("mqtt_connected", "1 while the broker is connected.", state == MqttState.CONNECTED)
    yield _one_of("mqtt_state", "1 for the state that the connection to the broker has.", MqttState, state)


def _figures(figures: Iterable[_Figure], sections: Mapping[Any, Mapping[str, Any]]) -> Iterable[Metric]:
    """Give each figure of each section; the sections' keys are the devices' names, or None for the only one."""
    for figure in figures:
        kind = CounterMetricFamily if figure.counts else GaugeMetricFamily
        family = kind(_PREFIX + figure.name, figure.help, labels=() if None in sections else ("device",))
        for name, section in sections.items():
            if (value := section[figure.key]) is not None:
                family.add_metric(() if name is None else (name,), float(value))
        yield family


def _states(name: str, text: str, devices: Mapping[str, Mapping[str, Any]]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=("device", "state"))
    for device, section in devices.items():
        for state in DeviceState:
            family.add_metric((device, state), float(section["state"] == state))
    return family


def _last_good(devices: Mapping[str, Mapping[str, Any]]) -> Metric:
    text = "When a good value last came, in seconds since the Unix epoch."
    family = GaugeMetricFamily(f"{_PREFIX}device_last_good_timestamp_seconds", text, labels=("device",))
    for device, section in devices.items():
        if section["last_good_ms"] is not None:
            family.add_metric((device,), section["last_good_ms"] / 1000)
    return family


def _expiries(certificates: Iterable[Mapping[str, Any]]) -> Metric:
    text = "Until when the certificate is valid, in seconds since the Unix epoch."
    family = GaugeMetricFamily(f"{_PREFIX}certificate_expiry_timestamp_seconds", text, labels=("name",))
    for certificate in certificates:
        family.add_metric((certificate["name"],), certificate["not_after_ms"] / 1000)
    return family


def _one_of(name: str, text: str, states: Iterable[str], present: str) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=(name.rpartition("_")[2],))
    for state in states:
        family.add_metric((state,), float(state == present))
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, text, value=float(value))
