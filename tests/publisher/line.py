"""A publisher between a fake buffer and a real broker, as one object for tests."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.config.mqtt import MqttSection
from gateway.errors import PublishError
from gateway.model import DeviceState, Meta, MqttState, Sample
from gateway.publisher.component import BrokerComponent
from gateway.publisher.feed import Feed, Outlet, Topics
from gateway.publisher.publisher import Publisher
from gateway.supervisor import Backoff, Component, supervise
from tests.broker import Broker, Received
from tests.publisher.fake_rows import FakeRows

TOPICS = Topics("factory/hall-3/status", "factory/hall-3/health")


def section(broker: Broker, **changes: Any) -> MqttSection:
    """The `mqtt` section for a broker."""
    tls = {"insecure_plaintext": True} if broker.plain else {"ca_file": str(broker.ca_file)} | changes.pop("tls", {})
    protocol: Any = 5 if broker.kind == "mosquitto" else "3.1.1"
    given = {"host": broker.host, "port": broker.port, "tls": tls, "protocol": protocol} | changes
    return MqttSection.model_validate(given)


def meta(
    device: str = "press-1", names: tuple[str, ...] = ("count",), codes: tuple[str, ...] = ("I",), **of: Any
) -> Meta:
    """A meta of a device."""
    identity = of.pop("id", "9c01d2ab")
    document = {"v": 1, "meta": identity, "gateway": "hall-3", "device": device, "tags": {name: {} for name in names}}
    topic = of.pop("topic", f"factory/hall-3/{device}")
    return Meta(identity, device, topic, names, codes, document=orjson.dumps(document), **of)


def sample(*values: Any, ts: int = 1763843000123, **more: Any) -> Sample:
    """A good sample of the first tags."""
    return Sample(ts, tuple(range(len(values))), values, len(values), **more)


def component(device: str) -> Component[DeviceState]:
    """A device's component."""
    return Component(device, DeviceState.CONNECTING, well=frozenset({DeviceState.OK}))


def read(message: Received) -> dict[str, Any]:
    """A message's JSON."""
    document: dict[str, Any] = json.loads(message.payload)
    return document


def samples(messages: list[Received], device: str = "press-1") -> list[dict[str, Any]]:
    """All samples of a device in data messages, in the order of arrival."""
    return [one for message in messages if message.topic.endswith(f"{device}/data") for one in read(message)["samples"]]


class _Observed(BrokerComponent):
    """A broker component that says when its window changes."""

    def __init__(self, address: str, *, tls: bool, pulse: Callable[[], None]) -> None:
        self._pulse = pulse
        super().__init__(address, tls=tls)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "inflight":
            self._pulse()


@dataclass
class Line:
    """A publisher, and what it stands between."""

    mqtt: MqttSection
    rows: FakeRows = field(default_factory=FakeRows)
    metas: list[Meta] = field(default_factory=lambda: [meta()])
    health: dict[str, Any] = field(default_factory=lambda: {"status": "ok"})
    retired: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changed = asyncio.Event()
        self.component = _Observed(self.mqtt.address, tls=not self.mqtt.tls.insecure_plaintext, pulse=self._pulse)
        self.devices = {one.device: component(one.device) for one in self.metas}
        outlets = {one.device: Outlet(one.device, one.topic, self.devices[one.device], one) for one in self.metas}
        feed = Feed(
            self.mqtt, self.rows, self.component, "hall-3", TOPICS, outlets, lambda: self.health, dict(self.retired)
        )
        self.publisher = Publisher(feed, **self.options)
        self.component.listeners.append(self._pulse)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it under the supervisor; on the way out it stops cleanly."""
        async with asyncio.TaskGroup() as group:
            quick = Backoff(0.05, 0.2)
            work = supervise(self.component, self.publisher.run_session, broken=MqttState.UNREACHABLE, backoff=quick)
            task = group.create_task(work, name="publisher")
            try:
                yield
            finally:
                task.cancel()

    async def until(self, state: MqttState) -> None:
        """Wait for a state."""
        async with asyncio.timeout(30):
            while self.component.state is not state:
                await self._changed.wait()

    async def until_refused(self, device: str) -> None:
        """Wait until the broker refuses a device's data."""
        async with asyncio.timeout(30):
            while f"factory/hall-3/{device}" not in self.component.refusals:
                await self._changed.wait()

    async def until_greeted(self) -> None:
        """Wait until all greetings are acknowledged, so that only what comes now is on its way."""
        await self.publisher.drain(30)

    async def until_inflight(self, places: int) -> None:
        """Wait until so many places of the window are taken."""
        async with asyncio.timeout(30):
            while self.component.inflight < places:
                await self._changed.wait()

    async def failure(self) -> PublishError:
        """Run one session that must fail by itself; gives how."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30):
                try:
                    await self.publisher.run_session()
                except PublishError as error:
                    return error
        raise AssertionError("the session did not fail")

    def _pulse(self) -> None:
        self._changed.set()
        self._changed.clear()
