"""The keys of a secure channel are renewed under traffic, and it costs no value (OPC 10000-4 section 5.6.2)."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncua
import pytest
from asyncua.common.connection import SecureConnection
from opcua_peer import BOUND_S, ENCRYPTED, SHARED, SIGNED, Peer, Wire, section, secured, trust

from gateway.drivers.opcua.device import open_device
from gateway.drivers.opcua.section import OpcuaDevice

ua: Any = asyncua.ua


class Issuer:
    """What the server makes of requests for a token: it gives short ones, and its clock may be wrong."""

    def __init__(self) -> None:
        self.renewals = 0
        self.lifetime_ms = 1500
        self.behind = timedelta(0)


_OPEN = SecureConnection.open


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Issuer:
    issuer = Issuer()

    def give(connection: Any, params: Any, server: Any) -> Any:
        issuer.renewals += params.RequestType == ua.SecurityTokenRequestType.Renew
        params.RequestedLifetime = min(params.RequestedLifetime, issuer.lifetime_ms)
        response = _OPEN(connection, params, server)
        response.SecurityToken.CreatedAt -= issuer.behind
        return response

    monkeypatch.setattr(SecureConnection, "open", give)
    return issuer


class HoldingWire(Wire):
    """Holds the first message that the client secures with new keys, so that the server goes on with the old ones."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.kept_back = asyncio.Event()
        self.release = asyncio.Event()
        self._tokens: set[int] = set()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        if late:
            await super()._pump(reader, writer, late=late)
            return
        self._tokens.clear()
        try:
            while head := await reader.readexactly(8):
                body = await reader.readexactly(struct.unpack_from("<I", head, 4)[0] - 8)
                token = struct.unpack_from("<I", body, 4)[0] if head[:3] == b"MSG" else None
                if token is not None and self._tokens and token not in self._tokens:
                    self.release.clear()
                    self.kept_back.set()
                    await self.release.wait()
                if token is not None:
                    self._tokens.add(token)
                writer.write(head + body)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def followed(device: OpcuaDevice) -> AsyncIterator[tuple[Any, AsyncIterator[Any]]]:
    async with asyncio.timeout(3 * BOUND_S), open_device(device, SHARED) as driver:
        yield driver, driver.changes()


def counts(notification: Any) -> list[Any]:
    return [sample.values[0] for sample in notification.samples if sample.values]


@pytest.mark.parametrize(("policies", "mode", "renewals"), [(ENCRYPTED, "SignAndEncrypt", 10), (SIGNED, "Sign", 5)])
async def test_renewals_under_traffic_cost_no_value_and_no_connection(
    peer: Peer, folder: Path, issuer: Issuer, policies: list[Any], mode: str, renewals: int
) -> None:
    device = await offered(peer, folder, policies, mode)
    came: list[Any] = []
    number = 0
    async with followed(device) as (driver, changes):
        made = peer.wire.connections
        while issuer.renewals < renewals:
            number += 1
            await peer.write("count", number)
            if number % 10 == 0:  # the others wait in the server's queue meanwhile
                while not came or came[-1] < number:
                    notification = await anext(changes)
                    came += counts(notification)
                    driver.acknowledge(notification.receipt)
        while came[-1] < number:
            came += counts(await anext(changes))
    assert sorted(set(came)) == list(range(min(came), number + 1))
    assert peer.wire.connections == made


@pytest.mark.parametrize(("policies", "mode"), [(ENCRYPTED, "SignAndEncrypt"), (SIGNED, "Sign")])
@pytest.mark.parametrize("behind", [timedelta(0), timedelta(days=400)])
async def test_what_the_server_sends_under_the_old_keys_is_taken_whatever_its_clock_says(
    peer: Peer, folder: Path, issuer: Issuer, policies: list[Any], mode: str, behind: timedelta
) -> None:
    await peer.wire.stop()
    peer.wire = wire = HoldingWire(peer.wire.port)
    await wire.start()
    issuer.behind, issuer.lifetime_ms = behind, 4000
    device = await offered(peer, folder, policies, mode)
    async with followed(device) as (driver, changes):
        made = wire.connections
        await anext(changes)  # from now on two PublishRequests wait at the server, and one is left while one is held
        for number in range(1, 3):
            await wire.kept_back.wait()
            wire.kept_back.clear()
            await peer.write("count", number)
            while number not in counts(notification := await anext(changes)):
                pass
            driver.acknowledge(notification.receipt)
            wire.release.set()
    assert wire.connections == made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pki"


async def offered(peer: Peer, folder: Path, policies: list[Any], mode: str) -> OpcuaDevice:
    """Let the server offer one policy, with a counter behind it."""
    await peer.restart(policies)
    await peer.add(count=0)
    trust(folder, peer.certificate)
    tag = {"name": "count", "node": "nsu=urn:tests:press;s=count", "queue": 1000}
    return section(peer, [tag], security=secured(folder, mode), mode="subscribe", interval="50ms")
