"""What is not as it should be, each with the place, a sentence for whoever is called at night, and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from gateway.health.parts import BufferLevel, Certificate, DeviceParts, Parts
from gateway.model import DeviceState, MqttState

DAY_MS: Final = 86_400_000
EXPIRY_WARNING_DAYS: Final = 30
FULL_SHARE: Final = 0.8
CLOCK_WARNING_S: Final = 5.0

DOWN: Final = {
    DeviceState.UNREACHABLE: "Check the device's power, its network cable and its address in the config.",
    DeviceState.AUTH_ERROR: "Compare the user name and password in the config with those in the device.",
    DeviceState.CERTIFICATE_ERROR: "Let the device and the gateway trust each other's certificates.",
    DeviceState.CONFIG_ERROR: "Compare the device's section of the config with the device.",
}
"""The states in which a device gives nothing and somebody should act, with what to do if the device does not say."""

_BROKER_DOWN: Final = {
    MqttState.UNREACHABLE: "Check the network uplink, the firewall, and that the broker runs.",
    MqttState.AUTH_ERROR: "Compare user name, password and client_id in the config with the broker's.",
    MqttState.CERTIFICATE_ERROR: "Check mqtt.tls in the config and the broker's certificate.",
}


class Status(StrEnum):
    """The gateway in one word."""

    OK = "ok"
    DEGRADED = "degraded"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that is not as it should be. `status` is the best that the gateway can be while it lasts."""

    code: str
    text: str
    do: str
    device: str | None = None
    status: Status = Status.DEGRADED


def reasons(parts: Parts, now_ms: int) -> list[Reason]:
    """Give everything that is not as it should be, the worst first."""
    clock = parts.clock() is True
    found = [
        *_of_buffer(parts.buffer.status),
        *_of_broker(parts),
        *(reason for name, device in parts.devices.items() for reason in _of_device(name, device, clock=clock)),
        *_of_gateway(parts),
        *_of_certificates(parts, now_ms),
    ]
    return sorted(found, key=lambda reason: list(Status).index(reason.status), reverse=True)


def _of_buffer(level: BufferLevel) -> Iterator[Reason]:
    if not level.writable:
        why = f": {level.error}" if level.error else ""
        yield Reason(
            "buffer-unwritable",
            f"Readings cannot be stored on disk{why}",
            "Free space on the buffer's disk, or replace it. What memory cannot hold until then is lost, and recorded.",
            status=Status.FAILING,
        )
    yield from _of_books(level)
    used = level.bytes - level.kept_bytes
    if used > FULL_SHARE * level.max_bytes:
        share = 100 * used // max(1, level.max_bytes)
        until = "" if level.full_in_s is None else f" and will be full in {spell_duration(level.full_in_s)}"
        yield Reason(
            "buffer-over-80-percent",
            f"The buffer is {share} % full{until}; when it is full, readings are dropped",
            "Bring the connection to the broker back, or raise buffer.max_bytes.",
        )


def _of_books(level: BufferLevel) -> Iterator[Reason]:
    for device, readings in level.unlawful.items():
        yield Reason(
            "ledger-broken",
            f"The ledger of {device} does not explain {readings} readings",
            "Run `edge-gateway buffer verify` and report what it says; polling and publishing go on.",
            device,
            status=Status.FAILING,
        )
    for file, why in level.left_aside.items():
        yield Reason(
            "buffer-set-aside",
            f"{file} was set aside and is left for a person: {why}",
            "If readings in it are wanted: edge-gateway buffer export --file. Then move it away or delete it.",
        )


def _of_broker(parts: Parts) -> Iterator[Reason]:
    broker = parts.broker
    if broker.state in _BROKER_DOWN:
        yield Reason(
            f"broker-{broker.state}",
            f"MQTT broker: {broker.error or f'{broker.address}: {broker.state}'}",
            broker.do or _BROKER_DOWN[broker.state],
        )
    for sentence in broker.refusals.values():
        yield Reason(
            "publish-refused",
            f"MQTT: {sentence}",
            "Allow this gateway's user to publish to the topic. Its readings wait on disk until then.",
        )
    for alarm in broker.alarms:
        yield Reason(alarm.code, f"MQTT: {alarm.text}", alarm.do)
    if broker.unmatched:
        yield Reason(
            "unmatched",
            f"Since the start, {broker.unmatched} of the messages that the broker took had no subscriber",
            "Check that a consumer is subscribed to this gateway's topics.",
            status=Status.OK,
        )


