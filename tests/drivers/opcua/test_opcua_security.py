"""P9: nothing goes out in clear, to an unverified server, or under a weaker policy, on any connect."""

import asyncio
from pathlib import Path
from typing import Any

import asyncua
import pytest
from asyncua.common.utils import ServiceError
from opcua_certificates import Certificate, make_certificate
from opcua_peer import BOUND_S, ENCRYPTED, NOTHING, SHARED, SIGNED, Peer, failure, section, secured, trust

from gateway.drivers.opcua.login import password_policy
from gateway.errors import DeviceError
from gateway.model import DeviceState, Sample

ua: Any = asyncua.ua
TOKEN = ua.UserTokenPolicy
URI = "http://opcfoundation.org/UA/SecurityPolicy#"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pki"


@pytest.fixture
def login(tmp_path: Path) -> dict[str, Any]:
    """The configured user; the server knows "gateway" with the password "secret"."""
    (tmp_path / "password").write_text("secret\n")
    return {"username": "gateway", "password": {"file": str(tmp_path / "password")}}


async def read(device: Any) -> tuple[Sample, ...]:
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        samples: tuple[Sample, ...] = await driver.read((0,))
        return samples


@pytest.mark.parametrize(("policies", "mode"), [(SIGNED, "Sign"), (ENCRYPTED, "SignAndEncrypt")])
async def test_a_trusted_server_is_read_with_a_password(
    peer: Peer, folder: Path, login: dict[str, Any], policies: list[Any], mode: str
) -> None:
    await peer.restart(policies)
    await peer.add(speed=1.5)
    trust(folder, peer.certificate)
    (sample,) = await read(section(peer, ["speed"], security=secured(folder, mode), **login))
    assert sample.values == (1.5,)


async def test_a_subscription_goes_on_over_renewed_keys_in_an_encrypted_channel(peer: Peer, folder: Path) -> None:
    from gateway.drivers.opcua.device import open_device

    await peer.restart(ENCRYPTED)
    await peer.add(count=0)
    trust(folder, peer.certificate)
    device = section(peer, ["count"], security=secured(folder), mode="subscribe", interval="100ms")
    async with asyncio.timeout(BOUND_S), open_device(device, SHARED, channel_s=0.8) as driver:
        changes = driver.changes()
        for number in range(20):
            await peer.write("count", number + 1)
            while (await anext(changes)).samples[-1].values != (number + 1,):
                pass


async def test_an_unknown_server_is_kept_in_rejected_and_once_moved_to_trusted_it_is_read(
    peer: Peer, folder: Path
) -> None:
    await peer.restart(ENCRYPTED)
    await peer.add(speed=1.5)
    device = section(peer, ["speed"], security=secured(folder))
    error = await failure(device)
    assert (error.reason, error.state) == ("BadCertificateUntrusted", DeviceState.CERTIFICATE_ERROR)
    (rejected,) = (folder / "rejected").iterdir()
    assert rejected.read_bytes() == peer.certificate.der
    for verb in ("show", "trust"):
        assert f"edge-gateway certs --pki-dir {folder} {verb} {rejected.stem}" in error.do
    assert peer.wire.services == {"GetEndpoints"}
    rejected.rename(folder / "trusted" / rejected.name)
    assert (await read(device))[0].values == (1.5,)


async def test_a_server_of_a_trusted_ca_is_read(peer: Peer, folder: Path) -> None:
    ca = make_certificate("urn:ca", ca=True)
    await peer.restart(ENCRYPTED, make_certificate(issuer=ca))
    await peer.add(speed=1.5)
    trust(folder, ca)
    assert (await read(section(peer, ["speed"], security=secured(folder))))[0].values == (1.5,)


EXPIRED = {"days": (-9, -1)}
NOT_YET = {"days": (1, 9)}
OTHER = {"uri": "urn:somebody:else"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (EXPIRED, "BadCertificateTimeInvalid"),
        (NOT_YET, "BadCertificateTimeInvalid"),
        (OTHER, "BadCertificateUriInvalid"),
        ({}, "BadCertificateUntrusted"),
    ],
)
async def test_a_wrong_certificate_is_refused_on_the_first_connect_and_on_a_reconnect(
    peer: Peer, folder: Path, login: dict[str, Any], wrong: dict[str, Any], reason: str
) -> None:
    bad = make_certificate(**wrong)
    if wrong:
        trust(folder, bad)
    trust(folder, peer.certificate)
    good = peer.certificate
    device = section(peer, ["speed"], security=secured(folder), **login)
    for certificate in (bad, good, bad):
        await peer.restart(ENCRYPTED, certificate)
        if certificate is good:
            await read(device)
            continue
        peer.wire.requests.clear()
        error = await failure(device)
        assert (error.reason, error.state) == (reason, DeviceState.CERTIFICATE_ERROR)
        assert error.do
        assert peer.wire.services == {"GetEndpoints"}


@pytest.mark.parametrize("policies", [NOTHING, SIGNED])
async def test_what_the_server_does_not_offer_is_not_replaced_by_something_weaker(
    peer: Peer, folder: Path, login: dict[str, Any], policies: list[Any]
) -> None:
    await peer.restart(policies)
    trust(folder, peer.certificate)
    error = await failure(section(peer, ["speed"], security=secured(folder), **login))
    assert (error.reason, error.state) == ("BadSecurityPolicyRejected", DeviceState.CONFIG_ERROR)
    assert "does not offer Basic256Sha256 with SignAndEncrypt" in str(error)
    assert peer.wire.services == {"GetEndpoints"}


