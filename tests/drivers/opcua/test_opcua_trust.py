"""Which certificates are trusted."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from opcua_certificates import SERVER_URI, Certificate, make_certificate

from gateway.drivers.opcua.connect import certificate_chain
from gateway.drivers.opcua.security.trust import Claim, Trust, UntrustedError, verify

CLAIM = Claim(SERVER_URI, "127.0.0.1")


def judge(chain: list[Certificate], trusted: list[Certificate], issuers: list[Certificate] | None = None) -> str:
    """Give the reason for which a chain is refused, or "" if it is trusted."""
    trust = Trust(tuple(c.certificate for c in trusted), tuple(c.certificate for c in issuers or []))
    try:
        verify(tuple(c.certificate for c in chain), CLAIM, trust, datetime.now(UTC))
    except UntrustedError as error:
        return error.reason
    return ""


@pytest.fixture(scope="module")
def root() -> Certificate:
    return make_certificate("urn:root", ca=True, name="root")


@pytest.fixture(scope="module")
def leaf(root: Certificate) -> Certificate:
    return make_certificate(issuer=root)


def test_a_certificate_that_lies_in_trusted_is_trusted_at_whatever_host() -> None:
    pinned = make_certificate(host="192.0.2.1")
    assert judge([pinned], [pinned]) == ""


def test_an_unknown_certificate_is_not_trusted_even_with_the_same_name(leaf: Certificate) -> None:
    assert judge([make_certificate()], [make_certificate()]) == "BadCertificateUntrusted"
    assert judge([leaf], []) == "BadCertificateUntrusted"


def test_a_trusted_ca_makes_its_servers_trusted(root: Certificate, leaf: Certificate) -> None:
    assert judge([leaf], [root]) == ""


def test_issuers_complete_a_chain_and_trust_nobody_themselves(root: Certificate) -> None:
    middle = make_certificate("urn:middle", ca=True, issuer=root, name="middle")
    server = make_certificate(issuer=middle)
    assert judge([server], [root], [middle]) == ""
    assert judge([server, middle], [root]) == ""
    assert judge([server], [middle]) == ""
    assert judge([server], [], [middle, root]) == "BadCertificateUntrusted"
    assert judge([server, middle, root], []) == "BadCertificateUntrusted"
    assert judge([server], [root]) == "BadCertificateUntrusted"


def test_a_ca_of_the_same_name_with_another_key_trusts_nobody(leaf: Certificate) -> None:
    assert judge([leaf], [make_certificate("urn:root", ca=True, name="root")]) == "BadCertificateUntrusted"


def test_who_is_no_ca_issues_nothing(leaf: Certificate) -> None:
    forged = make_certificate("urn:other", issuer=leaf)
    assert judge([forged, leaf], [leaf]) == "BadCertificateUntrusted"


def test_a_path_length_is_kept() -> None:
    root = make_certificate("urn:root", ca=True, name="root", path_length=0)
    middle = make_certificate("urn:middle", ca=True, issuer=root, name="middle")
    assert judge([make_certificate(issuer=root)], [root]) == ""
    assert judge([make_certificate(issuer=middle), middle], [root]) == "BadCertificateUntrusted"


def test_an_expired_ca_trusts_nobody() -> None:
    root = make_certificate("urn:root", ca=True, days=(-9, -1))
    assert judge([make_certificate(issuer=root)], [root]) == "BadCertificateIssuerTimeInvalid"


def test_a_chain_that_goes_in_circles_ends() -> None:
    one = make_certificate("urn:one", ca=True, name="one")
    two = make_certificate("urn:two", ca=True, issuer=one, name="two")
    again = Certificate(_reissued(one, two), one.key)
    server = make_certificate(issuer=two)
    assert judge([server, two, again, two, again], []) == "BadCertificateUntrusted"


def _reissued(subject: Certificate, issuer: Certificate) -> x509.Certificate:
    old = subject.certificate
    builder = x509.CertificateBuilder(
        issuer.certificate.subject,
        old.subject,
        old.public_key(),
        x509.random_serial_number(),
        old.not_valid_before_utc,
        old.not_valid_after_utc,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(issuer.key, hashes.SHA256())


@pytest.mark.parametrize("days", [(-9, -1), (1, 9)])
def test_a_certificate_outside_its_dates_is_refused_though_it_is_pinned(days: tuple[int, int]) -> None:
    stale = make_certificate(days=days)
    assert judge([stale], [stale]) == "BadCertificateTimeInvalid"


def test_the_sentence_about_dates_says_what_the_clock_here_says() -> None:
    stale = make_certificate()
    trust = Trust((stale.certificate,))
    with pytest.raises(UntrustedError, match=r"not valid before .*the clock here says 1970-01-01"):
        verify((stale.certificate,), CLAIM, trust, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=1))


def test_a_certificate_made_out_to_another_application_is_refused_though_it_is_pinned() -> None:
    other = make_certificate("urn:somebody:else")
    assert judge([other], [other]) == "BadCertificateUriInvalid"


def test_what_a_trusted_ca_issued_must_be_made_out_to_the_host_and_for_a_server(root: Certificate) -> None:
    elsewhere = make_certificate(issuer=root, host="192.0.2.1")
    client = make_certificate(issuer=root, use=ExtendedKeyUsageOID.CLIENT_AUTH)
    assert judge([elsewhere], [root]) == "BadCertificateHostNameInvalid"
    assert judge([client], [root]) == "BadCertificateUseNotAllowed"
    assert judge([elsewhere], [root, elsewhere]) == ""


def test_a_key_that_the_policy_calls_too_short_is_refused() -> None:
    short = make_certificate(bits=1024)
    assert judge([short], [short]) == "BadCertificatePolicyCheckFailed"


def test_a_chain_signed_with_sha1_is_refused_where_one_with_sha256_is_not() -> None:
    """The file holds a CA and two certificates that it issued, signed with SHA-1 and with SHA-256."""
    text = (Path(__file__).parent / "signed.pem").read_bytes()
    ca, weak, strong = x509.load_pem_x509_certificates(text)
    now = strong.not_valid_before_utc + timedelta(days=1)
    verify((strong,), CLAIM, Trust((ca,)), now)
    with pytest.raises(UntrustedError, match="signed with SHA1"):
        verify((weak,), CLAIM, Trust((ca,)), now)


def test_a_chain_is_read_certificate_by_certificate(root: Certificate, leaf: Certificate) -> None:
    assert certificate_chain(leaf.der + root.der) == (leaf.certificate, root.certificate)


@pytest.mark.parametrize("sent", [b"", b"junk", b"\x30\x82\xff\xff", b"\x30\x82\x00\x01\x00"])
def test_what_is_no_certificate_is_refused_as_such(sent: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        certificate_chain(sent)