def _of_device(name: str, device: DeviceParts, *, clock: bool) -> Iterator[Reason]:
    if device.state in DOWN:
        text = _named(name, device.error or f"{device.address}: {device.state}")
        yield Reason(f"device-{device.state}", text, device.do or DOWN[device.state], name)
    elif device.state in {DeviceState.OK, DeviceState.DEGRADED}:
        yield from _of_answering_device(name, device)
        if clock:
            yield from _of_clock(name, device)


def _of_answering_device(name: str, device: DeviceParts) -> Iterator[Reason]:
    code = "device-degraded"
    if device.bad_tags:
        do = device.do or "Compare these tags' addresses and types in the config with the PLC's program."
        yield Reason(code, _named(name, device.error or _bad_tags(device)), do, name)
    if device.slowness:
        text = f"{device.slowness}; {device.skipped_cycles} polls were left out"
        yield Reason(code, _named(name, text), "Lengthen the interval, or read fewer tags from this device.", name)
    if device.state is DeviceState.DEGRADED and not device.bad_tags and not device.slowness:
        yield Reason(code, _named(name, device.error or "degraded"), device.do, name)


def _of_clock(name: str, device: DeviceParts) -> Iterator[Reason]:
    """Tell of a device's clock that is wrong; only where ours is known to be right."""
    offset = device.details.get("clock_offset_s")
    if isinstance(offset, int | float) and abs(offset) > CLOCK_WARNING_S:
        direction = "behind" if offset < 0 else "ahead"
        text = f"its clock is {spell_duration(abs(offset))} {direction}; its timestamps may be wrong"
        yield Reason(
            "device-clock", _named(name, text), "Let the device reach a time server, or write timestamp: gateway.", name
        )


def _named(name: str, sentence: str) -> str:
    """Say of which device a sentence speaks, unless it says so itself."""
    return sentence if sentence.startswith(f"{name}: ") else f"{name}: {sentence}"


def _bad_tags(device: DeviceParts) -> str:
    more = ", …" if device.bad_tags > len(device.bad_names) else ""
    listed = f" ({', '.join(device.bad_names)}{more})" if device.bad_names else ""
    return f"{device.bad_tags} of {device.tags} tags are bad{listed}"


def _of_gateway(parts: Parts) -> Iterator[Reason]:
    if parts.config.last_error is not None:
        yield Reason(
            "config-reload-failed",
            f"The new config was refused and the one before stays in force: {parts.config.last_error}",
            "Run `edge-gateway check` on the file, correct it, and reload.",
        )
    if parts.clock() is False:
        yield Reason(
            "clock-unsynchronised",
            "The clock of this computer is not synchronised; timestamps that the gateway makes may be wrong",
            "Let it reach a time server (NTP, UDP port 123), or name one in /etc/systemd/timesyncd.conf.",
        )
    for sentence in parts.insecure:
        yield Reason("insecure-endpoint", sentence, "Turn encryption on, there and in the config.")


def _of_certificates(parts: Parts, now_ms: int) -> Iterator[Reason]:
    for certificate in parts.certificates():
        if days_left(certificate, now_ms) < EXPIRY_WARNING_DAYS:
            yield Reason("certificate-expires", spell_expiry(certificate, now_ms), certificate.do)


def spell_expiry(certificate: Certificate, now_ms: int) -> str:
    """Write for a person until when a certificate is valid."""
    date = datetime.fromtimestamp(certificate.not_after_ms / 1000, UTC).date()
    days = days_left(certificate, now_ms)
    in_days = f"in {days} day{'s' if days != 1 else ''}" if days else "within a day"
    when = f"expired on {date}" if certificate.not_after_ms <= now_ms else f"expires {in_days}, on {date}"
    return f"The certificate '{certificate.name}' {when}"


def days_left(certificate: Certificate, now_ms: int) -> int:
    """Whole days until the certificate expires; negative once it has."""
    return (certificate.not_after_ms - now_ms) // DAY_MS


def spell_duration(seconds: float) -> str:
    """Write a duration for a person, in its largest fitting unit: `45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for length, unit in ((86_400, "days"), (3_600, "h")):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
