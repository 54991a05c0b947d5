"""What /health says: the fields that others rely on, and the sentences for whoever is called at night."""

import orjson
import pytest
from fake_parts import FakeBroker, FakeBuffer, FakeDevice, FakeLevel, expiring, fake_parts

from gateway.health.report import Certificate, ConfigParts, Instant, Parts, report
from gateway.model import DeviceState, Ledger, MqttState
from gateway.publisher.component import Alarm
from gateway.version import VERSION

LEDGER = {"sampled": 93000, "suppressed": 11800, "acked": 81100, "pending": 100, "dropped": 0, "unaccounted": 0}


def codes(parts: Parts) -> list[str]:
    return [reason["code"] for reason in report(parts)["reasons"]]


def test_the_report_of_a_gateway_in_good_order_has_every_field() -> None:
    certificate = Certificate("mqtt client", 1_798_761_600_000)
    parts = fake_parts(started=1000.0, broker=FakeBroker(last_ack=6122.8), certificates=lambda: (certificate,))

    found = report(parts, Instant(6123.2, 1_798_761_600_000 - 40 * 86_400_000))

    assert found == {
        "status": "ok",
        "reasons": [],
        "gateway": "hall-3",
        "version": VERSION,
        "uptime_s": 5123.2,
        "epoch": "5f0c2a9e",
        "clock": {"synchronised": True},
        "config": {"hash": "77ab01cd", "loaded_ms": 1763843000123, "last_error": None},
        "devices": {
            "press-1": {
                "state": "ok",
                "protocol": "modbus-tcp",
                "address": "192.0.2.10:502",
                "since_ms": 1763843000123,
                "last_good_ms": 1763843009123,
                "tags": 1000,
                "bad_tags": 0,
                "cycle_s": {"last": 0.041, "p95": 0.055, "interval": 1.0},
                "skipped_cycles": 0,
                "reconnects": 0,
                "error": None,
                "ledger": LEDGER,
            }
        },
        "buffer": {
            "pending_samples": 0,
            "pending_readings": 0,
            "bytes": 40960,
            "max_bytes": 1073741824,
            "disk_free_bytes": 9999999999,
            "oldest_age_s": 0.0,
            "full_in_s": None,
            "dropped_readings": 0,
            "writable": True,
            "kept_bytes": 0,
            "salvaging": False,
            "set_aside": {},
        },
        "mqtt": {
            "state": "connected",
            "address": "broker.example.com:8883",
            "since_ms": 1763843000123,
            "last_ack_age_s": 0.4,
            "inflight": 1,
            "published": 812,
            "rejected": 0,
            "unmatched": 0,
            "set_aside": 0,
            "error": None,
            "tls": True,
        },
        "certificates": [{"name": "mqtt client", "not_after_ms": 1798761600000, "days_left": 40}],
        "ledger": LEDGER,
    }
    assert orjson.loads(orjson.dumps(found)) == found


def test_the_ledger_adds_up_devices_that_are_no_longer_configured() -> None:
    buffer = FakeBuffer(ledgers={"press-1": Ledger(10, 1, 6, 2, 1), "gone": Ledger(5, 0, 5, 0, 0)})
    found = report(fake_parts(buffer=buffer))
    assert found["ledger"] == {
        "sampled": 15,
        "suppressed": 1,
        "acked": 11,
        "pending": 2,
        "dropped": 1,
        "unaccounted": 0,
    }
    assert found["devices"]["press-1"]["ledger"]["sampled"] == 10


