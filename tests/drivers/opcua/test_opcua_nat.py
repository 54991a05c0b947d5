"""Behind a router a server knows itself by another address: the config says where to go, and what is checked."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opcua_certificates import Certificate, make_certificate
from opcua_peer import BOUND_S, ENCRYPTED, NOTHING, SHARED, Peer, failure, section, secured, trust

from gateway.model import DeviceState

ANNOUNCED = "192.0.2.7"


@pytest.fixture
def ca() -> Certificate:
    return make_certificate("urn:ca", ca=True)


@pytest.fixture(autouse=True)
def announcing(peer: Peer) -> Iterator[None]:
    """Let the server tell its own address as it is, not as the client wrote it."""
    peer.server.set_match_discovery_endpoint_url(False)
    peer.server.set_match_discovery_client_ip(False)
    yield
    peer.server.set_match_discovery_endpoint_url(True)
    peer.server.set_match_discovery_client_ip(True)


async def behind_a_router(peer: Peer, policies: list[Any], certificate: Certificate | None = None) -> None:
    """Restart it with endpoints that lead nowhere from here."""
    await peer.restart(policies, certificate)
    await peer.add(speed=1.5)
    for endpoint in peer.server.iserver.endpoints:
        endpoint.EndpointUrl = f"opc.tcp://{ANNOUNCED}:4999/UA"


async def value(device: Any) -> object:
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        return (await driver.read((0,)))[0].values[0]


async def test_without_security_the_configured_address_is_used(peer: Peer) -> None:
    await behind_a_router(peer, NOTHING)
    assert await value(section(peer, ["speed"])) == 1.5


async def test_a_pinned_certificate_of_the_inner_name_is_trusted_at_the_outer_one(peer: Peer, tmp_path: Path) -> None:
    certificate = make_certificate(host=ANNOUNCED)
    await behind_a_router(peer, ENCRYPTED, certificate)
    trust(tmp_path, certificate)
    assert await value(section(peer, ["speed"], security=secured(tmp_path))) == 1.5


async def test_what_a_ca_issued_to_the_configured_host_is_trusted_whatever_the_server_announces(
    peer: Peer, tmp_path: Path, ca: Certificate
) -> None:
    await behind_a_router(peer, ENCRYPTED, make_certificate(issuer=ca, host="127.0.0.1"))
    trust(tmp_path, ca)
    assert await value(section(peer, ["speed"], security=secured(tmp_path))) == 1.5


async def test_what_a_ca_issued_to_the_announced_host_only_is_refused_and_a_person_may_pin_it(
    peer: Peer, tmp_path: Path, ca: Certificate
) -> None:
    """Who answers chooses what is announced: it proves nothing of the host that the config names."""
    certificate = make_certificate(issuer=ca, host=ANNOUNCED)
    await behind_a_router(peer, ENCRYPTED, certificate)
    trust(tmp_path, ca)
    device = section(peer, ["speed"], security=secured(tmp_path))
    error = await failure(device)
    assert (error.reason, error.state) == ("BadCertificateHostNameInvalid", DeviceState.CERTIFICATE_ERROR)
    assert f"made out to the host {ANNOUNCED}, not to 127.0.0.1" in str(error)
    assert "trust this very certificate" in error.do
    (rejected,) = (tmp_path / "rejected").iterdir()
    rejected.rename(tmp_path / "trusted" / rejected.name)
    assert await value(device) == 1.5
