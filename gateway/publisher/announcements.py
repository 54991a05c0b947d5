"""What is retained at the broker about the gateway and its devices: status, health, states and metas."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.model import DeviceState, Meta
from gateway.publisher.component import BrokerComponent
from gateway.publisher.mqtt import MqttSession
from gateway.publisher.payload import meta as meta_message
from gateway.publisher.payload.json import VERSION, payload_limit
from gateway.publisher.reasons import PublishRefusedError
from gateway.publisher.window import Priority, Window
from gateway.supervisor import Component, now_ms
from gateway.version import VERSION as PROGRAM_VERSION

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outlet:
    """Where one device's messages go: `meta` is what its samples mean from now on, None until it is known."""

    device: str
    topic: str
    component: Component[DeviceState]
    meta: Meta | None = None


@dataclass(frozen=True, slots=True)
class Topics:
    """The gateway's own topics."""

    status: str
    health: str

    @property
    def parts(self) -> str:
        """The filter for further parts of metas, under the usual layout of topics."""
        return f"{self.status.rpartition('/')[0]}/+/meta/+"


class Announcements:
    """The retained messages of one session.

    `parts` remembers over sessions how many parts the meta on a topic has, so that what is left over of a longer
    one can be cleared.
    """

    def __init__(
        self,
        session: MqttSession,
        window: Window,
        component: BrokerComponent,
        *,
        gateway: str,
        name: str,
        topics: Topics,
        outlets: Mapping[str, Outlet],
        health: Callable[[], Mapping[str, Any]],
        health_interval: float,
        max_bytes: int,
        parts: dict[str, int],
    ) -> None:
        self._session = session
        self._window = window
        self._component = component
        self._gateway = gateway
        self._name = name
        self._topics = topics
        self._outlets = outlets
        self._health = health
        self._health_interval = health_interval
        self._max_bytes = max_bytes
        self._parts = parts
        self._since_ms = now_ms()
        self._explained: set[tuple[str, str]] = set()
        self._explaining = asyncio.Lock()
        self._news = asyncio.Event()
        self._changed: set[str] = set()
        self._contradicted = False
        self._health_due = 0.0
        self._last_status: object = None

    def device_changed(self, device: str) -> None:
        """A device has another state."""
        self._changed.add(device)
        self._news.set()

    def look_again(self) -> None:
        """Something may have changed that health tells."""
        self._news.set()

    async def greet(self) -> None:
        """Say `online`, then what each device is and how it is. Returns when the broker has it all."""
        await self._confirm(self._topics.status, self._online())
        metas = [outlet.meta for outlet in self._outlets.values() if outlet.meta is not None]
        pending = [(outlet, await self._post_state(outlet)) for outlet in self._outlets.values()]
        for meta in metas:
            with contextlib.suppress(PublishRefusedError):  # said when its data wants to go out
                await self.explain(meta)
        for outlet, acknowledged in pending:
            await self._accepted(f"{outlet.topic}/state", acknowledged)

    async def explain(self, meta: Meta) -> None:
        """Publish a meta, unless this session has; returns when the broker has it.

        The device's own is retained; one that is not the device's any more says so, and is not.
        Raises PublishRefusedError.
        """
        key = (meta.topic, meta.id)
        if key in self._explained:
            return
        async with self._explaining:
            outlet = self._outlets.get(meta.device)
            current = outlet is not None and (outlet.topic, outlet.meta and outlet.meta.id) == key
            limit = payload_limit(f"{meta.topic}/meta/0000", self._max_bytes, self._session.grants.maximum_packet)
            payloads = meta_message.parts(meta.document, max_bytes=limit, superseded=not current)
            await self._publish_parts(meta.topic, payloads, retain=current)
            self._explained.add(key)

    async def clear(self, topic: str) -> None:
        """Clear what is retained about a device that is gone. Raises PublishRefusedError."""
        for suffix in ("state", "meta", *(f"meta/{part}" for part in range(2, self._parts.pop(topic, 1) + 1))):
            await (await self._post(f"{topic}/{suffix}", b""))

    async def listen(self) -> None:
        """Hear what others say on our own topics: an `offline` that is not ours, a part of a meta that is no more."""
        await self._session.listen(self._topics.status, self._topics.parts)
        while True:
            topic, payload = await self._session.received.get()
            if topic == self._topics.status:
                self._hear_status(payload)
            elif payload:
                await self._hear_part(topic)

    async def run(self) -> None:
        """Tell of changes, and of health in its interval."""
        loop = asyncio.get_running_loop()
        while True:
            await self._tell_states()
            if self._health_interval:
                await self._tell_health(loop.time())
            if self._contradicted:
                self._contradicted = False
                await self._confirm(self._topics.status, self._online())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._health_due if self._health_interval else None):
                    await self._news.wait()
            self._news.clear()

    async def farewell(self) -> None:
        """Say that this is a clean end, and disconnect. What cannot be said in a second stays unsaid."""
        document = {"state": "offline", "session": self._name, "reason": "stopped"}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                if self._session.unacknowledged < self._session.grants.receive_maximum:
                    with contextlib.suppress(PublishRefusedError):
                        await self._session.send(self._topics.status, orjson.dumps(document), retain=True)
                    await self._session.leave()

    async def _publish_parts(self, topic: str, payloads: Sequence[bytes], *, retain: bool) -> None:
        posted = [
            await self._post(meta_message.topic(topic, number), payload, retain=retain)
            for number, payload in enumerate(payloads, start=1)
        ]
        if retain:
            for left_over in range(len(payloads) + 1, self._parts.get(topic, 1) + 1):
                posted.append(await self._post(meta_message.topic(topic, left_over), b""))
            self._parts[topic] = len(payloads)
        for acknowledged in posted:
            await acknowledged

    async def _post(self, topic: str, payload: bytes, *, retain: bool = True) -> asyncio.Future[int]:
        await self._window.acquire(Priority.CONTROL)
        acknowledged = self._session.send(topic, payload, retain=retain)
        acknowledged.add_done_callback(self._free_place)
        return acknowledged

    def _free_place(self, acknowledged: asyncio.Future[int]) -> None:
        self._window.release()
        if not acknowledged.cancelled():
            acknowledged.exception()  # retrieved, though perhaps nobody waits for it any more

    async def _confirm(self, topic: str, document: Mapping[str, Any]) -> None:
        await self._accepted(topic, await self._post(topic, orjson.dumps(document)))

    async def _accepted(self, topic: str, acknowledged: asyncio.Future[int]) -> None:
        try:
            await acknowledged
        except PublishRefusedError as error:
            self._component.refuse(topic, str(error))
        else:
            self._component.accept(topic)

    def _online(self) -> dict[str, Any]:
        return {"state": "online", "session": self._name, "since_ms": self._since_ms, "version": PROGRAM_VERSION}

    async def _post_state(self, outlet: Outlet) -> asyncio.Future[int]:
        self._changed.discard(outlet.device)
        now = outlet.component
        document = {"v": VERSION, "gateway": self._gateway, "device": outlet.device, "state": now.state.value}
        document |= {"since_ms": now.since_ms, "error": now.error, "do": now.do or None}
        return await self._post(f"{outlet.topic}/state", orjson.dumps(document))

    async def _tell_states(self) -> None:
        changed = [self._outlets[device] for device in sorted(self._changed)]
        pending = [(outlet, await self._post_state(outlet)) for outlet in changed]
        for outlet, acknowledged in pending:
            await self._accepted(f"{outlet.topic}/state", acknowledged)

    async def _tell_health(self, now: float) -> None:
        health = self._health()
        if now < self._health_due and health.get("status") == self._last_status:
            return
        self._health_due, self._last_status = now + self._health_interval, health.get("status")
        await self._confirm(self._topics.health, health)
        await self._confirm(self._topics.status, self._online())

    def _hear_status(self, payload: bytes) -> None:
        with contextlib.suppress(orjson.JSONDecodeError):
            said = orjson.loads(payload)
            if isinstance(said, dict) and said.get("state") == "offline" and said.get("session") != self._name:
                self._contradicted = True
                self._news.set()

    async def _hear_part(self, topic: str) -> None:
        base, _, part = topic.rpartition("/meta/")
        if not part.isdecimal():
            return
        if base not in self._parts:  # a device that is gone; cleared when its backlog is
            self._parts[base] = max(int(part), 1)
        elif int(part) > self._parts[base] and any(outlet.topic == base for outlet in self._outlets.values()):
            with contextlib.suppress(PublishRefusedError):
                await (await self._post(topic, b""))
