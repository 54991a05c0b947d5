"""Every policy and mode, and every kind of user under each: a password, a user's certificate; and no downgrade."""

import asyncio
from pathlib import Path
from typing import Any

import asyncua
import pytest
from asyncua.crypto import security_policies
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from opcua_certificates import Certificate, make_certificate
from opcua_peer import BOUND_S, ENCRYPTED, SHARED, Peer, failure, section, secured, trust

from gateway.drivers.opcua.login import certificate_policy
from gateway.drivers.opcua.security.policies import POLICIES, encrypt
from gateway.errors import DeviceError
from gateway.model import DeviceState

ua: Any = asyncua.ua
URI = "http://opcfoundation.org/UA/SecurityPolicy#"
COMBINATIONS = [(policy, mode) for policy in POLICIES for mode in ("Sign", "SignAndEncrypt")]


def offered(policy: str, mode: str) -> list[Any]:
    return [ua.SecurityPolicyType[f"{policy.replace('_', '')}_{mode}"]]


@pytest.fixture
def folder(tmp_path: Path, certificate: Certificate) -> Path:
    trust(tmp_path / "pki", certificate)
    return tmp_path / "pki"


def login(tmp_path: Path, kind: str) -> dict[str, Any]:
    """The keys of a user of each kind."""
    if kind == "password":
        (tmp_path / "password").write_text("secret")
        return {"username": "gateway", "password": {"file": str(tmp_path / "password")}}
    return user_files(tmp_path, make_certificate("urn:user", owner="the user"), kind)


def user_files(tmp_path: Path, user: Certificate, kind: str) -> dict[str, Any]:
    encoding = serialization.Encoding.PEM if kind == "PEM" else serialization.Encoding.DER
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "user.crt").write_bytes(user.certificate.public_bytes(encoding))
    (tmp_path / "user.key").write_bytes(user.key.private_bytes(encoding, form, none))
    return {"user_cert_file": str(tmp_path / "user.crt"), "user_key_file": str(tmp_path / "user.key")}


@pytest.mark.parametrize("kind", ["password", "PEM", "DER"])
@pytest.mark.parametrize(("policy", "mode"), COMBINATIONS)
async def test_every_user_is_let_in_under_every_policy_and_mode(
    peer: Peer, folder: Path, tmp_path: Path, policy: str, mode: str, kind: str
) -> None:
    token = ua.UserNameIdentityToken if kind == "password" else ua.X509IdentityToken
    peer.server.set_identity_tokens([token])
    await peer.restart(offered(policy, mode))
    await peer.add(speed=1.5)
    security = secured(folder, mode) | {"policy": policy}
    device = section(peer, ["speed"], security=security, **login(tmp_path, kind))
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        assert (await driver.read((0,)))[0].values == (1.5,)


@pytest.mark.parametrize("token", [name for name in POLICIES if name != "Basic256Sha256"])
@pytest.mark.parametrize("kind", ["password", "PEM"])
async def test_a_user_is_let_in_under_another_policy_than_the_channels(
    peer: Peer, folder: Path, tmp_path: Path, token: str, kind: str
) -> None:
    peer.server.set_identity_tokens([ua.UserNameIdentityToken if kind == "password" else ua.X509IdentityToken])
    await peer.restart(ENCRYPTED)
    await peer.add(speed=1.5)
    for endpoint in peer.server.iserver.endpoints:
        for policy in endpoint.UserIdentityTokens:
            policy.SecurityPolicyUri = f"{URI}{token}"
    device = section(peer, ["speed"], security=secured(folder), **login(tmp_path, kind))
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        assert (await driver.read((0,)))[0].values == (1.5,)


