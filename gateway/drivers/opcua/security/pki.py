"""The folder of certificates: our own, those we trust, and those we rejected and an operator may move to `trusted`.

    own/       cert.der and key.pem, made on first run and kept for ever
    trusted/   certificates of servers, and of CAs whose servers are trusted
    issuers/   CA certificates that only complete chains
    rejected/  <sha256>.der of each unknown certificate that a server showed us

All functions here block for the time of some file access; the first `identity` also for that of making a key.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.drivers.opcua.security.trust import Trust, uris
from gateway.errors import DeviceError
from gateway.files import reason
from gateway.model import DeviceState

FOLDERS: Final = ("own", "trusted", "issuers", "rejected")
_CERTIFICATE: Final = "cert.der"
_KEY: Final = "key.pem"
_KEY_BITS: Final = 2048
_VALIDITY: Final = timedelta(days=3653)
"""Ten years: each renewal is a visit to every PLC, to trust the new certificate there."""
_CLOCK_FLOOR: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""A machine whose clock lost its battery starts in the past; its certificate must not be long expired by then."""
_LONGEST_NAME: Final = 64
_MOST_REJECTED: Final = 100
_LARGEST_FILE: Final = 1 << 20
_SUFFIXES: Final = frozenset({".der", ".pem", ".crt", ".cer"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Our application instance certificate, its key, and the application URI that it was made out to."""

    path: Path
    application_uri: str
    certificate: x509.Certificate = field(repr=False)
    key: rsa.RSAPrivateKey = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Expiry:
    """Until when a certificate is valid, for health: ms since the Unix epoch."""

    name: str
    not_after_ms: int


def prepare(folder: Path) -> None:
    """Make the folders that are missing, for the gateway's user alone. Raises DeviceError."""
    with _folder_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for path in (folder, *(folder / name for name in FOLDERS)):
            path.mkdir(mode=0o700, exist_ok=True)


def identity(folder: Path, gateway_id: str) -> Identity:
    """Load our certificate and key; make them where there are none yet.

    The application URI is what the certificate says: it outlives a change of the host's name. Raises DeviceError.
    """
    own = folder / "own"
    with _folder_errors(folder):
        if not (own / _CERTIFICATE).exists() and not (own / _KEY).exists():
            _make_pair(own, gateway_id, socket.gethostname())
        return _load_pair(own)


def application_uri(gateway_id: str, host: str) -> str:
    """Name this gateway to servers that have not seen a certificate of it."""
    return f"urn:{host}:edge-gateway:{gateway_id}"


def load_trust(folder: Path) -> Trust:
    """Load the certificates that decide whom we trust. A file that holds none is passed over. Raises DeviceError."""
    with _folder_errors(folder):
        return Trust(tuple(_certificates_in(folder / "trusted")), tuple(_certificates_in(folder / "issuers")))


def reject(folder: Path, certificate: bytes) -> Path:
    """Keep a certificate that nobody has trusted yet where an operator finds it. Raises DeviceError.

    Who can answer in a PLC's place can show a new certificate each time: only the latest hundred are kept.
    """
    rejected = folder / "rejected"
    path = rejected / f"{hashlib.sha256(certificate).hexdigest()}.der"
    with _folder_errors(folder):
        _write(path, certificate, 0o600)
        by_age = sorted(rejected.glob("*.der"), key=lambda file: file.stat().st_mtime_ns)
        for file in by_age[:-_MOST_REJECTED]:
            file.unlink(missing_ok=True)
    return path


def certificates(folder: Path) -> tuple[Expiry, ...]:
    """Give our own and the trusted certificates with their last days, for health. Raises DeviceError."""
    with _folder_errors(folder):
        own = [_expiry("opcua client", certificate) for certificate in _certificates_in(folder / "own")]
        trusted = [
            _expiry(f"opcua trusted {path.name}", certificate)
            for path in _files(folder / "trusted")
            for certificate in _read_certificates(path)
        ]
    return (*own, *trusted)


def _expiry(name: str, certificate: x509.Certificate) -> Expiry:
    return Expiry(name, int(certificate.not_valid_after_utc.timestamp() * 1000))


@contextlib.contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise _unusable(
            f"cannot use {where}: {reason(error)}", f"Give the gateway's user access to {folder}."
        ) from error


def _unusable(text: str, do: str) -> DeviceError:
    return DeviceError(text, reason="certificate-error", state=DeviceState.CERTIFICATE_ERROR, do=do)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())


def _certificates_in(folder: Path) -> Iterator[x509.Certificate]:
    for path in _files(folder):
        yield from _read_certificates(path)


def _read_certificates(path: Path) -> list[x509.Certificate]:
    """Read one DER certificate, or all PEM ones of a file. What is neither trusts nobody."""
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE)
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError:
        return []


def _load_pair(own: Path) -> Identity:
    certificate_path, key_path = own / _CERTIFICATE, own / _KEY
    anew = f"Put both files back, or move both out of {own}: a new pair is made then, for the servers to trust anew."
    for path in (certificate_path, key_path):
        if not path.exists():
            raise _unusable(f"{path} is missing beside the other half of our key pair", anew)
    found = _read_certificates(certificate_path)
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise _unusable(f"{key_path} is no PEM private key without a passphrase", anew) from None
    if not found or not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != found[0].public_key():
        raise _unusable(f"{certificate_path} does not belong to {key_path}", anew)
    application_uris = uris(found[0])
    if not application_uris:
        raise _unusable(f"{certificate_path} names no application URI in its subjectAltName", anew)
    return Identity(certificate_path, application_uris[0], found[0], key)


def _make_pair(own: Path, gateway_id: str, host: str) -> None:
    """Make the pair in a folder of its own and put that in place: another device that starts now finds both or none."""
    made = Path(tempfile.mkdtemp(prefix=".own-", dir=own.parent))
    try:
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        _write(made / _KEY, _key_pem(key), 0o600)
        _write(made / _CERTIFICATE, _der(self_signed(key, gateway_id, host)), 0o644)
        made.rename(own)
    except OSError:
        if not (own / _CERTIFICATE).exists():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def self_signed(key: rsa.RSAPrivateKey, gateway_id: str, host: str) -> x509.Certificate:
    """Make a client's application instance certificate as OPC 10000-6 section 6.2.2 wants it, valid for ten years."""
    begin = max(datetime.now(UTC), _CLOCK_FLOOR) - timedelta(days=1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge-gateway {gateway_id}"[:_LONGEST_NAME])])
    public = key.public_key()
    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    serial = x509.random_serial_number()
    issuer = x509.AuthorityKeyIdentifier(key_id.digest, [x509.DirectoryName(name)], serial)
    names = [x509.UniformResourceIdentifier(application_uri(gateway_id, host)), x509.DNSName(host)]
    builder = x509.CertificateBuilder(name, name, public, serial, begin, begin + _VALIDITY)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_KEY_USAGE, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    builder = builder.add_extension(key_id, critical=False).add_extension(issuer, critical=False)
    return builder.sign(key, hashes.SHA256())


_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=True,
    key_encipherment=True,
    data_encipherment=True,
    key_agreement=False,
    key_cert_sign=True,  # of a self-signed certificate, which is its own issuer
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _key_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 -- the file that mkstemp opened
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
