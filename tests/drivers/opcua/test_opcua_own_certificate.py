"""Our own certificate over the years: kept, followed by a successor in time, and a CA's never replaced."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from opcua_certificates import Certificate, make_certificate

from gateway.drivers.opcua.security import own, pki
from gateway.errors import DeviceError
from gateway.model import DeviceState

DAY = timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pki.prepare(tmp_path / "pki")
    return tmp_path / "pki"


@pytest.fixture
def first(folder: Path) -> own.Identity:
    return own.identity(folder, "hall-3")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "own").iterdir())


def test_until_sixty_days_before_its_end_nothing_changes(folder: Path, first: own.Identity) -> None:
    assert own.identity(folder, "x", first.certificate.not_valid_after_utc - 61 * DAY) == first
    assert files(folder) == ["cert.der", "key.pem"]


def test_then_the_successor_is_there_and_the_present_one_is_still_used(folder: Path, first: own.Identity) -> None:
    for days in (59, 30, 2):
        assert own.identity(folder, "x", first.certificate.not_valid_after_utc - days * DAY) == first
    (following,) = pki.certificates_of(folder / "own" / "next.der")
    assert following.public_key() == first.certificate.public_key()
    assert following.not_valid_before_utc < first.certificate.not_valid_after_utc - 59 * DAY
    assert following.not_valid_after_utc > first.certificate.not_valid_after_utc + 3500 * DAY


def test_from_its_last_day_on_the_successor_is_used_under_the_same_name(folder: Path, first: own.Identity) -> None:
    end = first.certificate.not_valid_after_utc
    own.identity(folder, "x", end - 59 * DAY)
    (following,) = pki.certificates_of(folder / "own" / "next.der")
    changed = own.identity(folder, "x", end - DAY / 2)
    assert (changed.certificate, changed.application_uri) == (following, first.application_uri)
    assert files(folder) == ["cert.der", "key.pem"]


def test_a_gateway_that_was_off_at_the_end_has_a_new_one_when_it_starts(folder: Path, first: own.Identity) -> None:
    late = first.certificate.not_valid_after_utc + 90 * DAY
    changed = own.identity(folder, "x", late)
    assert changed.certificate.not_valid_before_utc <= late < changed.certificate.not_valid_after_utc


def test_a_clock_that_is_years_ahead_makes_no_new_certificate(folder: Path, first: own.Identity) -> None:
    with pytest.raises(DeviceError, match=r"expired on .*the clock here says") as caught:
        own.identity(folder, "x", first.certificate.not_valid_after_utc + 3000 * DAY)
    assert caught.value.state == DeviceState.CERTIFICATE_ERROR
    assert own.identity(folder, "x") == first


def test_what_a_ca_signed_is_never_replaced(folder: Path) -> None:
    ca = make_certificate("urn:ca", ca=True)
    signed = make_certificate("urn:hall-3", issuer=ca, owner="the gateway", days=(-9, -1))
    put(folder, signed)
    assert own.identity(folder, "x").certificate == signed.certificate
    assert files(folder) == ["cert.der", "key.pem"]


def put(folder: Path, pair: Certificate) -> None:
    form, none = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "own" / "cert.der").write_bytes(pair.der)
    (folder / "own" / "key.pem").write_bytes(pair.key.private_bytes(serialization.Encoding.PEM, form, none))


def test_a_key_that_the_policies_call_too_short_is_one_sentence(folder: Path) -> None:
    put(folder, make_certificate("urn:hall-3", owner="the gateway", bits=1024))
    with pytest.raises(DeviceError, match="has 1024 bits"):
        own.identity(folder, "x")


def test_what_belonged_to_the_last_key_does_not_hinder_a_new_pair(folder: Path, first: own.Identity) -> None:
    own.request(folder, first)
    own.identity(folder, "x", first.certificate.not_valid_after_utc - 9 * DAY)
    for name in ("cert.der", "key.pem"):
        (folder / "own" / name).unlink()
    assert own.identity(folder, "hall-3").certificate != first.certificate
    assert files(folder) == ["cert.der", "key.pem"]


def test_a_crl_that_cannot_be_read_is_told_and_not_passed_over(folder: Path) -> None:
    (folder / "trusted" / "ca.crl").write_bytes(b"junk")
    with pytest.raises(DeviceError, match="no certificate revocation list") as caught:
        pki.load_trust(folder)
    assert caught.value.state == DeviceState.CERTIFICATE_ERROR