async def test_an_insecure_section_meets_a_server_that_wants_security(peer: Peer) -> None:
    await peer.restart(ENCRYPTED)
    error = await failure(section(peer, ["speed"]))
    assert error.state == DeviceState.CONFIG_ERROR
    assert "does not offer policy None, but Basic256Sha256 with SignAndEncrypt" in str(error)


async def test_who_shows_a_trusted_certificate_without_its_key_gets_no_session(
    peer: Peer, folder: Path, login: dict[str, Any]
) -> None:
    """Somebody in between may send the real server's certificate along in GetEndpoints: anybody can read that."""
    real = peer.certificate
    trust(folder, real)
    await peer.restart(ENCRYPTED, make_certificate(owner="somebody else"))
    for endpoint in peer.server.iserver.endpoints:
        endpoint.ServerCertificate = real.der
    error = await failure(section(peer, ["speed"], security=secured(folder), **login))
    assert error.state in (DeviceState.UNREACHABLE, DeviceState.CERTIFICATE_ERROR)
    assert peer.server.iserver._external_sessions == {}


async def test_who_shows_another_certificate_once_the_channel_is_open_gets_no_login(
    peer: Peer, folder: Path, login: dict[str, Any]
) -> None:
    trust(folder, peer.certificate)
    await peer.restart(ENCRYPTED)
    for policy in peer.server._policies:
        policy.certificate = make_certificate().certificate  # of the same key, so that the signatures are right
    error = await failure(section(peer, ["speed"], security=secured(folder), **login))
    assert (error.reason, error.state) == ("BadCertificateInvalid", DeviceState.CERTIFICATE_ERROR)
    assert "did not prove" in str(error)
    assert peer.server.iserver._external_sessions == {}


async def test_a_wrong_password_is_an_auth_error(peer: Peer, folder: Path, login: dict[str, Any]) -> None:
    await peer.restart(ENCRYPTED)
    await peer.add(speed=1.5)
    trust(folder, peer.certificate)
    device = section(peer, ["speed"], security=secured(folder), **login)
    Path(login["password"]["file"]).write_text("wrong")
    error = await failure(device)
    assert (error.reason, error.state) == ("BadUserAccessDenied", DeviceState.AUTH_ERROR)
    assert "wrong" not in f"{error} {error.do}"
    Path(login["password"]["file"]).write_text("secret")
    assert (await read(device))[0].values == (1.5,)


async def test_a_password_that_cannot_be_read_any_more_is_an_auth_error(
    peer: Peer, folder: Path, login: dict[str, Any]
) -> None:
    await peer.restart(ENCRYPTED)
    trust(folder, peer.certificate)
    device = section(peer, ["speed"], security=secured(folder), **login)
    Path(login["password"]["file"]).unlink()
    error = await failure(device)
    assert error.state == DeviceState.AUTH_ERROR
    assert "cannot read the secret" in str(error)


async def test_a_server_that_lets_nobody_in_without_a_name_is_an_auth_error(peer: Peer) -> None:
    peer.server.set_identity_tokens([ua.UserNameIdentityToken])
    await peer.restart()
    error = await failure(section(peer, ["speed"]))
    assert error.state == DeviceState.AUTH_ERROR
    assert "username" in error.do


async def test_a_server_that_does_not_trust_us_is_told_with_the_certificate_to_accept(peer: Peer, folder: Path) -> None:
    async def distrust(certificate: Any, description: Any) -> None:
        raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    await peer.restart(ENCRYPTED)
    peer.server.iserver.certificate_validator = distrust
    trust(folder, peer.certificate)
    error = await failure(section(peer, ["speed"], security=secured(folder)))
    assert (error.reason, error.state) == ("BadCertificateUntrusted", DeviceState.CERTIFICATE_ERROR)
    assert f"does not trust our certificate {folder / 'own' / 'cert.der'}" in str(error)
    assert error.do == "Accept it at the server."


@pytest.mark.parametrize(
    ("mode", "uris", "chosen"),
    [
        ("Sign", ["", None], 0),
        (
            "Sign",
            [
                "http://opcfoundation.org/UA/SecurityPolicy#None",
                "http://opcfoundation.org/UA/SecurityPolicy#Basic256Sha256",
            ],
            1,
        ),
        ("SignAndEncrypt", [f"{URI}None"], 0),
    ],
)
def test_a_password_takes_a_way_on_which_nobody_can_read_it(
    certificate: Certificate, mode: str, uris: list[Any], chosen: int
) -> None:
    policies = [TOKEN(PolicyId=str(n), SecurityPolicyUri=uri) for n, uri in enumerate(uris)]
    device = section(Peer(None, certificate), [], endpoint="opc.tcp://plc:4840", security=secured(Path("x"), mode))
    assert password_policy(policies, device)[0] is policies[chosen]


@pytest.mark.parametrize("uri", ["None", "Basic128Rsa15", "Basic256"])
def test_a_password_is_not_sent_readable_or_under_a_broken_policy(certificate: Certificate, uri: str) -> None:
    policies = [TOKEN(SecurityPolicyUri=f"{URI}{uri}")]
    device = section(Peer(None, certificate), [], endpoint="opc.tcp://plc:4840", security=secured(Path("x"), "Sign"))
    with pytest.raises(DeviceError, match="others on the way can read") as caught:
        password_policy(policies, device)
    assert caught.value.state == DeviceState.CONFIG_ERROR
