"""A link to node-opcua that breaks again and again: one session at any time, and no value lost."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.drivers.base import Shared
from gateway.drivers.opcua.device import open_device
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.errors import DeviceError
from gateway.model import Bookmark
from simulators.relay import Relay
from tests.interop.node_opcua import BOUND_S, NodeServer, node, node_server

BREAKS = 5
EVERY_MS = 20
RENEWALS = 5
CHANNEL_S = 3.0
"""How long the keys of a channel are asked for; they are renewed before."""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NodeServer]:
    async with node_server(tmp_path / "node-opcua") as server:
        await server.add(count=("Int32", 0))
        yield server


class Store:
    """What is on disk of one device: the counts, how many gaps, and the bookmarks."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.gaps = 0
        self.bookmarks: dict[str, Bookmark] = {}
        self.shared = Shared("hall-3", bookmarks=self._marks)

    def _marks(self, _device: str) -> Mapping[str, Bookmark]:
        return self.bookmarks

    async def take(self, driver: Any, changes: AsyncIterator[Any]) -> None:
        """Store what comes next, and acknowledge it."""
        notification = await anext(changes)
        self.counts += [sample.values[0] for sample in notification.samples if sample.values]
        self.gaps += len(notification.gaps)
        for name, value in notification.bookmarks.items():
            self.bookmarks.pop(name, None) if value is None else self.bookmarks.update({name: value})
        driver.acknowledge(notification.receipt)


@pytest.mark.parametrize("mode", ["", "Sign", "SignAndEncrypt"])
async def test_a_link_that_breaks_five_times_leaves_one_session_and_loses_no_value(
    server: NodeServer, tmp_path: Path, mode: str
) -> None:
    relay = Relay(address_of(server))
    device = await counting_behind(relay, server, **(logging_in(server, tmp_path, mode) if mode else {}))
    store = Store()

    async def follow(until: int | None) -> None:
        async with asyncio.timeout(BOUND_S), device.open(store.shared) as driver:
            assert await server.order("sessions") == 1
            changes, enough = driver.changes(), len(store.counts) + 10
            while not store.counts or (len(store.counts) < enough if until is None else store.counts[-1] < until):
                await store.take(driver, changes)
            if until is None:
                await relay.cut()
                while True:
                    await store.take(driver, changes)

    for _ in range(BREAKS):
        with pytest.raises(DeviceError):
            await follow(None)
    await follow(await server.order("stop", name="count"))
    assert await server.order("sessions") == 0
    assert sorted(set(store.counts)) == list(range(min(store.counts), max(store.counts) + 1))
    assert store.gaps == 0
    await relay.stop()


def address_of(server: NodeServer) -> tuple[str, int]:
    return "127.0.0.1", int(server.endpoint.rpartition(":")[2])


async def counting_behind(relay: Relay, server: NodeServer, **keys: Any) -> OpcuaDevice:
    """Let the server count, and give the device that follows it through a relay."""
    await relay.start()
    await server.order("count", name="count", every_ms=EVERY_MS)
    tag = {"name": "count", "node": node("count"), "sampling": "0s", "queue": 10_000}
    return server.section([tag], interval="100ms", endpoint=f"opc.tcp://127.0.0.1:{relay.port}", **keys)


def logging_in(server: NodeServer, folder: Path, mode: str) -> dict[str, Any]:
    """Make the keys of an encrypted section whose user has a password."""
    (folder / "pki" / "trusted").mkdir(parents=True)
    (folder / "pki" / "trusted" / "plc.der").write_bytes(server.certificate)
    (folder / "password").write_text("secret")
    security = {"policy": "Basic256Sha256", "mode": mode, "pki_dir": str(folder / "pki")}
    return {"security": security, "username": "gateway", "password": {"file": str(folder / "password")}}


class Counting(Relay):
    """Counts the requests for keys of a channel, which begin with OPNF (OPC 10000-6 section 6.7.2.2)."""

    requests = 0

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        while chunk := await reader.read(65536):
            self.requests += not late and chunk.startswith(b"OPNF")
            writer.write(chunk)
            await writer.drain()
        writer.close()


@pytest.mark.parametrize("mode", ["Sign", "SignAndEncrypt"])
async def test_the_keys_of_a_channel_are_renewed_five_times_and_no_value_is_lost(
    server: NodeServer, tmp_path: Path, mode: str
) -> None:
    relay = Counting(address_of(server))
    device = await counting_behind(relay, server, **logging_in(server, tmp_path, mode))
    store = Store()
    async with asyncio.timeout(BOUND_S), open_device(device, store.shared, channel_s=CHANNEL_S) as driver:
        changes, connections = driver.changes(), relay.connections
        begun = relay.requests
        while relay.requests < begun + RENEWALS:
            await store.take(driver, changes)
        assert relay.connections == connections
    assert sorted(set(store.counts)) == list(range(min(store.counts), max(store.counts) + 1))
    assert store.gaps == 0
    await relay.stop()
