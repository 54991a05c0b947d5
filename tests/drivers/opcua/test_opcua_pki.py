"""The folder of certificates."""

import stat
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from opcua_certificates import make_certificate
from opcua_peer import trust

from gateway.drivers.opcua.security import own, pki
from gateway.errors import DeviceError
from gateway.model import DeviceState


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pki"
    pki.prepare(folder)
    return folder


def test_the_folders_are_made_for_the_gateways_user_alone(folder: Path) -> None:
    made = sorted(path.name for path in folder.iterdir())
    assert made == ["issuers", "own", "rejected", "trusted"]
    assert {mode(path) for path in (folder, *folder.iterdir())} == {0o700}
    pki.prepare(folder)


def test_the_first_run_makes_a_certificate_that_servers_accept(folder: Path) -> None:
    """What OPC 10000-6 section 6.2.2 asks of a client's application instance certificate."""
    identity = own.identity(folder, "hall-3")
    made = identity.certificate
    extensions = {extension.oid: extension.value for extension in made.extensions}
    names = extensions[x509.SubjectAlternativeName.oid]
    usage = extensions[x509.KeyUsage.oid]
    assert identity.application_uri in names.get_values_for_type(x509.UniformResourceIdentifier)
    assert identity.application_uri.endswith(":edge-gateway:hall-3")
    assert names.get_values_for_type(x509.DNSName)
    assert usage.digital_signature
    assert usage.content_commitment
    assert usage.key_encipherment
    assert usage.data_encipherment
    assert x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH in extensions[x509.ExtendedKeyUsage.oid]
    assert not extensions[x509.BasicConstraints.oid].ca
    made.verify_directly_issued_by(made)
    assert made.not_valid_before_utc < datetime.now(UTC)
    assert (made.not_valid_after_utc - datetime.now(UTC)).days > 9 * 365
    assert mode(folder / "own" / "key.pem") == 0o600


def test_the_certificate_is_kept_and_with_it_the_application_uri(folder: Path) -> None:
    first = own.identity(folder, "hall-3")
    assert own.identity(folder, "another-name") == first


def test_the_key_is_in_no_repr(folder: Path) -> None:
    identity = own.identity(folder, "hall-3")
    assert repr(identity) == f"Identity(path={identity.path!r}, application_uri={identity.application_uri!r})"


def test_a_very_long_gateway_id_is_no_obstacle(folder: Path) -> None:
    assert own.identity(folder, "g" * 128).application_uri.endswith("g" * 128)


def test_two_devices_that_start_at_once_use_one_and_the_same_pair(folder: Path) -> None:
    found: list[own.Identity] = []
    threads = [threading.Thread(target=lambda: found.append(own.identity(folder, "hall-3"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 4
    assert len(set(found)) == 1
    assert sorted(path.name for path in folder.iterdir()) == ["issuers", "own", "rejected", "trusted"]


@pytest.mark.parametrize("lost", ["cert.der", "key.pem"])
def test_half_a_pair_is_told_and_not_replaced(folder: Path, lost: str) -> None:
    own.identity(folder, "hall-3")
    (folder / "own" / lost).unlink()
    with pytest.raises(DeviceError, match=f"{lost} is missing") as caught:
        own.identity(folder, "hall-3")
    assert caught.value.state == DeviceState.CERTIFICATE_ERROR
    assert "Put both files back" in caught.value.do


def test_a_certificate_of_another_key_is_told(folder: Path) -> None:
    own.identity(folder, "hall-3")
    (folder / "own" / "cert.der").write_bytes(make_certificate("urn:x", owner="somebody").der)
    with pytest.raises(DeviceError, match="does not belong to"):
        own.identity(folder, "hall-3")


def test_a_key_that_is_none_is_told(folder: Path) -> None:
    own.identity(folder, "hall-3")
    (folder / "own" / "key.pem").write_text("not a key")
    with pytest.raises(DeviceError, match="no PEM private key"):
        own.identity(folder, "hall-3")


def test_trusted_certificates_are_read_in_either_form_and_junk_trusts_nobody(folder: Path) -> None:
    one, two, three, issuer = (make_certificate(f"urn:{n}") for n in range(4))
    trust(folder, one)
    both = b"".join(c.certificate.public_bytes(serialization.Encoding.PEM) for c in (two, three))
    (folder / "trusted" / "two.pem").write_bytes(both)
    (folder / "trusted" / "junk.der").write_bytes(b"junk")
    (folder / "trusted" / "broken.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    (folder / "trusted" / "notes.txt").write_bytes(issuer.der)
    trust(folder, issuer, where="issuers")
    found = pki.load_trust(folder)
    assert set(found.trusted) == {one.certificate, two.certificate, three.certificate}
    assert found.issuers == (issuer.certificate,)


def test_an_unknown_certificate_is_kept_by_its_fingerprint_and_only_the_latest_hundred(folder: Path) -> None:
    paths = [pki.reject(folder, b"certificate %d" % number) for number in range(103)]
    again = pki.reject(folder, b"certificate 102")
    assert again == paths[-1]
    assert again.read_bytes() == b"certificate 102"
    kept = set((folder / "rejected").iterdir())
    assert len(kept) == 100
    assert again in kept


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match=r"cannot use .*file") as caught:
        pki.prepare(tmp_path / "file" / "pki")
    assert caught.value.state == DeviceState.CERTIFICATE_ERROR
