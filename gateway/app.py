"""The whole gateway on one page: what runs, and in which order it stops."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from gateway import clock, notify
from gateway.buffer import Buffer, Limits, open_buffer, read_machine_id
from gateway.config.schema import Config
from gateway.control import server as control
from gateway.control.desk import Desk
from gateway.drivers.base import DeviceSection, Shared
from gateway.files import CertificateFile
from gateway.garbage import settled
from gateway.health.certificates import CertificateFiles
from gateway.health.expiry import tell_of_expiry
from gateway.health.http import Endpoint, serve
from gateway.health.parts import ConfigParts, Parts
from gateway.health.report import report
from gateway.meta import meta_of
from gateway.model import Batch, DeviceState, Meta, MqttState
from gateway.poller import Changed, DeviceComponent, Poller
from gateway.publisher.buffer_desk import BufferDesk
from gateway.publisher.component import BrokerComponent
from gateway.publisher.feed import Feed, Outlet, Topics
from gateway.publisher.publisher import Publisher
from gateway.schedule import spread
from gateway.supervisor import now_ms, supervise
from gateway.version import VERSION

log = logging.getLogger(__name__)

DRAIN_S: Final = 3.0
"""From the signal on, how long the broker gets to acknowledge what is under way. What is left waits on disk."""
STUCK_S: Final = 600.0
"""A poller that did nothing for so long, and for ten of its intervals and time-outs, may hang.

To look through a large OPC UA server at connect (`browse`) may take some minutes.
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a config leads to: the parts that `run` starts and stops."""

    buffer: Buffer
    pollers: Sequence[Poller]
    broker: BrokerComponent
    publisher: Publisher
    parts: Parts
    desk: Desk

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set; then stop from south to north, so that nothing on its way is left behind."""
        async with asyncio.TaskGroup() as north:
            committing = north.create_task(self.buffer.run(), name="buffer")
            publishing = north.create_task(
                supervise(self.broker, self.publisher.run_session, broken=MqttState.UNREACHABLE),
                name="publisher",
            )
            feeding = north.create_task(notify.feed_watchdog(self.is_alive), name="watchdog")
            telling = north.create_task(tell_of_expiry(self.parts.certificates), name="certificates")
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
                stopped_by = asyncio.get_running_loop().time() + DRAIN_S
                log.info("stopping")
                notify.notify(notify.STOPPING)
                for task in polling:
                    task.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(stopped_by):
                    await self.buffer.flush()
                    await self.publisher.drain(DRAIN_S)
            publishing.cancel()
            await asyncio.wait([publishing])
            for task in (committing, feeding, telling):
                task.cancel()

    def is_alive(self) -> bool:
        """Whether the gateway does its work: what the watchdog is fed on.

        One poller that goes on is enough: others may wait for their turn on a line full of silent units.
        """
        now = time.monotonic()
        return self.buffer.answers and any(
            now - poller.component.moved_at < STUCK_S + poller.component.patience_s for poller in self.pollers
        )


