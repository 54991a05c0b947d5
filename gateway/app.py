"""The whole gateway on one page: what runs, and in which order it stops."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway import clock, notify
from gateway.buffer import Buffer, Limits, open_buffer, read_machine_id
from gateway.config.schema import Config
from gateway.drivers.base import DeviceSection, Shared
from gateway.health.certificates import CertificateFiles
from gateway.health.http import Endpoint, serve
from gateway.health.parts import ConfigParts, Parts
from gateway.health.report import report
from gateway.meta import meta_of
from gateway.model import Batch, DeviceState, MqttState
from gateway.poller import DeviceComponent, Poller
from gateway.publisher import BrokerComponent, Publisher
from gateway.supervisor import Backoff, now_ms, supervise
from gateway.version import VERSION

log = logging.getLogger(__name__)

DRAIN_S: Final = 3.0
"""What the broker gets at the end to acknowledge what is under way. What is left waits on disk."""
STUCK_S: Final = 120.0
"""A poller that did nothing for so long, and for ten of its intervals, hangs: the watchdog lets the gateway go."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a config leads to: the parts that `run` starts and stops."""

    config: Config
    buffer: Buffer
    pollers: Sequence[Poller]
    devices: dict[str, DeviceComponent]
    publisher: Publisher
    parts: Parts

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; then stop from south to north, so that nothing on its way is left behind."""
        async with asyncio.TaskGroup() as north:
            committing = north.create_task(self.buffer.run(), name="buffer")
            publishing = north.create_task(
                supervise(self.publisher.component, self.publisher.run_session, broken=MqttState.UNREACHABLE),
                name="publisher",
            )
            feeding = north.create_task(notify.feed_watchdog(self.is_alive), name="watchdog")
            async with asyncio.TaskGroup() as south:
                polling = [
                    south.create_task(
                        supervise(poller.component, poller.attempt, broken=DeviceState.UNREACHABLE),
                        name=poller.component.name,
                    )
                    for poller in self.pollers
                ]
                notify.notify(notify.READY, notify.status(f"{len(self.pollers)} devices"))
                await stop.wait()
                log.info("stopping")
                notify.notify(notify.STOPPING)
                for task in polling:
                    task.cancel()
            await self.buffer.flush()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.publisher.drain(), DRAIN_S)
            publishing.cancel()
            await asyncio.wait([publishing])
            for task in (committing, feeding):
                task.cancel()

    def is_alive(self) -> bool:
        """Whether the gateway does its work: what the watchdog is fed on."""
        now = time.monotonic()
        return self.buffer.answers and all(
            now - device.moved_at < STUCK_S + 10 * device.interval_s for device in self.devices.values()
        )


async def run_gateway(config: Config) -> None:
    """Run the gateway until SIGTERM or SIGINT. Raises StorageError or GatewayError if it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_gateway(config) as (gateway, endpoint):
        tags = sum(device.tags for device in gateway.devices.values())
        log.info(
            "edge-gateway %s: %d devices with %d tags to %s, buffer %s, health at %shealth",
            VERSION, len(gateway.devices), tags, config.mqtt.address, config.buffer.path, endpoint.url,
        )  # fmt: skip
        for text in (*config.warnings, *gateway.parts.insecure):
            log.warning("%s", text)
        await gateway.run(stop)
    log.info("stopped")


@asynccontextmanager
async def open_gateway(config: Config) -> AsyncIterator[tuple[Gateway, Endpoint]]:
    """Open the buffer and the local endpoint, and put the parts together."""
    section = config.buffer
    limits = Limits(section.max_bytes, section.when_full, section.max_age)
    async with open_buffer(section.path, limits, section.commit_interval, read_machine_id()) as buffer:
        gateway = compose(config, buffer)
        async with serve(config.http, gateway.parts) as endpoint:
            yield gateway, endpoint


def compose(config: Config, buffer: Buffer) -> Gateway:
    """Put the parts together; nothing runs yet."""
    shared = Shared(config.gateway.id)
    sections = [section for section in config.devices if section.enabled]
    metas = {section.name: meta_of(config, section) for section in sections}
    synchronised = _Cached(clock.synchronised)
    pollers = [
        Poller(section, metas[section.name], shared, buffer, clock=synchronised) for section in sections
    ]
    devices = {poller.component.name: poller.component for poller in pollers}
    broker = BrokerComponent(config.mqtt.address, tls=config.mqtt.is_encrypted)
    parts = Parts(
        gateway_id=config.gateway.id,
        started=time.monotonic(),
        devices=devices,
        broker=broker,
        buffer=buffer,
        config=ConfigParts(config.hash, now_ms()),
        insecure=_insecure(config),
        certificates=CertificateFiles(_certificate_files(config)),
        clock=synchronised,
    )
    publisher = Publisher(config, buffer, broker, metas, devices, partial(report, parts))
    _tell_time_off(buffer, metas.values())
    return Gateway(config, buffer, pollers, devices, publisher, parts)
