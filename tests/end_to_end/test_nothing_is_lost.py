"""From PLCs to a TLS broker, with the plug pulled everywhere: every value arrives, or a record says why not."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from gateway.supervisor import now_ms
from tests.broker import Broker, Consumer, Received, mosquitto, require_mosquitto
from tests.end_to_end.books import book_of
from tests.end_to_end.rig import Gateway, Plant, configure, mutual_tls, plant, running

DEVICES = ("press-1", "meter-1", "robot-1")
COUNTERS = {"press-1": "served", "meter-1": "served", "robot-1": "counter"}
WINDOW = 20

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=["mosquitto", "amqtt"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each broker there is; CI has both."""
    name: str = request.param
    if name == "mosquitto" and mosquitto() is None:
        require_mosquitto()
    return name


@dataclass
class Line:
    """A running line: plant, broker, consumer, gateway."""

    plant: Plant
    broker: Broker
    consumer: Consumer
    gateway: Gateway

    async def flows(self) -> None:
        """Wait until every device's readings arrive, from now on."""
        before = len(self.consumer.messages)
        topics = {f"factory/hall-3/{device}/data" for device in DEVICES}
        await self.consumer.until(lambda all_: topics <= {message.topic for message in all_[before:]})

    async def restart_broker(self, seconds: float) -> None:
        """Take the broker away for a while. Its consumer is back before the gateway can be: nothing may pass it by.

        mosquitto keeps the consumer's session; amqtt forgets it, so the gateway is held still meanwhile.
        """
        if self.broker.kind == "mosquitto":
            self.broker.stop()
        else:
            await self._stop_amqtt()
        await asyncio.sleep(seconds)  # the length of the outage
        subscriptions = self.consumer.subscriptions
        if self.broker.kind == "mosquitto":
            self.broker.start()
            await self.consumer.subscribed(subscriptions + 1)
            return
        async with self.gateway.paused():
            self.broker.start()
            await self.consumer.subscribed(subscriptions + 1)

    async def _stop_amqtt(self) -> None:
        """End it once it has delivered what it acknowledged: it acknowledges first, and forgets the rest at its end."""
        async with self.gateway.paused():
            for topic in ("fence/1", "fence/2"):
                before = len(self.consumer.messages)
                self.consumer.publish(topic, b"")
                await self.consumer.until(partial(_has_since, before, topic))
            self.broker.stop()

    async def finish(self) -> dict[str, int]:
        """Let the backlog out, end the gateway cleanly, and wait for all but what still waits on its disk.

        Gives the last seq of each device.
        """
        health = await self.gateway.until(lambda now: now.get("mqtt", {}).get("state") == "connected")
        assert health["ledger"]["unaccounted"] == 0
        await self.gateway.until(lambda now: now["buffer"]["oldest_age_s"] < 2)
        assert await self.gateway.end() == 0, self.gateway.said[-3000:]
        assert self.gateway.unaccounted() == 0
        last, waiting = self.gateway.last_seqs(), self.gateway.waiting_seqs()
        await self.consumer.until(
            lambda all_: all(set(book_of(all_, device).missing(last[device])) <= waiting[device] for device in DEVICES)
        )
        return last

    def check(self, *, kills: int = 0, plc_restarts: bool = False) -> None:
        """The balance: nothing missing, nothing invented, and no more twice than the window allows."""
        for device in DEVICES:
            book = book_of(self.consumer.messages, device)
            assert not book.missing()
            assert not book.holes(COUNTERS[device], may_restart=plc_restarts), self.gateway.said[-3000:]
        twice = sum(book_of(self.consumer.messages, device).messages_with_duplicates for device in DEVICES)
        assert twice <= WINDOW * kills, f"{twice} messages held samples for the second time"


def _has_since(before: int, topic: str, messages: list[Received]) -> bool:
    return topic in {message.topic for message in messages[before:]}


@asynccontextmanager
async def line(folder: Path, kind: str, *, start: bool = True) -> AsyncIterator[Line]:
    """Start everything, with mutual TLS where the broker can ask for it; the gateway only with `start`."""
    mutual = kind == "mosquitto"
    async with plant(folder) as simulated:
        with Broker(folder / "broker", kind=kind, client_certificates=mutual, persistent=True) as broker:
            certificate = dict(zip(("cert_file", "key_file"), broker.client_certificate("consumer"), strict=True))
            consumer = await broker.subscribe("#", **(certificate if mutual else {}))
            tls = mutual_tls(broker) if mutual else {}
            gateway = Gateway(folder, configure(folder, simulated.where, broker, **tls))
            async with running(gateway, start=start):
                yield Line(simulated, broker, consumer, gateway)


