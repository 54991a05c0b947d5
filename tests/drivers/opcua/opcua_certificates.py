"""Certificates made to order, for servers as they should be and as they should not."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
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
        x509.random_serial_number(),
        begin,
        end,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
    signed = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Certificate(signed, key)


@cache
def _rsa_key(owner: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)
