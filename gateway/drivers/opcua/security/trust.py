"""Whether a server's certificate is to be trusted: plain decisions on certificates, without I/O."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from gateway.drivers.opcua.security.revocation import Standing, standing

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
KEY_BITS: Final = range(2048, 4096 + 1)
"""Of an RSA key, in each of the policies that we use (OPC 10000-7: Min- and MaxAsymmetricKeyLength)."""
_STRONG: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_LONGEST_CHAIN: Final = 8
_RENEW: Final = "Renew the certificate at the server"


class UntrustedError(Exception):
    """A certificate was refused: `reason` is the StatusCode's name, `do` what a person can do about it.

    `known` is False where a person may decide to trust this very certificate all the same.
    """

    def __init__(self, reason: str, text: str, do: str = f"{_RENEW}.", *, known: bool = True) -> None:
        super().__init__(text)
        self.reason = reason
        self.do = do
        self.known = known


@dataclass(frozen=True, slots=True)
class Trust:
    """Who is trusted. `issuers` only complete chains: a chain must reach a certificate in `trusted`."""

    trusted: tuple[x509.Certificate, ...] = ()
    issuers: tuple[x509.Certificate, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a server says it is, and where we reached it."""

    application_uri: str
    host: str


def verify(chain: tuple[x509.Certificate, ...], claim: Claim, trust: Trust, now: datetime) -> None:
    """Decide as OPC 10000-4 section 6.1.3 says. `chain` is what the server sent, its own certificate first.

    A certificate that lies in `trusted` itself is trusted for whatever host we reach it at: putting it there is how
    the administrator suppresses that check, as the section allows. One that a trusted CA issued must also be made out
    to that host: else any other holder of a certificate of that CA could answer in the server's place.
    Raises UntrustedError.
    """
    for fault in faults(chain, claim, trust, now):
        raise fault


def faults(
    chain: tuple[x509.Certificate, ...], claim: Claim | None, trust: Trust, now: datetime
) -> Iterator[UntrustedError]:
    """Give all that speaks against a certificate, the first first; without a `claim` what can be said without."""
    certificate = chain[0]
    pinned = certificate in trust.trusted
    found = [_key_fault(certificate), _hash_fault(certificate), _revocation_fault(certificate, chain, trust, now)]
    if not pinned:
        found.append(_chain_fault(chain, trust, now))
    found += [_date_fault(certificate, now), _use_fault(certificate)]
    if claim is not None:
        found.append(_uri_fault(certificate, claim.application_uri))
    if claim is not None and not pinned:
        found.append(_host_fault(certificate, claim.host))
    yield from (fault for fault in found if fault is not None)


def uris(certificate: x509.Certificate) -> tuple[str, ...]:
    """Give the URIs in the subjectAltName: an application instance certificate has one, its application URI."""
    names = extension(certificate, x509.SubjectAlternativeName)
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier)) if names else ()


def hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    """Give the host names and addresses in the subjectAltName."""
    names = extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*(_canonical(name) for name in names.get_values_for_type(x509.DNSName)), *addresses)


def extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    """Give an extension; None if there is none, or they cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return None


def key_bits(certificate: x509.Certificate) -> int | None:
    """Give the length of an RSA key; None for a key of another kind."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else None


def _key_fault(certificate: x509.Certificate) -> UntrustedError | None:
    if key_bits(certificate) in KEY_BITS:
        return None
    text = "its certificate needs an RSA key of 2048 to 4096 bits"
    return UntrustedError("BadCertificatePolicyCheckFailed", text, f"{_RENEW}, with a key of 2048 bits or more.")


def _hash_fault(certificate: x509.Certificate) -> UntrustedError | None:
    try:
        kind = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        kind = None
    if isinstance(kind, _STRONG):
        return None
    text = f"its certificate is signed with {kind.name.upper() if kind else 'an unknown algorithm'}"
    return UntrustedError("BadCertificatePolicyCheckFailed", text, f"{_RENEW}, signed with SHA-256.")


def _date_fault(certificate: x509.Certificate, now: datetime, whose: str = "") -> UntrustedError | None:
    its = f"the certificate of {whose}" if whose else "its certificate"
    reason = "BadCertificateIssuerTimeInvalid" if whose else "BadCertificateTimeInvalid"
    if now < certificate.not_valid_before_utc:
        text = f"{its} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
    elif now > certificate.not_valid_after_utc:
        text = f"{its} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
    else:
        return None
    do = "Renew it, and check the clocks there and here."
    return UntrustedError(reason, f"{text}; the clock here says {now:%Y-%m-%d %H:%M}", do)


def _uri_fault(certificate: x509.Certificate, application_uri: str) -> UntrustedError | None:
    made_out_to = uris(certificate)
    if application_uri in made_out_to:
        return None
    names = ", ".join(made_out_to) or "no application URI at all"
    text = f"its certificate is made out to {names}, but the server calls itself {application_uri or 'nothing'}"
    return UntrustedError("BadCertificateUriInvalid", text, f"{_RENEW}, with the server's own application URI.")


