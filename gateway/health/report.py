"""The JSON of `/health` and of the health topic, computed from the live parts."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from gateway.health.parts import (
    BrokerParts,
    BufferLevel,
    BufferParts,
    Certificate,
    ConfigParts,
    DeviceParts,
    Parts,
)
from gateway.health.reasons import DOWN, Reason, Status, days_left, reasons
from gateway.model import DeviceState, Ledger
from gateway.version import VERSION


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks: monotonic seconds, and ms since the Unix epoch."""

    monotonic: float
    ms: int

    @classmethod
    def now(cls) -> Self:
        """Read both clocks."""
        return cls(time.monotonic(), time.time_ns() // 1_000_000)


def report(parts: Parts, at: Instant | None = None) -> dict[str, Any]:
    """Say how the gateway is: status, reasons with what to do, and the figures of every part."""
    at = at or Instant.now()
    found = reasons(parts, at.ms)
    ledgers = parts.buffer.ledgers
    return {
        "status": status_of(parts.devices, found),
        "reasons": [_reason(reason) for reason in found],
        "gateway": parts.gateway_id,
        "version": VERSION,
        "uptime_s": round(at.monotonic - parts.started, 1),
        "epoch": parts.buffer.epoch,
        "clock": {"synchronised": parts.clock()},
        "config": {
            "hash": parts.config.hash,
            "loaded_ms": parts.config.loaded_ms,
            "last_error": parts.config.last_error,
        },
        "devices": {name: _device(device, ledgers.get(name, Ledger())) for name, device in parts.devices.items()},
        "buffer": _buffer(parts.buffer.status),
        "mqtt": _broker(parts.broker, at),
        "certificates": [_certificate(certificate, at) for certificate in parts.certificates()],
        "ledger": _ledger(sum(ledgers.values(), Ledger())),
    }


def status_of(devices: Mapping[str, DeviceParts], found: Iterable[Reason]) -> Status:
    """Give the worst that the reasons say; `failing` too when no critical device gives anything.

    A device that is connecting is not down yet; one that was paused or stopped on purpose does not count.
    """
    counting = [
        device.state
        for device in devices.values()
        if device.critical and device.state not in {DeviceState.PAUSED, DeviceState.STOPPED}
    ]
    if counting and all(state in DOWN for state in counting):
        return Status.FAILING
    return max((reason.status for reason in found), key=list(Status).index, default=Status.OK)


def _reason(reason: Reason) -> dict[str, str]:
    device = {} if reason.device is None else {"device": reason.device}
    return {"code": reason.code, **device, "text": reason.text, "do": reason.do}


def _device(device: DeviceParts, ledger: Ledger) -> dict[str, Any]:
    details = {"connection": dict(device.details)} if device.details else {}
    return {
        "state": device.state,
        "protocol": device.protocol,
        "address": device.address,
        "since_ms": device.since_ms,
        "last_good_ms": device.last_good_ms,
        "tags": device.tags,
        "bad_tags": device.bad_tags,
        "cycle_s": {
            "last": _rounded(device.cycle_last_s),
            "p95": _rounded(device.cycle_p95_s),
            "interval": device.interval_s,
        },
        "skipped_cycles": device.skipped_cycles,
        "reconnects": device.reconnects,
        "error": device.error,
        **details,
        "ledger": _ledger(ledger),
    }


def _buffer(level: BufferLevel) -> dict[str, Any]:
    return {
        "pending_samples": level.pending_samples,
        "pending_readings": level.pending_readings,
        "bytes": level.bytes,
        "max_bytes": level.max_bytes,
        "disk_free_bytes": level.disk_free_bytes,
        "oldest_age_s": _rounded(level.oldest_age_s),
        "full_in_s": _rounded(level.full_in_s),
        "dropped_readings": level.dropped_readings,
        "writable": level.writable,
        "kept_bytes": level.kept_bytes,
        "salvaging": level.salvaging,
        "set_aside": dict(level.left_aside),
    }


def _broker(broker: BrokerParts, at: Instant) -> dict[str, Any]:
    return {
        "state": broker.state,
        "address": broker.address,
        "since_ms": broker.since_ms,
        "last_ack_age_s": None if broker.last_ack is None else _rounded(at.monotonic - broker.last_ack),
        "inflight": broker.inflight,
        "published": broker.published,
        "rejected": broker.rejected,
        "unmatched": broker.unmatched,
        "set_aside": broker.set_aside,
        "error": broker.error,
        "tls": broker.tls,
    }


def _certificate(certificate: Certificate, at: Instant) -> dict[str, Any]:
    return {
        "name": certificate.name,
        "not_after_ms": certificate.not_after_ms,
        "days_left": days_left(certificate, at.ms),
    }


def _ledger(ledger: Ledger) -> dict[str, int]:
    return {
        "sampled": ledger.sampled,
        "suppressed": ledger.suppressed,
        "acked": ledger.acked,
        "pending": ledger.pending,
        "dropped": ledger.dropped,
        "unaccounted": ledger.unaccounted,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


__all__ = [
    "BrokerParts",
    "BufferLevel",
    "BufferParts",
    "Certificate",
    "ConfigParts",
    "DeviceParts",
    "Instant",
    "Parts",
    "Status",
    "report",
    "status_of",
]