DEVICE_REASONS = [
    (
        FakeDevice(state=DeviceState.UNREACHABLE, error="192.0.2.10:502 does not answer", do="Check power."),
        "device-unreachable",
        "press-1: 192.0.2.10:502 does not answer",
    ),
    (FakeDevice(state=DeviceState.UNREACHABLE, error="press-1: no answer"), "device-unreachable", "press-1: no answer"),
    (FakeDevice(state=DeviceState.UNREACHABLE), "device-unreachable", "press-1: 192.0.2.10:502: unreachable"),
    (FakeDevice(state=DeviceState.AUTH_ERROR, error="wrong password"), "device-auth-error", "press-1: wrong password"),
    (
        FakeDevice(state=DeviceState.CERTIFICATE_ERROR, error="its certificate is not trusted"),
        "device-certificate-error",
        "press-1: its certificate is not trusted",
    ),
    (
        FakeDevice(state=DeviceState.CONFIG_ERROR, error="no node ns=2;i=1"),
        "device-config-error",
        "press-1: no node ns=2;i=1",
    ),
    (
        FakeDevice(state=DeviceState.DEGRADED, bad_tags=3, bad_names=("level", "flow")),
        "device-degraded",
        "press-1: 3 of 1000 tags are bad (level, flow, …)",
    ),
    (
        FakeDevice(state=DeviceState.DEGRADED, bad_tags=1, bad_names=("level",)),
        "device-degraded",
        "press-1: 1 of 1000 tags are bad (level)",
    ),
    (
        FakeDevice(state=DeviceState.DEGRADED, bad_tags=1, error="1 of 9 tags are not good: level (bad:timeout)"),
        "device-degraded",
        "press-1: 1 of 9 tags are not good: level (bad:timeout)",
    ),
    (
        FakeDevice(slowness="the line bus-a needs 1.4 s for a 1 s interval", skipped_cycles=12),
        "device-degraded",
        "press-1: the line bus-a needs 1.4 s for a 1 s interval; 12 polls were left out",
    ),
    (
        FakeDevice(state=DeviceState.DEGRADED, error="the server overflows"),
        "device-degraded",
        "press-1: the server overflows",
    ),
]


@pytest.mark.parametrize(("device", "code", "text"), DEVICE_REASONS)
def test_a_device_that_is_not_well_is_a_reason_that_names_it(device: FakeDevice, code: str, text: str) -> None:
    (reason,) = report(fake_parts(device, FakeDevice("press-2")))["reasons"]
    assert reason["code"] == code
    assert reason["device"] == "press-1"
    assert reason["text"] == text
    assert reason["do"] or device.error == "the server overflows"


def test_what_the_device_itself_says_to_do_comes_before_general_advice() -> None:
    device = FakeDevice(state=DeviceState.UNREACHABLE, error="no answer", do="Switch the PLC to RUN.")
    assert report(fake_parts(device))["reasons"][0]["do"] == "Switch the PLC to RUN."


OTHER_REASONS = [
    (
        {"buffer": FakeBuffer(status=FakeLevel(writable=False, error="/var: disk full"))},
        "failing",
        "buffer-unwritable",
        "Readings cannot be stored on disk: /var: disk full",
    ),
    (
        {"buffer": FakeBuffer(status=FakeLevel(bytes=83, max_bytes=100, full_in_s=12_600.0))},
        "degraded",
        "buffer-over-80-percent",
        "The buffer is 83 % full and will be full in 3.5 h; when it is full, readings are dropped",
    ),
    (
        {"broker": FakeBroker(MqttState.UNREACHABLE, error="broker.example.com:8883 refuses the connection")},
        "degraded",
        "broker-unreachable",
        "MQTT broker: broker.example.com:8883 refuses the connection",
    ),
    (
        {"broker": FakeBroker(MqttState.AUTH_ERROR, error="bad user name or password")},
        "degraded",
        "broker-auth-error",
        "MQTT broker: bad user name or password",
    ),
    (
        {"broker": FakeBroker(MqttState.CERTIFICATE_ERROR, error="its certificate expired on 2026-01-01")},
        "degraded",
        "broker-certificate-error",
        "MQTT broker: its certificate expired on 2026-01-01",
    ),
    (
        {"broker": FakeBroker(refusals={"f/p/data": "the broker refuses f/p/data: not authorised (0x87)"})},
        "degraded",
        "publish-refused",
        "MQTT: the broker refuses f/p/data: not authorised (0x87)",
    ),
    (
        {"broker": FakeBroker(alarms=(Alarm("broker-quota", "it gets 12 messages a second now", "Raise it.", 60.0),))},
        "degraded",
        "broker-quota",
        "MQTT: it gets 12 messages a second now",
    ),
    (
        {"broker": FakeBroker(unmatched=7)},
        "ok",
        "unmatched",
        "Since the start, 7 of the messages that the broker took had no subscriber",
    ),
    (
        {"config": ConfigParts("77ab01cd", 0, "gateway.yaml:3:1: unknown key")},
        "degraded",
        "config-reload-failed",
        "The new config was refused and the one before stays in force: gateway.yaml:3:1: unknown key",
    ),
    (
        {"clock": lambda: False},
        "degraded",
        "clock-unsynchronised",
        "The clock of this computer is not synchronised; timestamps that the gateway makes may be wrong",
    ),
    (
        {"insecure": ("mqtt: broker.example.com:1883 is not encrypted",)},
        "degraded",
        "insecure-endpoint",
        "mqtt: broker.example.com:1883 is not encrypted",
    ),
]