async def run_gateway(config: Config) -> None:
    """Run the gateway until SIGTERM or SIGINT. Raises StorageError or GatewayError if it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # whose default action would end the gateway without a flush
    async with open_gateway(config) as (gateway, endpoint):
        loop.add_signal_handler(signal.SIGHUP, _refuse_reload, gateway.parts.config)
        tags = sum(poller.component.tags for poller in gateway.pollers)
        log.info(
            "edge-gateway %s: devices: %d, tags: %d, broker: %s, buffer: %s, health: %shealth",
            VERSION, len(gateway.pollers), tags, config.mqtt.address, config.buffer.path, endpoint.url,
        )  # fmt: skip
        for text in (*config.warnings, *gateway.parts.insecure):
            log.warning("%s", text)
        with settled():
            await gateway.run(stop)
    log.info("stopped")


@asynccontextmanager
async def open_gateway(config: Config) -> AsyncIterator[tuple[Gateway, Endpoint]]:
    """Open the buffer, the local endpoint and the control socket, and put the parts together."""
    section = config.buffer
    limits = Limits(section.max_bytes, section.when_full, section.max_age, section.keep_acked)
    async with open_buffer(section.path, limits, section.commit_interval, read_machine_id()) as buffer:
        gateway = compose(config, buffer)
        asked_for = "socket" in config.control.model_fields_set
        async with (
            serve(config.http, gateway.parts) as endpoint,
            control.serve(config.control.socket, gateway.desk.visit, expected=asked_for),
        ):
            yield gateway, endpoint


def compose(config: Config, buffer: Buffer) -> Gateway:
    """Put the parts together; nothing runs yet."""
    shared = Shared(config.gateway.id, bookmarks=buffer.bookmarks)
    sections = [section for section in config.devices if section.enabled]
    metas = [meta_of(config, section) for section in sections]
    synchronised = clock.Remembered()
    publishers: list[Publisher] = []

    def announce(meta: Meta) -> None:
        publishers[0].use(meta)

    changed = Changed(partial(meta_of, config), announce)
    pollers = _pollers(sections, metas, shared, buffer, synchronised, changed)
    devices = {poller.component.name: poller.component for poller in pollers}
    broker = BrokerComponent(config.mqtt.address, tls=not config.mqtt.tls.insecure_plaintext)
    parts = Parts(
        gateway_id=config.gateway.id,
        started=time.monotonic(),
        devices=devices,
        broker=broker,
        buffer=buffer,
        config=ConfigParts(config.hash, now_ms()),
        insecure=config.in_clear,
        certificates=CertificateFiles(_certificate_files(config)),
        clock=synchronised,
    )
    _tell_time_off(buffer, metas)
    publisher = Publisher(_feed(config, parts, metas, devices, broker, buffer))
    publishers.append(publisher)
    buffer.listeners.append(publisher.look_again)
    drivers = {poller.component.name: poller for poller in pollers}
    of_buffer = BufferDesk(buffer, config.mqtt, config.gateway.id, boundary=lambda: publisher.boundary)
    desk = Desk(config.gateway.id, sections, shared, lambda name: drivers[name].driver, of_buffer.answer)
    return Gateway(buffer, pollers, broker, publisher, parts, desk)


def _feed(
    config: Config,
    parts: Parts,
    metas: Sequence[Meta],
    devices: Mapping[str, DeviceComponent],
    broker: BrokerComponent,
    buffer: Buffer,
) -> Feed:
    """Say what is published, and where to."""
    live = {meta.topic for meta in metas}
    return Feed(
        section=config.mqtt,
        rows=buffer,
        component=broker,
        gateway=config.gateway.id,
        topics=Topics(config.status_topic, config.health_topic),
        outlets={meta.device: Outlet(meta.device, meta.topic, devices[meta.device], meta) for meta in metas},
        health=partial(report, parts),
        retired={topic: device for topic, device in buffer.topics.items() if topic not in live},
    )


def _pollers(
    sections: Sequence[DeviceSection],
    metas: Sequence[Meta],
    shared: Shared,
    buffer: Buffer,
    synchronised: clock.Remembered,
    changed: Changed,
) -> list[Poller]:
    """Make a poller for each device; those on one line do not all begin at once."""
    for section in sections:
        section.prepare()
    phases = spread([getattr(section, "link_key", section.address) for section in sections])
    return [
        Poller(section, meta, shared, buffer, clock=synchronised, phase=phase, changed=changed)
        for section, meta, phase in zip(sections, metas, phases, strict=True)
    ]


def _refuse_reload(config: ConfigParts) -> None:
    """Say on SIGHUP that a reload is not there yet."""
    config.last_error = "reloading on SIGHUP is not available in this version; restart the gateway"
    log.warning("%s", config.last_error)


def _tell_time_off(buffer: Buffer, metas: Iterable[Meta]) -> None:
    """Begin each known device's samples with a gap record for the time in which nobody was there to read it."""
    for meta in metas:
        if (gap := buffer.time_off(meta.device, now_ms())) is not None:
            buffer.append(Batch(meta, (), 0, gaps=(gap,)))


def _certificate_files(config: Config) -> dict[str, CertificateFile]:
    """Name the certificates that somebody has to renew."""
    named: dict[str, Path | None] = {"mqtt client": config.mqtt.tls.cert_file, "mqtt CA": config.mqtt.tls.ca_file}
    if config.http.tls is not None:
        named["http"] = config.http.tls.cert_file
    files = {name: CertificateFile(path) for name, path in named.items() if path is not None}
    for section in config.devices:
        if section.enabled:
            files |= section.certificate_files
    return files
