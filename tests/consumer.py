"""An MQTT client for tests that has nothing to do with the gateway, and collects what arrives."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ARRIVAL_S = 30.0
"""How long a message may take to arrive."""


@dataclass(frozen=True)
class Received:
    """One message as a consumer got it."""

    topic: str
    payload: bytes
    retain: bool
    properties: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{self.topic}{' (retained)' if self.retain else ''}: {self.payload[:100]!r}"


class Consumer:
    """A client that has nothing to do with the gateway: plain paho in a thread, which comes back after restarts."""

    def __init__(
        self,
        address: tuple[str, int],
        filters: tuple[str, ...],
        name: str,
        *,
        ca_file: Path | None,
        v5: bool,
        cert_file: Path | None = None,
        key_file: Path | None = None,
    ) -> None:
        self.messages: list[Received] = []
        self._filters = filters
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._subscriptions = 0
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,  # type: ignore[attr-defined]
            client_id=name,
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
            clean_session=None if v5 else False,
        )
        if ca_file is not None:
            self._client.tls_set(str(ca_file), cert_file and str(cert_file), key_file and str(key_file))
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self._loop.call_soon_threadsafe(self._on_subscribed)
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        session: dict[str, Any] = {}
        if v5:
            session = {"clean_start": False, "properties": Properties(PacketTypes.CONNECT)}
            session["properties"].SessionExpiryInterval = 3600
        self._client.connect(*address, **session)
        self._client.loop_start()

    def on(self, suffix: str) -> list[Received]:
        """Give what arrived on topics that end so."""
        return [message for message in self.messages if message.topic.endswith(suffix)]

    async def until(self, enough: Callable[[list[Received]], object], within: float = ARRIVAL_S) -> list[Received]:
        """Wait until the messages so far are enough; fails with what there is."""
        try:
            async with asyncio.timeout(within):
                while not enough(self.messages):
                    await self._changed.wait()
        except TimeoutError:
            pytest.fail(f"it did not arrive; {len(self.messages)} messages did, the last: {self.messages[-20:]}")
        return self.messages

    @property
    def subscriptions(self) -> int:
        """How often it has subscribed."""
        return self._subscriptions

    async def subscribed(self, times: int = 1) -> None:
        """Wait until it has subscribed so many times: once, and once more after every restart of the broker."""
        async with asyncio.timeout(ARRIVAL_S):
            while self._subscriptions < times:
                await self._changed.wait()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Say something oneself."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(ARRIVAL_S)

    def close(self) -> None:
        """Go."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        client.subscribe([(topic, 1) for topic in self._filters])

    def _on_subscribed(self) -> None:
        self._subscriptions += 1
        self._pulse()

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties.json() if message.properties else {}
        received = Received(message.topic, bytes(message.payload), message.retain, properties)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._arrived, received)

    def _arrived(self, received: Received) -> None:
        self.messages.append(received)
        self._pulse()

    def _pulse(self) -> None:
        self._changed.set()
        self._changed.clear()
