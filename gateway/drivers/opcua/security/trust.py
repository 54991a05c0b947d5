"""Whether a server's certificate is to be trusted: plain decisions on certificates, without I/O."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_KEY_BITS: Final = range(2048, 4096 + 1)
_WEAK: Final = (hashes.MD5, hashes.SHA1)
_LONGEST_CHAIN: Final = 8


class UntrustedError(Exception):
    """A certificate was refused: `reason` is the StatusCode's name, `known` whether its owner is trusted otherwise."""

    def __init__(self, reason: str, text: str, *, known: bool = True) -> None:
        super().__init__(text)
        self.reason = reason
        self.known = known


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is trusted. `issuers` only complete chains: a chain must reach a certificate in `trusted`."""

    trusted: tuple[x509.Certificate, ...] = ()
    issuers: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a server says it is, and where we reached it."""

    application_uri: str
    host: str


def verify(chain: tuple[x509.Certificate, ...], claim: Claim, trust: Trust, now: datetime) -> None:
    """Decide as OPC 10000-4 section 6.1.3 says. `chain` is what the server sent, its own certificate first.

    A certificate that lies in `trusted` itself is trusted for whatever host we reach it at. One that a trusted CA
    issued must also be made out to that host, and for a server: else any other holder of a certificate of that CA
    could answer in the server's place. Raises UntrustedError.
    """
    certificate = chain[0]
    _check_key(certificate)
    pinned = certificate in trust.trusted
    if not pinned and not _issued_by_trusted(chain, trust, now):
        raise UntrustedError("BadCertificateUntrusted", "its certificate is not trusted here", known=False)
    _check_dates(certificate, now)
    _check_uri(certificate, claim.application_uri)
    if not pinned:
        _check_use(certificate)
        _check_host(certificate, claim.host)


def uris(certificate: x509.Certificate) -> tuple[str, ...]:
    """Give the URIs in the subjectAltName: an application instance certificate has one, its application URI."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else ()


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def _check_key(certificate: x509.Certificate) -> None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise UntrustedError("BadCertificateInvalid", "its certificate holds a key of an unknown kind") from None
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size not in _KEY_BITS:
        raise UntrustedError("BadCertificatePolicyCheckFailed", "its certificate needs an RSA key of 2048 to 4096 bits")


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        text = f"its certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise UntrustedError("BadCertificateTimeInvalid", f"{text}; the clock here says {now:%Y-%m-%d %H:%M}")
    if now > certificate.not_valid_after_utc:
        text = f"its certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        raise UntrustedError("BadCertificateTimeInvalid", f"{text}; the clock here says {now:%Y-%m-%d %H:%M}")


def _check_uri(certificate: x509.Certificate, application_uri: str) -> None:
    made_out_to = uris(certificate)
    if application_uri not in made_out_to:
        names = ", ".join(made_out_to) or "no application URI at all"
        text = f"its certificate is made out to {names}, but the server calls itself {application_uri or 'nothing'}"
        raise UntrustedError("BadCertificateUriInvalid", text)


def _check_use(certificate: x509.Certificate) -> None:
    use = _extension(certificate, x509.ExtendedKeyUsage)
    if use is not None and ExtendedKeyUsageOID.SERVER_AUTH not in use:
        raise UntrustedError("BadCertificateUseNotAllowed", "its certificate is not made out for a server")


def _check_host(certificate: x509.Certificate, host: str) -> None:
    names = _extension(certificate, x509.SubjectAlternativeName)
    hosts = [*_dns_names(names), *_addresses(names)] if names else []
    if _canonical(host) not in hosts:
        text = f"its certificate is made out to the host {', '.join(hosts) or '(none)'}, not to {host}"
        raise UntrustedError("BadCertificateHostNameInvalid", text, known=False)


def _dns_names(names: x509.SubjectAlternativeName) -> list[str]:
    return [_canonical(name) for name in names.get_values_for_type(x509.DNSName)]


def _addresses(names: x509.SubjectAlternativeName) -> list[str]:
    return [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def _canonical(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.rstrip(".").lower()


def _issued_by_trusted(chain: tuple[x509.Certificate, ...], trust: Trust, now: datetime) -> bool:
    """Look for a way from the certificate up to a trusted CA; each certificate is visited once at most."""
    between = [*trust.issuers, *chain[1:_LONGEST_CHAIN]]
    to_visit = [(chain[0], 0)]
    visited = {chain[0]}
    for certificate, depth in to_visit:
        if any(_issues(ca, certificate, depth, now) for ca in trust.trusted):
            return True
        for ca in _unvisited(between, visited):
            if depth < _LONGEST_CHAIN and _issues(ca, certificate, depth, now):
                visited.add(ca)
                to_visit.append((ca, depth + 1))
    return False


def _unvisited(certificates: Iterable[x509.Certificate], visited: set[x509.Certificate]) -> list[x509.Certificate]:
    return [certificate for certificate in certificates if certificate not in visited]


def _issues(ca: x509.Certificate, certificate: x509.Certificate, depth: int, now: datetime) -> bool:
    """Whether `ca` may issue, and did issue, `certificate`; `depth` CAs lie between it and the server's own."""
    if ca.subject != certificate.issuer:
        return False
    basic = _extension(ca, x509.BasicConstraints)
    usage = _extension(ca, x509.KeyUsage)
    if basic is None or not basic.ca or (basic.path_length is not None and depth > basic.path_length):
        return False
    if usage is not None and not usage.key_cert_sign:
        return False
    if not ca.not_valid_before_utc <= now <= ca.not_valid_after_utc:
        return False
    try:
        if isinstance(certificate.signature_hash_algorithm, _WEAK):
            return False
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
