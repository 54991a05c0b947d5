"""The certificates of simulated devices: a robot's own, and those of both sides of Modbus TCP Security."""

import ipaddress
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What mutual TLS takes, as PEM files: the authority that signed both sides, the server's part, the client's."""

    authority: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Those of a folder, by their usual names; all are made if the authority is missing."""
        names = ("ca.pem", "plc.pem", "plc.key.pem", "client.pem", "client.key.pem")
        files = cls(*(folder / name for name in names))
        if not files.authority.is_file():
            files._make()
        return files

    def _make(self) -> None:
        self.authority.parent.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named("edge-gateway simulated plant")
        root = _begun(name, name, key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.authority.write_bytes(root.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        sides = (
            (self.server, self.server_key, "simulated PLC", ExtendedKeyUsageOID.SERVER_AUTH),
            (self.client, self.client_key, "gateway", ExtendedKeyUsageOID.CLIENT_AUTH),
        )
        for path, key_path, common_name, use in sides:
            own = ec.generate_private_key(ec.SECP256R1())
            _write_key(key_path, own)
            leaf = (
                _begun(_named(common_name), name, own.public_key())
                .add_extension(x509.SubjectAlternativeName(_LOOPBACK), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            )
            path.write_bytes(leaf.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def own_certificate(folder: Path, application_uri: str) -> tuple[Path, Path]:
    """The self-signed certificate (DER) and private key (PEM) of an OPC UA application (OPC 10000-6 section 6.2.2).

    They are made in the folder if they are missing.

    A folder that is used again gives the same certificate, so that a client needs to trust it once only.
    """
    certificate_path, key_path = folder / "robot.der", folder / "robot.key.pem"
    if certificate_path.is_file() and key_path.is_file():
        return certificate_path, key_path
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(key_path, key)
    certificate = _signed(key, application_uri)
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    return certificate_path, key_path


def _signed(key: rsa.RSAPrivateKey, application_uri: str) -> x509.Certificate:
    name = _named("edge-gateway simulated robot")
    hosts = dict.fromkeys(["localhost", socket.gethostname()])
    names = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier(application_uri),
            *(x509.DNSName(host) for host in hosts),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
    )
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    return (
        _begun(name, name, key.public_key())
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365))
    )


def _write_key(path: Path, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


_LOOPBACK = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=True,
    key_encipherment=True,
    data_encipherment=True,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