async def test_readings_of_every_simulated_plc_arrive_over_verified_tls(tmp_path: Path, kind: str) -> None:
    """The way is whole: each device's counters come without a hole, and the ledger's law holds (P4)."""
    async with line(tmp_path, kind) as there:
        await there.flows()
        await there.finish()
        there.check()
        for device in DEVICES:  # a busy machine may be late, and says so
            assert {gap["reason"] for gap in book_of(there.consumer.messages, device).gaps} <= {"cycles-skipped"}


async def test_a_broker_that_is_gone_for_20_seconds_costs_nothing(tmp_path: Path, kind: str) -> None:
    """P1, P7: polling goes on, every reading of the outage arrives afterwards, none of it twice beyond the window."""
    async with line(tmp_path, kind) as there:
        await there.flows()
        gone = now_ms()
        await there.restart_broker(20)
        back = now_ms()
        await there.flows()
        await there.finish()
        there.check(kills=1)
        for device in DEVICES:
            samples = book_of(there.consumer.messages, device).samples.values()
            polled = sum(gone < sample["ts"] < back and "gap" not in sample for sample in samples)
            assert polled > 25, f"{device} was polled {polled} times in 20 s; it has a cycle of 200 ms"


async def test_20_times_kill_9_at_random_moments_cost_only_what_was_not_committed(tmp_path: Path, kind: str) -> None:
    """P2, P3, P4: after each kill the numbering goes on, a gap tells of the time off, and no seq is missing."""
    kills = 20 if kind == "mosquitto" else 5
    moments = random.Random(20261123)
    async with line(tmp_path, kind) as there:
        await there.flows()
        for _ in range(kills):
            await asyncio.sleep(moments.uniform(0.2, 2.0))  # the moment of the kill
            await there.gateway.end(signal.SIGKILL)
            await there.gateway.start()
        await there.flows()
        health = await there.gateway.health()
        assert health["ledger"]["unaccounted"] == 0
        await there.finish()
        there.check(kills=kills)
        reasons = {gap["reason"] for gap in book_of(there.consumer.messages, "press-1").gaps}
        assert "gateway-stopped" in reasons
        assert "buffer-lost" not in reasons


async def test_plcs_that_stop_and_start_come_back_by_themselves(tmp_path: Path, kind: str) -> None:
    """P6: while a PLC is off its tags are bad, for a named reason; the others go on; it comes back by itself."""
    async with line(tmp_path, kind) as there:
        await there.flows()
        for endpoint, gone in (("modbus", ("press-1", "meter-1")), ("robot-1", ("robot-1",))):
            await there.plant.order(endpoint, "stop")
            await there.gateway.until(
                lambda now, gone=gone: all(now["devices"][device]["state"] == "unreachable" for device in gone)
            )
            others = [device for device in DEVICES if device not in gone]
            health = await there.gateway.health()
            assert all(health["devices"][device]["state"] == "ok" for device in others)
            await there.plant.order(endpoint, "start")
            await there.gateway.until(lambda now: all(now["devices"][device]["state"] == "ok" for device in DEVICES))
        await there.flows()
        await there.finish()
        there.check(plc_restarts=True)
        for device in DEVICES:
            samples = book_of(there.consumer.messages, device).samples.values()
            assert any("*" in sample.get("quality", {}) for sample in samples), f"{device} was never told to be bad"


async def test_it_starts_with_every_plc_and_the_broker_off(tmp_path: Path, kind: str) -> None:
    """P11: nothing answers at the start; health says so and is up; everything comes by itself afterwards."""
    async with line(tmp_path, kind, start=False) as there:
        await there.plant.order("modbus", "stop")
        await there.plant.order("robot-1", "stop")
        there.broker.stop()
        await there.gateway.start()
        health = await there.gateway.until(
            lambda now: (
                all(now["devices"][device]["state"] == "unreachable" for device in DEVICES)
                and now["mqtt"]["state"] == "unreachable"
            )
        )
        assert health["status"] == "failing"
        subscriptions = there.consumer.subscriptions
        async with there.gateway.paused():
            there.broker.start()
            await there.consumer.subscribed(subscriptions + 1)
        await there.plant.order("modbus", "start")
        await there.plant.order("robot-1", "start")
        await there.flows()
        await there.finish()
        there.check(kills=1)
