"""Which servers are let in: each certificate case, on the first connect and on a reconnect, with a real server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncua
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from opcua_certificates import Certificate, make_certificate, make_crl, signs_only, with_sha1
from opcua_peer import BOUND_S, ENCRYPTED, SHARED, Peer, failure, section, secured, trust

from gateway.model import DeviceState

ua: Any = asyncua.ua
TRUSTED = ""


@dataclass
class Case:
    """What a server shows, what lies in the folder, and the reason for which it is refused, if it is."""

    shown: Certificate
    reason: str = TRUSTED
    trusted: list[Certificate] = field(default_factory=list)
    issuers: list[Certificate] = field(default_factory=list)
    crls: list[bytes] = field(default_factory=list)

    def lay_out(self, folder: Path) -> None:
        for where, certificates in (("trusted", self.trusted), ("issuers", self.issuers)):
            for certificate in certificates:
                trust(folder, certificate, where=where)
        for number, crl in enumerate(self.crls):
            (folder / "issuers").mkdir(parents=True, exist_ok=True)
            (folder / "issuers" / f"{number}.crl").write_bytes(crl)


def pinned(reason: str, **wrong: Any) -> Case:
    made = make_certificate(**wrong)
    return Case(made, reason, trusted=[made])


def issued(reason: str = TRUSTED, *, where: str = "trusted", **wrong: Any) -> Case:
    ca = make_certificate("urn:ca", ca=True)
    return Case(make_certificate(issuer=ca, **wrong), reason, **{where: [ca]})


def sha1() -> Case:
    made = make_certificate()
    weak = with_sha1(made, made)
    return Case(weak, "BadCertificatePolicyCheckFailed", trusted=[weak])


def revoked() -> Case:
    case = issued("BadCertificateRevoked")
    case.crls = [make_crl(case.trusted[0], case.shown.certificate.serial_number)]
    return case


def revoked_by_an_expired_crl() -> Case:
    case = issued("BadCertificateRevocationUnknown")
    case.crls = [make_crl(case.trusted[0], days=(-9, -1))]
    return case


def issuer_revoked() -> Case:
    root = make_certificate("urn:root", ca=True, name="root")
    middle = make_certificate("urn:middle", ca=True, issuer=root, name="middle")
    crl = make_crl(root, middle.certificate.serial_number)
    return Case(make_certificate(issuer=middle), "BadCertificateIssuerRevoked", [root], [middle], [crl])


def revoked_elsewhere(name: str) -> Callable[[], Case]:
    def make() -> Case:
        case = issued()
        other = make_certificate("urn:other", ca=True, name="another CA")
        case.issuers = [other]
        case.crls = [make_crl(other, case.shown.certificate.serial_number, name=name)]
        return case

    return make


CASES: dict[str, Callable[[], Case]] = {
    "expired": lambda: pinned("BadCertificateTimeInvalid", days=(-9, -1)),
    "expired, of a trusted CA": lambda: issued("BadCertificateTimeInvalid", days=(-9, -1)),
    "not yet valid": lambda: pinned("BadCertificateTimeInvalid", days=(1, 9)),
    "wrong host": lambda: issued("BadCertificateHostNameInvalid", host="192.0.2.1"),
    "wrong host, trusted itself": lambda: pinned(TRUSTED, host="192.0.2.1"),
    "wrong URI": lambda: pinned("BadCertificateUriInvalid", uri="urn:somebody:else"),
    "self-signed unknown": lambda: Case(make_certificate(), "BadCertificateUntrusted"),
    "self-signed trusted": lambda: pinned(TRUSTED),
    "of a trusted CA": issued,
    "of a CA in issuers only": lambda: issued("BadCertificateUntrusted", where="issuers"),
    "revoked": revoked,
    "its issuer revoked": issuer_revoked,
    "the CRL ran out": revoked_by_an_expired_crl,
    "same serial in the CRL of another CA": revoked_elsewhere(""),
    "same serial in a forged CRL of its CA": revoked_elsewhere("a CA"),
    "weak key": lambda: pinned("BadCertificatePolicyCheckFailed", bits=1024),
    "SHA-1": sha1,
    "for a client": lambda: pinned("BadCertificateUseNotAllowed", use=ExtendedKeyUsageOID.CLIENT_AUTH),
    "may not encrypt": lambda: pinned("BadCertificateUseNotAllowed", usage=signs_only()),
}


async def judged(peer: Peer, device: Any, case: Case) -> None:
    """Connect, and look at what comes of it; nothing but GetEndpoints goes to a server that is refused."""
    peer.wire.requests.clear()
    if case.reason == TRUSTED:
        async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
            assert (await driver.read((0,)))[0].values == (1.5,)
        return
    error = await failure(device)
    assert (error.reason, error.state) == (case.reason, DeviceState.CERTIFICATE_ERROR)
    assert error.do
    assert peer.wire.services == {"GetEndpoints"}


@pytest.mark.parametrize("name", CASES)
async def test_a_certificate_is_judged_alike_on_the_first_connect_and_when_a_server_comes_back(
    peer: Peer, tmp_path: Path, name: str
) -> None:
    case, good, folder = CASES[name](), peer.certificate, tmp_path / "pki"
    (tmp_path / "password").write_text("secret")
    login = {"username": "gateway", "password": {"file": str(tmp_path / "password")}}
    case.lay_out(folder)
    trust(folder, good)
    device = section(peer, ["speed"], security=secured(folder), **login)
    await peer.restart(ENCRYPTED, case.shown)
    await peer.add(speed=1.5)
    await judged(peer, device, case)
    await peer.restart(ENCRYPTED, good)
    async with asyncio.timeout(BOUND_S), device.open(SHARED) as driver:
        assert (await driver.read((0,)))[0].values == (1.5,)
        await peer.restart(ENCRYPTED, case.shown)
    await judged(peer, device, case)


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"])
@pytest.mark.parametrize("name", ["weak key", "SHA-1"])
async def test_no_policy_takes_a_short_key_or_a_sha1_signature_though_the_certificate_lies_in_trusted(
    peer: Peer, tmp_path: Path, policy: str, name: str
) -> None:
    """OPC 10000-7: each of the three asks for RSA keys of 2048 to 4096 bits and certificates signed with SHA-256."""
    case = CASES[name]()
    case.lay_out(tmp_path)
    await peer.restart([getattr(ua.SecurityPolicyType, f"{policy.replace('_', '')}_SignAndEncrypt")], case.shown)
    await judged(peer, section(peer, [], security={**secured(tmp_path), "policy": policy}), case)
