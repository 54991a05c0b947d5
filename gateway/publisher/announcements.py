"""What is retained at the broker about the gateway and its devices: status, health, states and metas."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.errors import PublishError
from gateway.model import Meta
from gateway.publisher.feed import Feed, Outlet
from gateway.publisher.mqtt import MqttSession
from gateway.publisher.payload import meta as meta_message
from gateway.publisher.payload.json import VERSION, octets, payload_limit
from gateway.publisher.reasons import PublishRefusedError
from gateway.publisher.window import Priority, Window
from gateway.supervisor import now_ms
from gateway.version import VERSION as PROGRAM_VERSION


class Announcements:
    """The retained messages of one session, which has a name."""

    def __init__(self, feed: Feed, session: MqttSession, window: Window, name: str) -> None:
        self._feed = feed
        self._session = session
        self._window = window
        self._name = name
        self._since_ms = now_ms()
        self._explained: set[tuple[str, str]] = set()
        self._explaining = asyncio.Lock()
        self._retained: set[str] = set()
        self._news = asyncio.Event()
        self._changed: set[str] = set()
        self._refused: set[str] = set()
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
        await self._confirm(self._feed.topics.status, self._online())
        states = [(outlet, await self._post_state(outlet)) for outlet in self._feed.outlets.values()]
        metas = [
            (outlet.meta, await self._post_meta(outlet.meta)) for outlet in self._feed.outlets.values() if outlet.meta
        ]
        for meta, parts in metas:
            with contextlib.suppress(PublishRefusedError):  # said when its data wants to go out
                await self._explained_by(meta, parts)
        await self._states_accepted(states)

    async def explain(self, meta: Meta) -> None:
        """Publish a meta, unless this session has; returns when the broker has it.

        The device's own is retained; one that is not the device's any more says so, and is not.
        Raises PublishRefusedError.
        """
        if (meta.topic, meta.id) in self._explained:
            return
        async with self._explaining:
            await self._explained_by(meta, await self._post_meta(meta))

    def meta_changed(self, meta: Meta) -> None:
        """A device has another meta, perhaps one that it had before: it is to be retained."""
        self._explained.discard((meta.topic, meta.id))

    async def clear(self, topic: str) -> None:
        """Clear what is retained about a device that is gone. Raises PublishRefusedError."""
        for suffix in ("state", "meta", *(f"meta/{part}" for part in range(2, self._feed.parts.pop(topic, 1) + 1))):
            await (await self._post(f"{topic}/{suffix}", b""))

    async def listen(self) -> None:
        """Hear what others say on our own topics: an `offline` that is not ours, a part of a meta that is no more."""
        self._session.listen(self._feed.topics.status, self._feed.topics.parts)
        while True:
            topic, payload = await self._session.received.get()
            if topic == self._feed.topics.status:
                self._hear_status(payload)
            elif payload:
                await self._hear_part(topic)

    async def run(self) -> None:
        """Tell of changes, and of health in its interval."""
        loop = asyncio.get_running_loop()
        while True:
            await self._tell_states()
            if self._feed.section.health_interval:
                await self._tell_health(loop.time())
            if self._contradicted:
                self._contradicted = False
                await self._confirm(self._feed.topics.status, self._online())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._health_due if self._feed.section.health_interval else None):
                    await self._news.wait()
            self._news.clear()

    async def farewell(self) -> None:
        """Say that this is a clean end, and disconnect. What cannot be said in a second stays unsaid."""
        document = {"state": "offline", "session": self._name, "reason": "stopped"}
        with contextlib.suppress(TimeoutError, PublishError, PublishRefusedError):
            async with asyncio.timeout(1.0):
                if self._session.unacknowledged < self._session.grants.receive_maximum:
                    await self._session.send(self._feed.topics.status, orjson.dumps(document), retain=True)
                    await self._session.leave()

    async def _post_meta(self, meta: Meta) -> list[asyncio.Future[int]]:
        outlet = self._feed.outlets.get(meta.device)
        now = None if outlet is None else outlet.meta
        current = now is not None and (now.id, now.topic) == (meta.id, meta.topic)
        limit = payload_limit(
            f"{meta.topic}/meta/0000", self._feed.section.max_message_bytes, self._session.grants.maximum_packet
        )
        payloads = meta_message.parts(meta.document, max_bytes=limit, superseded=not current)
        posted = [
            await self._post(meta_message.topic(meta.topic, number), payload, retain=current)
            for number, payload in enumerate(payloads, start=1)
        ]
        if current:
            left_over = range(len(payloads) + 1, self._feed.parts.get(meta.topic, 1) + 1)
            posted += [await self._post(meta_message.topic(meta.topic, number), b"") for number in left_over]
            self._feed.parts[meta.topic] = len(payloads)
            self._retained.add(meta.topic)
        return posted

    async def _explained_by(self, meta: Meta, posted: Sequence[asyncio.Future[int]]) -> None:
        for acknowledged in posted:
            await acknowledged
        self._explained.add((meta.topic, meta.id))

    async def _post(self, topic: str, payload: bytes, *, retain: bool = True) -> asyncio.Future[int]:
        if len(payload) > payload_limit(topic, len(payload), self._session.grants.maximum_packet):
            return _refused(topic, len(payload))
        await self._window.acquire(Priority.CONTROL, octets(topic, payload))
        acknowledged = self._session.send(topic, payload, retain=retain)
        acknowledged.add_done_callback(self._free_place)
        return acknowledged

    def _free_place(self, acknowledged: asyncio.Future[int]) -> None:
        self._window.release()
        if not acknowledged.cancelled():
            acknowledged.exception()  # retrieved, though perhaps nobody waits for it any more

    async def _confirm(self, topic: str, document: Mapping[str, Any]) -> None:
        await self._accepted(topic, await self._post(topic, orjson.dumps(document)))

    async def _accepted(self, topic: str, acknowledged: asyncio.Future[int]) -> bool:
        try:
            await acknowledged
        except PublishRefusedError as error:
            self._feed.component.refuse(topic, str(error))
            return False
        self._feed.component.accept(topic)
        return True

    def _online(self) -> dict[str, Any]:
        return {"state": "online", "session": self._name, "since_ms": self._since_ms, "version": PROGRAM_VERSION}

    async def _post_state(self, outlet: Outlet) -> asyncio.Future[int]:
        self._changed.discard(outlet.device)
        now = outlet.component
        document = {"v": VERSION, "gateway": self._feed.gateway, "device": outlet.device, "state": now.state.value}
        document |= {"since_ms": now.since_ms, "error": now.error, "do": now.do or None}
        return await self._post(f"{outlet.topic}/state", orjson.dumps(document))

    async def _tell_states(self) -> None:
        changed = [self._feed.outlets[device] for device in sorted(self._changed)]
        await self._states_accepted([(outlet, await self._post_state(outlet)) for outlet in changed])

    async def _states_accepted(self, posted: Sequence[tuple[Outlet, asyncio.Future[int]]]) -> None:
        for outlet, acknowledged in posted:
            if not await self._accepted(f"{outlet.topic}/state", acknowledged):
                self._refused.add(outlet.device)

    async def _tell_health(self, now: float) -> None:
        health = self._feed.health()
        if now < self._health_due and health.get("status") == self._last_status:
            return
        self._health_due, self._last_status = now + self._feed.section.health_interval, health.get("status")
        await self._confirm(self._feed.topics.health, health)
        await self._confirm(self._feed.topics.status, self._online())
        if self._refused:  # perhaps they are welcome by now
            self._changed |= self._refused
            self._refused.clear()
            self._news.set()

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
        if base not in self._retained:
            self._feed.parts[base] = max(int(part), self._feed.parts.get(base, 1))
        elif int(part) > self._feed.parts[base]:
            with contextlib.suppress(PublishRefusedError):
                await (await self._post(topic, b""))


def _refused(topic: str, size: int) -> asyncio.Future[int]:
    """Refuse in the broker's place what would make it end the session."""
    refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    refused.set_exception(PublishRefusedError.too_large(topic, size))
    return refused
