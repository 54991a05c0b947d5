"""Certificates as JSON, as a table, and as a screen to compare with what a PLC's panel shows."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from gateway.drivers.opcua.security.own import NEXT
from gateway.drivers.opcua.security.pki import Filed
from gateway.drivers.opcua.security.trust import extension, hosts, key_bits, uris
from gateway.logs import printable

_SHORT = 16
_USES = {
    "digital_signature": "digitalSignature",
    "content_commitment": "nonRepudiation",
    "key_encipherment": "keyEncipherment",
    "data_encipherment": "dataEncipherment",
    "key_cert_sign": "keyCertSign",
    "crl_sign": "cRLSign",
}
_TITLES = {
    "own": "own: what servers must trust",
    "trusted": "trusted servers and CAs",
    "issuers": "issuers: complete chains only",
    "rejected": "rejected: unknown servers",
}


def as_document(filed: Filed, now: datetime) -> dict[str, Any]:
    """Give a certificate as JSON has it."""
    certificate = filed.certificate
    return {
        "folder": filed.folder,
        "path": str(filed.path),
        "sha256": filed.fingerprint,
        "sha1": certificate.fingerprint(hashes.SHA1()).hex(),  # noqa: S303 -- to compare; nothing is decided by it
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "uris": list(uris(certificate)),
        "hosts": list(hosts(certificate)),
        "not_before_ms": int(certificate.not_valid_before_utc.timestamp() * 1000),
        "not_after_ms": int(certificate.not_valid_after_utc.timestamp() * 1000),
        "days_left": _days_left(certificate, now),
        "key": _key(certificate),
        "signature": _signature(certificate),
        "uses": _uses(certificate),
        "is_ca": _is_ca(certificate),
    }


def as_table(filed: Sequence[Filed], crls: Sequence[x509.CertificateRevocationList], now: datetime) -> Iterator[str]:
    """Write one line for each certificate, by folder, and one for each CRL."""
    for folder, title in _TITLES.items():
        inside = [each for each in filed if each.folder == folder]
        if inside:
            yield title
        for each in inside:
            yield f"  {each.fingerprint[:_SHORT]}  {_until(each.certificate, now):>29}  {_name(each)}"
    if crls:
        yield "CRLs"
    for crl in crls:
        ends = "without end" if crl.next_update_utc is None else f"until {crl.next_update_utc:%Y-%m-%d}"
        yield f"  {len(crl)} revoked, {ends}  {printable(crl.issuer.rfc4514_string())}"


def _name(filed: Filed) -> str:
    certificate = filed.certificate
    names = ", ".join((*uris(certificate), *hosts(certificate)))
    note = (
        "  (used from the last day of the present one on: let the servers trust it)" if filed.path.name == NEXT else ""
    )
    return printable(f"{certificate.subject.rfc4514_string()}  {names}".rstrip()) + note


def as_screen(filed: Filed, wrong: Sequence[str], now: datetime) -> Iterator[str]:
    """Write all of a certificate that a person compares, and what is wrong with it."""
    document = as_document(filed, now)
    certificate = filed.certificate
    lines = {
        "file": document["path"],
        "subject": document["subject"],
        "issuer": document["issuer"] if certificate.issuer != certificate.subject else "itself (self-signed)",
        "serial number": document["serial"],
        "application URI": ", ".join(document["uris"]) or "none",
        "hosts": ", ".join(document["hosts"]) or "none",
        "valid": f"from {_instant(certificate.not_valid_before_utc)} to {_until(certificate, now)}",
        "key": document["key"],
        "signed with": document["signature"],
        "may be used for": ", ".join(document["uses"]) or "anything (it does not say)",
        "SHA-256": _spaced(document["sha256"]),
        "SHA-1": _spaced(document["sha1"]),
    }
    for name, text in lines.items():
        yield f"{name + ':':<17}{printable(text)}"
    for sentence in wrong:
        yield f"{'refused:':<17}{printable(sentence)}"


def _key(certificate: x509.Certificate) -> str:
    bits = key_bits(certificate)
    return "not RSA" if bits is None else f"RSA, {bits} bits"


def _signature(certificate: x509.Certificate) -> str:
    return (
        getattr(certificate.signature_algorithm_oid, "_name", "") or certificate.signature_algorithm_oid.dotted_string
    )


def _uses(certificate: x509.Certificate) -> list[str]:
    usage = extension(certificate, x509.KeyUsage)
    extended = extension(certificate, x509.ExtendedKeyUsage)
    found = [name for attribute, name in _USES.items() if usage is not None and getattr(usage, attribute)]
    return found + [getattr(oid, "_name", oid.dotted_string) for oid in extended or ()]


def _is_ca(certificate: x509.Certificate) -> bool:
    basic = extension(certificate, x509.BasicConstraints)
    return basic is not None and basic.ca


def _until(certificate: x509.Certificate, now: datetime) -> str:
    days = _days_left(certificate, now)
    left = "expired" if certificate.not_valid_after_utc < now else f"{days} days left"
    return f"{certificate.not_valid_after_utc.astimezone(UTC):%Y-%m-%d} ({left})"


def _days_left(certificate: x509.Certificate, now: datetime) -> int:
    return (certificate.not_valid_after_utc - now).days


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _spaced(digits: str) -> str:
    """Write a fingerprint as panels and browsers do: pairs with colons between them."""
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2)).upper()