def _use_fault(certificate: x509.Certificate) -> UntrustedError | None:
    """Look at what the certificate may be used for, if it says so (OPC 10000-6 section 6.2.2)."""
    use = extension(certificate, x509.ExtendedKeyUsage)
    any_use = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
    if use is not None and ExtendedKeyUsageOID.SERVER_AUTH not in use and any_use not in use:
        return UntrustedError("BadCertificateUseNotAllowed", "its certificate is not made out for a server")
    usage = extension(certificate, x509.KeyUsage)
    if usage is None or (usage.digital_signature and (usage.key_encipherment or usage.data_encipherment)):
        return None
    text = "its certificate's key may not be used to sign and to encrypt"
    do = f"{_RENEW}, with the key usages digitalSignature, keyEncipherment and dataEncipherment."
    return UntrustedError("BadCertificateUseNotAllowed", text, do)


def _host_fault(certificate: x509.Certificate, host: str) -> UntrustedError | None:
    named = hosts(certificate)
    if _canonical(host) in named:
        return None
    text = f"its certificate is made out to the host {', '.join(named) or '(none)'}, not to {host}"
    do = "Write a host that it names as endpoint, or trust this very certificate, which is then for any host."
    return UntrustedError("BadCertificateHostNameInvalid", text, do, known=False)


def _canonical(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.rstrip(".").lower()


def _chain_fault(chain: tuple[x509.Certificate, ...], trust: Trust, now: datetime) -> UntrustedError | None:
    """Look for a way from the certificate up to a trusted CA; each certificate is visited once at most.

    If a CA that we know is on the only way, but will not do, that is what is wrong.
    """
    wrong = None
    visited = {chain[0]}
    to_visit = [(chain[0], 0)]
    for certificate, depth in to_visit:
        for ca in (ca for ca in _cas(chain, trust) if ca not in visited and _issued(ca, certificate, depth)):
            fault = _ca_fault(ca, chain, trust, now)
            if fault is not None and ca in (*trust.trusted, *trust.issuers):
                wrong = wrong or fault
            if fault is None and ca in trust.trusted:
                return None
            if fault is None and depth < _LONGEST_CHAIN:
                visited.add(ca)
                to_visit.append((ca, depth + 1))
    text = "its certificate is not trusted here"
    return wrong or UntrustedError("BadCertificateUntrusted", text, "Trust it if it is the server's own.", known=False)


def _cas(chain: tuple[x509.Certificate, ...], trust: Trust) -> tuple[x509.Certificate, ...]:
    return (*trust.trusted, *trust.issuers, *chain[1:_LONGEST_CHAIN])


def _ca_fault(
    ca: x509.Certificate, chain: tuple[x509.Certificate, ...], trust: Trust, now: datetime
) -> UntrustedError | None:
    name = f"its issuer {ca.subject.rfc4514_string()}"
    return (
        _date_fault(ca, now, name)
        or _revocation_fault(ca, chain, trust, now, name)
        or (None if ca in trust.trusted else _hash_fault(ca))
    )


def _revocation_fault(
    certificate: x509.Certificate, chain: tuple[x509.Certificate, ...], trust: Trust, now: datetime, whose: str = ""
) -> UntrustedError | None:
    its = f"the certificate of {whose}" if whose else "its certificate"
    kind = "BadCertificateIssuer" if whose else "BadCertificate"
    # Only looking for one that was revoked: whether the CA may issue is decided on the way.
    for ca in _issuers_of(certificate, _cas(chain, trust) if trust.crls else ()):
        verdict = standing(certificate, ca, trust.crls, now)
        if verdict.standing is Standing.REVOKED:
            return UntrustedError(f"{kind}Revoked", f"{its} was revoked by {ca.subject.rfc4514_string()}")
        if verdict.standing is Standing.UNKNOWN and verdict.crl is not None:
            text = f"the CRL of {ca.subject.rfc4514_string()} ran out on {verdict.crl.next_update_utc:%Y-%m-%d} UTC"
            do = "Put the CA's new CRL into its place, or take the old one out if the CA keeps none any more."
            return UntrustedError(f"{kind}RevocationUnknown", text, do)
    return None


def _issuers_of(certificate: x509.Certificate, cas: Iterable[x509.Certificate]) -> Iterator[x509.Certificate]:
    return (ca for ca in cas if ca != certificate and _signed(ca, certificate))


def _issued(ca: x509.Certificate, certificate: x509.Certificate, depth: int) -> bool:
    """Whether `ca` may issue, and did issue, `certificate`; `depth` CAs lie between it and the server's own."""
    basic = extension(ca, x509.BasicConstraints)
    usage = extension(ca, x509.KeyUsage)
    if basic is None or not basic.ca or (basic.path_length is not None and depth > basic.path_length):
        return False
    return (usage is None or usage.key_cert_sign) and _signed(ca, certificate)


def _signed(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    if ca.subject != certificate.issuer:
        return False
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
