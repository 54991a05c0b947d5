"""Data messages as JSON: rows in, encoded messages out; pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.buffer.dead_letters import Letter
from gateway.buffer.stored import Stored
from gateway.model import FLOAT32, Gap, Meta, Sample, Value
from gateway.publisher.payload import Message
from gateway.publisher.payload.coding import compress
from gateway.publisher.payload.floats import shortest

VERSION: Final = 1
_NO_LIMITS: Final[Mapping[int, int]] = {}
_PACKET_OVERHEAD: Final = 64
"""What an MQTT packet adds to topic and payload, generously: headers, lengths, packet id and properties."""


def messages(
    rows: Iterable[Stored],
    *,
    gateway: str,
    historical: bool,
    max_bytes: int,
    max_packet: int | None = None,
    aim: int | None = None,
    compression: str = "none",
    most: Mapping[int, int] = _NO_LIMITS,
) -> list[Message]:
    """Pack rows into messages of one device, epoch and meta each, as full as `max_bytes` of payload allow.

    `max_packet` is the broker's Maximum Packet Size (MQTT 5.0 section 3.2.2.3.6). `aim` asks for smaller messages
    than that. A device's samples keep their order. A sample is never cut: a message of a single one may exceed the
    limit, and says that it does not fit. Compression comes last: messages are filled by what they are without it.
    `most` says how many samples of some rows, by their ids, may go into one message.
    """
    style = _Style(gateway, historical, aim or max_bytes, compression)
    packed: list[Message] = []
    open_messages: dict[str, _OpenMessage] = {}
    for row in rows:
        current = open_messages.get(row.meta.device)
        if current is None or not current.takes(row, most.get(row.id)):
            if current is not None:
                packed += current.close()
            limit = payload_limit(row.meta.topic, max_bytes, max_packet)
            current = open_messages[row.meta.device] = _OpenMessage(row, style, limit, most.get(row.id))
        packed += current.add(row)
    for current in open_messages.values():
        packed += current.close()
    return packed


def payload_limit(topic: str, max_bytes: int, max_packet: int | None) -> int:
    """Give the largest payload, in bytes, that may be sent on a topic or on one that its suffix makes."""
    if max_packet is None:
        return max_bytes
    return min(max_bytes, max_packet - len(topic.encode()) - _PACKET_OVERHEAD)


def octets(topic: str, payload: bytes) -> int:
    """Say about how many octets a message is on its way, without what TLS and IP add."""
    return len(topic.encode()) + len(payload) + _PACKET_OVERHEAD


def encode_sample(meta: Meta, sample: Sample | Gap, seq: int) -> bytes:
    """Encode one sample or gap record. `meta` names the columns and tells which of them are 32-bit floats."""
    if isinstance(sample, Gap):
        return orjson.dumps({"seq": seq, "ts": sample.ts, "gap": {"reason": sample.reason, **sample.fields}})
    document: dict[str, Any] = {"seq": seq, "ts": sample.ts}
    if sample.rx is not None:
        document["rx"] = sample.rx
    if sample.clock is not None:
        document["clock"] = sample.clock
    if sample.origin is not None:
        document["origin"] = sample.origin
    document["values"] = dict(zip(_names(meta, sample.columns), _values(meta, sample), strict=True))
    if sample.quality:
        document["quality"] = dict(sample.quality)
    return orjson.dumps(document)


def _names(meta: Meta, columns: Sequence[int]) -> Iterable[str]:
    # Columns ascend, so as many as there are tags are all of them.
    return meta.names if len(columns) == len(meta.names) else map(meta.names.__getitem__, columns)


def _values(meta: Meta, sample: Sample) -> Sequence[Value]:
    if not meta.has_float32:
        return sample.values
    codes = meta.codes
    places = [place for place, column in enumerate(sample.columns) if codes[column] == FLOAT32]
    if len(places) == len(sample.values):
        return shortest(sample.values)
    values = list(sample.values)
    for place, value in zip(places, shortest([values[place] for place in places]), strict=True):
        values[place] = value
    return values


def _head(row: Stored, gateway: str, historical: bool) -> bytes:
    head: dict[str, Any] = {"v": VERSION, "gateway": gateway, "device": row.meta.device}
    head |= {"epoch": row.epoch, "meta": row.meta.id}
    if row.meta.labels:
        head["labels"] = dict(row.meta.labels)
    if historical:
        head["historical"] = True
    return orjson.dumps(head)[:-1] + b',"samples":['


def _letter(seq: int, sample: Sample | Gap, encoded: bytes) -> Letter:
    if isinstance(sample, Gap):
        return Letter(seq, sample.ts, 0, encoded, is_gap=True)
    return Letter(seq, sample.ts, sample.readings, encoded)


@dataclass(frozen=True, slots=True)
class _Style:
    """What all messages of one lane have in common; they become no larger than `aim` if they can help it."""

    gateway: str
    historical: bool
    aim: int
    compression: str


class _OpenMessage:
    """A message that is being filled."""

    def __init__(self, row: Stored, style: _Style, limit: int, most: int | None) -> None:
        self._epoch, self._meta = row.epoch, row.meta
        self._head = _head(row, style.gateway, style.historical)
        self._limit = limit
        self._aim = min(limit, style.aim)
        self._compression = style.compression
        self._most = most
        self._empty()

    def _empty(self) -> None:
        self._samples: list[bytes] = []
        self._rows: dict[int, int] = {}
        self._first: tuple[int, Sample | Gap]
        self._size = len(self._head) + len(b"]}")

    def takes(self, row: Stored, most: int | None) -> bool:
        """Whether the row's samples, of which `most` go together, may stand in this message."""
        if most != self._most:
            return False
        ours, theirs = self._meta, row.meta
        return (self._epoch, ours.id, ours.topic, ours.labels) == (row.epoch, theirs.id, theirs.topic, theirs.labels)

    def add(self, row: Stored) -> Iterator[Message]:
        """Add a row's samples; gives the messages that are full."""
        for seq, sample in enumerate(row.samples, start=row.first_seq):
            encoded = encode_sample(self._meta, sample, seq)
            if self._size + len(encoded) > self._aim or len(self._samples) == self._most:
                yield from self.close()
            if not self._samples:
                self._first = (seq, sample)
            self._samples.append(encoded)
            self._size += len(encoded) + len(b",")
            self._rows[row.id] = row.readings

    def close(self) -> Iterator[Message]:
        """Give what is there as a message, if anything is, and start anew."""
        if self._samples:
            payload, coding = compress(self._head + b",".join(self._samples) + b"]}", self._compression)
            rows, readings = tuple(self._rows), sum(self._rows.values())
            fits = len(payload) <= self._limit
            count = len(self._samples)
            letter = _letter(*self._first, self._samples[0]) if count == 1 else None
            yield Message(self._meta.topic, payload, self._meta, rows, readings, fits, coding, count, letter)
        self._empty()
