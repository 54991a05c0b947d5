"""Certificates made to order, for servers as they should be and as they should not."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_URI = "urn:tests:plc"


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def key_der(self) -> bytes:
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())


def make_certificate(
    uri: str = SERVER_URI,
    *,
    issuer: Certificate | None = None,
    ca: bool = False,
    host: str = "127.0.0.1",
    days: tuple[int, int] = (-1, 30),
    use: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    bits: int = 2048,
    path_length: int | None = None,
    name: str = "",
    owner: str = "the PLC",
    usage: x509.KeyUsage | None = None,
    serial: int | None = None,
) -> Certificate:
    """Make a certificate, valid from so many days from now to so many; self-signed without an issuer.

    All certificates of an owner have the same key, since making one takes long; a CA has a key of its own.
    """
    key = ec.generate_private_key(ec.SECP256R1()) if ca else _rsa_key(owner, bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or ("a CA" if ca else uri))])
    begin, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    names = [x509.UniformResourceIdentifier(uri), x509.IPAddress(ipaddress.ip_address(host))]
    builder = x509.CertificateBuilder(
        issuer.certificate.subject if issuer else subject,
        subject,
        key.public_key(),
        serial or x509.random_serial_number(),
        begin,
        end,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    if usage is not None:
        builder = builder.add_extension(usage, critical=True)
    signed = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Certificate(signed, key)


@cache
def _rsa_key(owner: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def signs_only() -> x509.KeyUsage:
    """Give the usages of a key that may not encrypt."""
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def make_crl(issuer: Certificate, *serials: int, days: tuple[int, int] = (-2, 30), name: str = "") -> bytes:
    """Make a CRL, DER, that revokes serial numbers; it may claim to come from another CA of that `name`."""
    issued_by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if name else issuer.certificate.subject
    begin, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    builder = x509.CertificateRevocationListBuilder(issued_by, begin, end)
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder(serial, begin).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def with_sha1(made: Certificate, issuer: Certificate) -> Certificate:
    """Sign a certificate again with SHA-1, by hand: the library does not any more. Both keys are RSA."""
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    body = made.certificate.tbs_certificate_bytes.replace(sha256, sha1)
    assert isinstance(issuer.key, rsa.RSAPrivateKey)
    signature = issuer.key.sign(body, padding.PKCS1v15(), hashes.SHA1())
    algorithm = bytes.fromhex("300d06092a864886f70d0101050500")
    bits = b"\x03\x82" + (len(signature) + 1).to_bytes(2, "big") + b"\0" + signature
    whole = body + algorithm + bits
    der = b"\x30\x82" + len(whole).to_bytes(2, "big") + whole
    return Certificate(x509.load_der_x509_certificate(der), made.key)
