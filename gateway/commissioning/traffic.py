"""How many messages, and how large, a device's config leads to: measured on samples of usual values.

What is assumed: every read is sent, in a message of its own or together with others as `flush_interval` says, with
values of usual length (five digits, a float with a decimal or two, a text three quarters full), all of good quality.
Tags with a deadband may be sent with every read at most, and at heartbeats at least. Counted is what MQTT carries:
topic and payload; TLS, TCP and IP, retransmissions, metas and health come on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.buffer.stored import Stored
from gateway.config.schema import Config
from gateway.drivers.base import DeviceSection, Tag
from gateway.drivers.modbus.tag import ModbusTag
from gateway.meta import meta_of
from gateway.model import Meta, Sample
from gateway.publisher.payload.json import encode_sample, messages
from gateway.shaping import Shaper

DAY_S: Final = 86_400.0
MONTH_DAYS: Final = 30
_TS: Final = 1_763_843_000_123
_SEQ: Final = 1_234_567
_HEADER: Final = 9
"""Bytes of a PUBLISH packet beside topic and payload: fixed header, topic length, packet id, properties' length."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Messages and bytes a second."""

    messages: float
    bytes: float

    def __add__(self, other: "Traffic") -> "Traffic":
        """Add up."""
        return Traffic(self.messages + other.messages, self.bytes + other.bytes)

    def document(self) -> dict[str, float]:
        """Give what a day and a month bring."""
        return {
            "messages_per_day": round(self.messages * DAY_S),
            "mb_per_day": round(self.bytes * DAY_S / 1e6, 3),
            "mb_per_month": round(self.bytes * DAY_S * MONTH_DAYS / 1e6, 3),
        }


NOTHING: Final = Traffic(0.0, 0.0)


def traffic_of(config: Config, section: DeviceSection, polls: Sequence[tuple[tuple[int, ...], float]]) -> Traffic:
    """Give what a device sends if each of its polls, tags and polls a second, is sent."""
    polls = [(columns, rate) for columns, rate in polls if columns]
    if not polls:
        return NOTHING
    meta = meta_of(config, section)
    samples = [(usual_sample(section, columns), rate) for columns, rate in polls]
    rate = sum(rate for _, rate in samples)
    size = sum(rate * (len(encode_sample(meta, sample, _SEQ)) + len(",")) for sample, rate in samples)
    packed = max(min(rate, 1 / config.mqtt.flush_interval) if config.mqtt.flush_interval else rate,
                 size / config.mqtt.max_message_bytes)  # fmt: skip
    return Traffic(packed, size + packed * _envelope(config, meta, samples[0][0]))


def _envelope(config: Config, meta: Meta, sample: Sample) -> int:
    """Give the bytes of a message beside its samples: topic, header, and what stands around them."""
    row = Stored(1, "5f0c2a9e", meta, _SEQ, (sample,), sample.readings)
    (message,) = messages([row], gateway=config.gateway.id, historical=False, max_bytes=1 << 30)
    around = len(message.payload) - len(encode_sample(meta, sample, _SEQ)) - len(",")
    return around + len(f"{message.topic}/data".encode()) + _HEADER


def least_polls(
    section: DeviceSection, polls: Sequence[tuple[tuple[int, ...], float]]
) -> list[tuple[tuple[int, ...], float]]:
    """Give what is sent if nothing changes: tags without deadband at each poll, the others at their heartbeats.

    Those of a device that notifies are all among the others: a server reports changes only.
    """
    notifies = getattr(section, "mode", "") == "subscribe"
    held = {column for column, tag in enumerate(section.tags) if notifies or tag.deadband is not None}
    found = [(tuple(column for column in columns if column not in held), rate) for columns, rate in polls]
    by_heartbeat: dict[float, list[int]] = {}
    for column in sorted(held):
        by_heartbeat.setdefault(section.heartbeat_of(section.tags[column]), []).append(column)
    return [*found, *((tuple(columns), 1 / heartbeat) for heartbeat, columns in by_heartbeat.items())]


def usual_sample(section: DeviceSection, columns: tuple[int, ...]) -> Sample:
    """Make a sample of usual values, shaped as the gateway would."""
    free = section.model_copy(
        update={"tags": tuple(tag.model_copy(update={"min": None, "max": None}) for tag in section.tags)}
    )
    raw = Sample.good(_TS, columns, tuple(_usual(section.tags[column]) for column in columns))
    return Shaper(free).shape(raw, 0.0) or raw


def _usual(tag: Tag) -> Any:
    if tag.map:
        return next(iter(tag.map))
    kind = tag.value_type
    if kind == "bool":
        value: Any = True
    elif kind == "string":
        value = "x" * max(1, 3 * (getattr(tag, "length", None) or 16) // 4)
    elif kind is None or kind.startswith("float"):
        value = 1234.56
    else:
        value = {"int8": 100, "uint8": 100}.get(kind, 12345)
    count = tag.count if isinstance(tag, ModbusTag) else None
    return value if count is None else [value] * count