async def test_a_user_that_the_server_does_not_know_is_an_auth_error(
    peer: Peer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def nobody(iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> None:
        seen.append(certificate)

    peer.server.set_identity_tokens([ua.X509IdentityToken])
    await peer.restart(ENCRYPTED)
    monkeypatch.setattr(peer.server.iserver.user_manager, "get_user", nobody)
    user = make_certificate("urn:user", owner="the user")
    error = await failure(section(peer, ["speed"], security=secured(folder), **user_files(tmp_path, user, "PEM")))
    assert error.state == DeviceState.AUTH_ERROR
    assert seen == [user.der]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("user.crt", b"junk", "holds no certificate"),
        ("user.key", b"junk", "holds no private key"),
        ("user.crt", None, "cannot read"),
        ("user.key", None, "cannot read"),
        ("user.crt", make_certificate("urn:other", owner="somebody").der, "does not belong to"),
    ],
)
async def test_user_files_that_cannot_be_used_any_more_are_an_auth_error(
    peer: Peer, folder: Path, tmp_path: Path, file: str, content: bytes | None, told: str
) -> None:
    peer.server.set_identity_tokens([ua.X509IdentityToken])
    await peer.restart(ENCRYPTED)
    device = section(peer, ["speed"], security=secured(folder), **login(tmp_path, "PEM"))
    (tmp_path / file).unlink() if content is None else (tmp_path / file).write_bytes(content)
    error = await failure(device)
    assert (error.state, told in str(error), bool(error.do)) == (DeviceState.AUTH_ERROR, True, True)


@pytest.mark.parametrize("uri", ["None", "Basic128Rsa15", "Basic256"])
def test_nobody_signs_as_a_user_under_a_withdrawn_policy(certificate: Certificate, uri: str) -> None:
    device = section(Peer(None, certificate), [], endpoint="opc.tcp://plc:4840", security=secured(Path("x")))
    with pytest.raises(DeviceError, match="withdrawn"):
        certificate_policy([ua.UserTokenPolicy(SecurityPolicyUri=f"{URI}{uri}")], device)


@pytest.mark.parametrize("name", POLICIES)
def test_a_password_longer_than_an_rsa_block_is_encrypted_in_several(name: str) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    secret = bytes(range(256)) * 2
    sent, algorithm = encrypt(secret, key.public_key(), f"{URI}{name}")
    kind = hashes.SHA256() if algorithm.endswith("sha2-256") else hashes.SHA1()
    oaep = padding.OAEP(padding.MGF1(kind), kind, None)
    assert b"".join(key.decrypt(sent[at : at + 256], oaep) for at in range(0, len(sent), 256)) == secret


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "Basic256Sha256"])
async def test_another_policy_than_the_configured_one_is_not_taken(peer: Peer, folder: Path, policy: str) -> None:
    await peer.restart(offered(policy, "SignAndEncrypt"))
    error = await failure(section(peer, ["speed"], security=secured(folder)))
    assert error.reason == "BadSecurityPolicyRejected"
    assert peer.wire.services == {"GetEndpoints"}


async def test_who_hides_endpoints_before_the_channel_is_open_gets_no_login(
    peer: Peer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody in between can change the answer to GetEndpoints; in the channel the server tells what it has."""
    from gateway.drivers.opcua import connect

    honest = connect._offers

    async def changed(*arguments: Any) -> Any:
        offers = await honest(*arguments)
        return [offer for offer in offers if offer.SecurityMode == ua.MessageSecurityMode.SignAndEncrypt]

    await peer.restart([*ENCRYPTED, ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign])
    monkeypatch.setattr(connect, "_offers", changed)
    error = await failure(section(peer, ["speed"], security=secured(folder), **login(tmp_path, "password")))
    assert (error.reason, error.state) == ("BadSecurityChecksFailed", DeviceState.CERTIFICATE_ERROR)
    assert all(session.user is None for session in peer.server.iserver._external_sessions.values())


def test_the_library_has_no_other_algorithms_behind_these_names() -> None:
    assert {policy.URI for policy in POLICIES.values()} == {f"{URI}{name}" for name in POLICIES}
    assert security_policies.SecurityPolicyBasic256 not in POLICIES.values()