@pytest.mark.parametrize(("changes", "status", "code", "text"), OTHER_REASONS)
def test_each_thing_that_is_wrong_is_a_reason(changes: dict[str, object], status: str, code: str, text: str) -> None:
    found = report(fake_parts(**changes))
    (reason,) = found["reasons"]
    assert (found["status"], reason["code"], reason["text"]) == (status, code, text)
    assert reason["do"]
    assert "device" not in reason


@pytest.mark.parametrize(
    ("days", "words"), [(29.5, "expires in 29 days"), (0.5, "expires within a day"), (-1, "expired")]
)
def test_a_certificate_is_a_reason_from_thirty_days_before_its_end(days: float, words: str) -> None:
    found = report(fake_parts(certificates=lambda: (expiring("mqtt client", days), expiring("opcua", 31))))
    assert found["status"] == "degraded"
    assert [reason["code"] for reason in found["reasons"]] == ["certificate-expires"]
    assert f"The certificate 'mqtt client' {words}" in found["reasons"][0]["text"]


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (("unreachable", "auth-error"), "failing"),
        (("unreachable", "ok"), "degraded"),
        (("unreachable", "connecting"), "degraded"),
        (("connecting", "connecting"), "ok"),
        (("unreachable", "paused"), "failing"),
        (("paused", "stopped"), "ok"),
    ],
)
def test_the_gateway_fails_when_every_critical_device_is_down(states: tuple[str, str], status: str) -> None:
    first, second = (FakeDevice(f"press-{n}", DeviceState(state)) for n, state in enumerate(states))
    assert report(fake_parts(first, second))["status"] == status


def test_a_device_that_is_not_critical_never_makes_the_gateway_fail() -> None:
    alone = FakeDevice(state=DeviceState.UNREACHABLE, critical=False)
    assert report(fake_parts(alone))["status"] == "degraded"
    critical = FakeDevice("press-2", state=DeviceState.UNREACHABLE)
    assert report(fake_parts(critical, FakeDevice(critical=False)))["status"] == "failing"


def test_a_broker_that_is_away_only_degrades_since_readings_wait_on_disk() -> None:
    assert report(fake_parts(broker=FakeBroker(MqttState.UNREACHABLE, error="away")))["status"] == "degraded"


def test_an_unknown_clock_degrades_nothing() -> None:
    found = report(fake_parts(clock=lambda: None))
    assert (found["status"], found["clock"]) == ("ok", {"synchronised": None})


def test_the_worst_reason_comes_first() -> None:
    parts = fake_parts(
        broker=FakeBroker(unmatched=1), buffer=FakeBuffer(status=FakeLevel(writable=False)), clock=lambda: False
    )
    assert codes(parts) == ["buffer-unwritable", "clock-unsynchronised", "unmatched"]


def test_a_broker_that_never_acknowledged_has_no_age() -> None:
    assert report(fake_parts(broker=FakeBroker(last_ack=None)))["mqtt"]["last_ack_age_s"] is None


def test_a_device_that_is_down_is_not_told_again_for_its_tags_and_cycles() -> None:
    device = FakeDevice(state=DeviceState.UNREACHABLE, bad_tags=1000, slowness="a poll takes 9 s")
    assert codes(fake_parts(device)) == ["device-unreachable"]


def test_what_is_only_kept_for_a_resend_does_not_make_the_buffer_full() -> None:
    level = FakeLevel(bytes=1_000_000_000, kept_bytes=900_000_000)
    assert codes(fake_parts(buffer=FakeBuffer(status=level))) == []


def test_a_ledger_that_does_not_add_up_is_a_failure_that_names_the_device() -> None:
    parts = fake_parts(buffer=FakeBuffer(status=FakeLevel(unlawful={"press-1": 3})))
    told = report(parts)
    assert (told["status"], told["reasons"][0]["code"]) == ("failing", "ledger-broken")
    assert told["reasons"][0]["text"] == "The ledger of press-1 does not explain 3 readings"


def test_a_file_that_was_left_aside_degrades_until_a_person_has_seen_to_it() -> None:
    parts = fake_parts(buffer=FakeBuffer(status=FakeLevel(left_aside={"buffer.db.aside-1": "it is no buffer"})))
    told = report(parts)
    assert (told["status"], told["buffer"]["set_aside"]) == ("degraded", {"buffer.db.aside-1": "it is no buffer"})
    assert told["reasons"][0]["code"] == "buffer-set-aside"
