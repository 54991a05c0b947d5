"""A broken link leaves a session at the server; it is closed before there is another: one session a device, ever."""

import asyncio
from pathlib import Path
from typing import Any

import asyncua
import pytest
from asyncua.server.uaprocessor import UaProcessor
from opcua_peer import BOUND_S, ENCRYPTED, NOTHING, SIGNED, Peer, section, secured, trust

from gateway.drivers.base import Shared
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.errors import DeviceError
from gateway.model import DeviceState

ua: Any = asyncua.ua


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server keep a session without a connection, as the standard asks (OPC 10000-4 section 6.7)."""
    monkeypatch.setattr(UaProcessor, "_should_close_session_on_transport_loss", lambda _processor: False)


def sessions(peer: Peer) -> int:
    return len(peer.server.iserver._external_sessions)


async def broken(peer: Peer, device: OpcuaDevice, shared: Shared) -> None:
    """Open the device, and break its link once it is open."""

    async def poll() -> None:
        async with asyncio.timeout(BOUND_S), device.open(shared) as driver:
            assert sessions(peer) == 1
            await peer.wire.cut()
            while True:
                await driver.read((0,))

    with pytest.raises(DeviceError):
        await poll()


async def well(peer: Peer, device: OpcuaDevice, shared: Shared) -> None:
    """Open the device and leave it in order."""
    async with asyncio.timeout(BOUND_S), device.open(shared) as driver:
        assert (await driver.read((0,)))[0].values == (1.5,)
        assert sessions(peer) == 1
    assert sessions(peer) == 0


async def ready(peer: Peer, folder: Path, policies: list[Any], mode: str) -> OpcuaDevice:
    await peer.restart(policies)
    await peer.add(speed=1.5)
    if not mode:
        return section(peer, ["speed"])
    (folder / "password").write_text("secret")
    login = {"username": "gateway", "password": {"file": str(folder / "password")}}
    trust(folder / "pki", peer.certificate)
    return section(peer, ["speed"], security=secured(folder / "pki", mode), **login)


@pytest.mark.parametrize(("policies", "mode"), [(NOTHING, ""), (SIGNED, "Sign"), (ENCRYPTED, "SignAndEncrypt")])
async def test_a_link_that_breaks_again_and_again_never_leaves_a_second_session(
    peer: Peer, tmp_path: Path, policies: list[Any], mode: str
) -> None:
    device, shared = await ready(peer, tmp_path, policies, mode), Shared(gateway_id="hall-3")
    for _ in range(10):
        await broken(peer, device, shared)
        assert sessions(peer) == 1
    await well(peer, device, shared)


async def test_a_server_that_cannot_be_reached_for_a_while_has_no_second_session_afterwards(
    peer: Peer, tmp_path: Path
) -> None:
    device, shared = await ready(peer, tmp_path, NOTHING, ""), Shared(gateway_id="hall-3")
    await broken(peer, device, shared)
    await peer.wire.stop()
    with pytest.raises(DeviceError):
        await well(peer, device, shared)
    await peer.wire.start()
    await well(peer, device, shared)


async def test_a_server_that_was_restarted_knows_no_session_and_is_connected_to_all_the_same(
    peer: Peer, tmp_path: Path
) -> None:
    device, shared = await ready(peer, tmp_path, ENCRYPTED, "SignAndEncrypt"), Shared(gateway_id="hall-3")
    await broken(peer, device, shared)
    await peer.restart(ENCRYPTED)
    await well(peer, device, shared)


async def test_a_server_with_room_for_one_session_is_open_again_at_once(peer: Peer, monkeypatch: Any) -> None:
    await peer.add(speed=1.5)
    device, shared = section(peer, ["speed"]), Shared(gateway_id="hall-3")
    create = peer.server.iserver.create_session

    def create_if_there_is_room(*arguments: Any, **keys: Any) -> Any:
        if sessions(peer):
            raise ua.uaerrors.BadTooManySessions
        return create(*arguments, **keys)

    monkeypatch.setattr(peer.server.iserver, "create_session", create_if_there_is_room)
    for _ in range(3):
        await broken(peer, device, shared)
    await well(peer, device, shared)


async def test_a_password_that_was_changed_meanwhile_is_an_auth_error_and_no_obstacle_once_it_is_right(
    peer: Peer, tmp_path: Path
) -> None:
    device, shared = await ready(peer, tmp_path, ENCRYPTED, "SignAndEncrypt"), Shared(gateway_id="hall-3")
    await broken(peer, device, shared)
    (tmp_path / "password").write_text("wrong")
    with pytest.raises(DeviceError) as caught:
        await well(peer, device, shared)
    assert caught.value.state == DeviceState.AUTH_ERROR
    (tmp_path / "password").write_text("secret")
    async with asyncio.timeout(BOUND_S), device.open(shared) as driver:
        assert (await driver.read((0,)))[0].values == (1.5,)
