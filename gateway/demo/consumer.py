"""What a consumer of the data sees: it subscribes at the broker, over TLS, and does its own books."""

import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiomqtt
import orjson


@dataclass(slots=True)
class Received:
    """What came of one device. Samples are counted by their seqs, so that a lost or doubled one shows."""

    state: str = "-"
    epoch: str = ""
    samples: int = 0
    readings: int = 0
    duplicates: int = 0
    gaps: int = 0
    bytes: int = 0
    last_seq: int = 0
    explained: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    newest_ms: int | None = None
    _seen: set[int] = field(default_factory=set)

    @property
    def missing(self) -> int:
        """Seqs from 1 up that neither came nor lie in a gap's range."""
        return self.last_seq - len(self._seen) - self.explained

    @property
    def age_s(self) -> float | None:
        """Age of the newest reading, by its own timestamp."""
        return None if self.newest_ms is None else max(0.0, time.time() - self.newest_ms / 1000)

    def take(self, message: dict[str, Any], size: int) -> None:
        """Enter a data message."""
        if message["epoch"] != self.epoch:
            self.epoch, self.last_seq, self.explained = message["epoch"], 0, 0
            self._seen.clear()
        self.bytes += size
        for sample in message["samples"]:
            self._enter(sample)

    def _enter(self, sample: dict[str, Any]) -> None:
        seq = sample["seq"]
        if seq in self._seen:
            self.duplicates += 1
            return
        self._seen.add(seq)
        self.last_seq = max(self.last_seq, seq)
        if (gap := sample.get("gap")) is not None:
            self.gaps += 1
            if gap.get("first_seq") is not None:
                self.explained += gap["last_seq"] - gap["first_seq"] + 1
            return
        self.samples += 1
        quality = sample.get("quality", {})
        self.readings += len(sample["values"]) + sum(text.startswith("bad:") for text in quality.values())
        self.values |= sample["values"]
        for name in sample["values"]:
            self.bad.pop(name, None)
        self.bad |= quality
        self.newest_ms = max(self.newest_ms or 0, sample["ts"])


class Consumer:
    """A subscriber to everything. `devices` is what came, `health` the gateway's own account of itself."""

    def __init__(self, port: int, ca_file: Path) -> None:
        self.devices: dict[str, Received] = {}
        self.health: dict[str, Any] = {}
        self.messages = 0
        self._client = aiomqtt.Client(
            "localhost",
            port,
            identifier="demo-consumer",
            protocol=aiomqtt.ProtocolVersion.V311,
            tls_context=ssl.create_default_context(cafile=ca_file),
        )

    async def run(self) -> None:
        """Receive until cancelled."""
        async with self._client as client:
            await client.subscribe("#", qos=1)
            async for message in client.messages:
                if isinstance(message.payload, bytes) and message.payload:
                    self._receive(message.topic.value, message.payload)

    def _receive(self, topic: str, payload: bytes) -> None:
        self.messages += 1
        kind = topic.rpartition("/")[2]
        document = orjson.loads(payload)
        if kind == "data":
            self.devices.setdefault(document["device"], Received()).take(document, len(payload))
        elif kind == "state":
            self.devices.setdefault(document["device"], Received()).state = document["state"]
        elif kind == "health":
            self.health = document
