"""Whether a certificate was revoked by its issuer: plain decisions on CRLs, without I/O.

A CRL counts for a certificate only if it names the certificate's issuer and carries that issuer's signature: another
CA may well have given the same serial number to somebody else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


class Standing(Enum):
    """What the CRLs say of a certificate."""

    GOOD = auto()
    REVOKED = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a CA says of a certificate, and the CA's newest CRL, where it has one."""

    standing: Standing
    crl: x509.CertificateRevocationList | None = None


def standing(
    certificate: x509.Certificate, ca: x509.Certificate, crls: Iterable[x509.CertificateRevocationList], now: datetime
) -> Verdict:
    """Say whether `ca`, which issued `certificate`, has revoked it: its newest CRL counts.

    A CA without a CRL here revokes nothing: OPC 10000-4 section 6.1.3 leaves the search for one to the administrator,
    who decides by putting a CRL there. Once there is one, a CRL that ran out leaves it unknown whether a certificate
    that it does not list is still good (RFC 5280 section 6.3.3).
    """
    own = [crl for crl in crls if _is_of(crl, ca)]
    if not own:
        return Verdict(Standing.GOOD)
    newest = max(own, key=lambda crl: crl.last_update_utc)
    if newest.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        return Verdict(Standing.REVOKED, newest)
    ends = newest.next_update_utc
    return Verdict(Standing.UNKNOWN if ends is not None and ends < now else Standing.GOOD, newest)


def _is_of(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    if crl.issuer != ca.subject:
        return False
    try:
        key: Any = ca.public_key()
        return crl.is_signature_valid(key)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
