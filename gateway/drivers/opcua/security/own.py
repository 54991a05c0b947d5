"""Our own application instance certificate: made on first run, kept, renewed in time, or signed by a company's CA.

    own/cert.der    the certificate that servers see; made by ourselves, or installed from a CA
    own/chain.pem   the CA certificates above it, if a CA gave them
    own/key.pem     its private key, mode 0600; it stays the same for ever
    own/next.der    from 60 days before a self-signed certificate ends: its successor, of the same key

Each new certificate is a visit to every PLC. So a self-signed one is valid for ten years, its successor is there 60
days before it ends and is used from its last day on: within that time servers can trust both. What a CA signed is
never replaced by ourselves. All functions block for some file access; the first `identity` also for making a key.
"""

import shutil
import socket
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.drivers.opcua.security.pki import certificates_of, folder_errors, hand_over, unusable, write
from gateway.drivers.opcua.security.trust import KEY_BITS, uris

CERTIFICATE: Final = "cert.der"
CHAIN: Final = "chain.pem"
KEY: Final = "key.pem"
NEXT: Final = "next.der"
REQUEST: Final = "request.csr"
SUCCESSOR_AHEAD: Final = timedelta(days=60)
_LAST_DAY: Final = timedelta(days=1)
_LONG_AGO: Final = timedelta(days=366)
"""A certificate that ended so long ago more likely means a clock gone wrong than a gateway that stood still."""
_KEY_BITS: Final = 2048
_VALIDITY: Final = timedelta(days=3653)
_CLOCK_FLOOR: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""A machine whose clock lost its battery starts in the past; its certificate must not be long expired by then."""
_LONGEST_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Identity:
    """Our certificate, the CAs above it if there are any, its key, and the application URI that it was made out to."""

    path: Path
    application_uri: str
    certificate: x509.Certificate = field(repr=False)
    key: rsa.RSAPrivateKey = field(repr=False, compare=False)
    chain: tuple[x509.Certificate, ...] = field(default=(), repr=False)

    @property
    def is_self_signed(self) -> bool:
        """Whether nobody else signed the certificate."""
        try:
            self.certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def identity(folder: Path, gateway_id: str, now: datetime | None = None) -> Identity:
    """Load our certificate and key; make them where there are none, and the successor where it is time.

    The application URI is what the certificate says: it outlives a change of the host's name. Raises DeviceError.
    """
    own = folder / "own"
    with folder_errors(folder):
        if not (own / CERTIFICATE).exists() and not (own / KEY).exists():
            _make_pair(own, gateway_id, socket.gethostname())
        found = _load_pair(own)
        return _renewed(own, found, now or datetime.now(UTC)) if found.is_self_signed else found


def application_uri(gateway_id: str, host: str) -> str:
    """Name this gateway to servers that have not seen a certificate of it."""
    return f"urn:{host}:edge-gateway:{gateway_id}"


def request(folder: Path, found: Identity) -> Path:
    """Write a request for a certificate of the same key, URI and host names, for a CA. Raises DeviceError."""
    builder = x509.CertificateSigningRequestBuilder(found.certificate.subject)
    names = found.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(_usage(signs_itself=False), critical=True)
    builder = builder.add_extension(_CLIENT, critical=False)
    path = folder / "own" / REQUEST
    with folder_errors(folder):
        pem = builder.sign(found.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        write(path, pem, 0o644)
    return path


def install(folder: Path, found: Identity, file: Path) -> Path:
    """Put a certificate that a CA made of our request, and the chain behind it, into place. Raises DeviceError.

    The file holds our certificate as DER, or as PEM with those of the CAs after it.
    """
    with folder_errors(file):
        certificates = certificates_of(file)
    mine = [certificate for certificate in certificates if certificate.public_key() == found.key.public_key()]
    if not mine:
        do = "Give the CA the request of `edge-gateway certs init --csr`, and install what it makes of it."
        raise unusable(f"{file} holds no certificate for {folder / 'own' / KEY}", do)
    if found.application_uri not in uris(mine[0]):
        do = "The CA must take over the subjectAltName of the request: ask for it again."
        raise unusable(f"the certificate in {file} does not name {found.application_uri}", do)
    own = folder / "own"
    above = [certificate for certificate in certificates if certificate != mine[0]]
    with folder_errors(folder):
        (own / NEXT).unlink(missing_ok=True)
        write(own / CHAIN, b"".join(ca.public_bytes(serialization.Encoding.PEM) for ca in above), 0o644)
        write(own / CERTIFICATE, _der(mine[0]), 0o644)
    return own / CERTIFICATE


def _load_pair(own: Path) -> Identity:
    certificate_path, key_path = own / CERTIFICATE, own / KEY
    anew = f"Put both files back, or move all out of {own}: a new pair is made then, for the servers to trust anew."
    for path in (certificate_path, key_path):
        if not path.exists():
            raise unusable(f"{path} is missing beside the other half of our key pair", anew)
    found = certificates_of(certificate_path)
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (ValueError, TypeError):
        raise unusable(f"{key_path} is no PEM private key without a passphrase", anew) from None
    if not found or not isinstance(key, rsa.RSAPrivateKey) or key.public_key() != found[0].public_key():
        raise unusable(f"{certificate_path} does not belong to {key_path}", anew)
    if key.key_size not in KEY_BITS:
        raise unusable(f"{key_path} has {key.key_size} bits, where OPC UA's policies ask for 2048 to 4096", anew)
    application_uris = uris(found[0])
    if not application_uris:
        raise unusable(f"{certificate_path} names no application URI in its subjectAltName", anew)
    chain = certificates_of(own / CHAIN) if (own / CHAIN).exists() else []
    return Identity(certificate_path, application_uris[0], found[0], key, (*found[1:], *chain))


def _renewed(own: Path, found: Identity, now: datetime) -> Identity:
    """Make the successor where it is time, and change over to it on the last day."""
    left = found.certificate.not_valid_after_utc - now
    if left > SUCCESSOR_AHEAD:
        return found
    if left < -_LONG_AGO:
        ended = found.certificate.not_valid_after_utc
        text = f"{found.path} expired on {ended:%Y-%m-%d}; the clock here says {now:%Y-%m-%d}"
        raise unusable(text, f"Set the clock, or move all files out of {own}: a new pair is made then.")
    if not (own / NEXT).exists():
        write(own / NEXT, _der(_successor(found, now)), 0o644)
    if left <= _LAST_DAY:
        (own / NEXT).replace(own / CERTIFICATE)
        return _load_pair(own)
    return found


def _make_pair(own: Path, gateway_id: str, host: str) -> None:
    """Make the pair in a folder of its own and put that in place: another device that starts now finds both or none."""
    made = Path(tempfile.mkdtemp(prefix=".own-", dir=own.parent))
    try:
        hand_over(made)
        key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        write(made / KEY, _key_pem(key), 0o600)
        write(made / CERTIFICATE, _der(self_signed(key, gateway_id, host)), 0o644)
        for of_the_last_key in (NEXT, CHAIN, REQUEST):
            (own / of_the_last_key).unlink(missing_ok=True)
        made.rename(own)
    except OSError:
        if not (own / CERTIFICATE).exists():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)


def self_signed(
    key: rsa.RSAPrivateKey, gateway_id: str, host: str, validity: timedelta = _VALIDITY
) -> x509.Certificate:
    """Make a client's application instance certificate as OPC 10000-6 section 6.2.2 wants it, valid for ten years."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"edge-gateway {gateway_id}"[:_LONGEST_NAME])])
    names = [x509.UniformResourceIdentifier(application_uri(gateway_id, host)), x509.DNSName(host)]
    begin = max(datetime.now(UTC), _CLOCK_FLOOR) - _LAST_DAY
    return _signed(key, name, x509.SubjectAlternativeName(names), (begin, begin + validity))


def _successor(found: Identity, now: datetime) -> x509.Certificate:
    """Make a certificate that differs in its serial number and its dates only."""
    names = found.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return _signed(found.key, found.certificate.subject, names, (now - _LAST_DAY, now + _VALIDITY))


def _signed(
    key: rsa.RSAPrivateKey, name: x509.Name, names: x509.SubjectAlternativeName, dates: tuple[datetime, datetime]
) -> x509.Certificate:
    public = key.public_key()
    key_id = x509.SubjectKeyIdentifier.from_public_key(public)
    serial = x509.random_serial_number()
    issuer = x509.AuthorityKeyIdentifier(key_id.digest, [x509.DirectoryName(name)], serial)
    builder = x509.CertificateBuilder(name, name, public, serial, *dates)
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_itself=True), critical=True)
    builder = builder.add_extension(_CLIENT, critical=False)
    builder = builder.add_extension(key_id, critical=False).add_extension(issuer, critical=False)
    return builder.sign(key, hashes.SHA256())


_CLIENT: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


def _usage(*, signs_itself: bool) -> x509.KeyUsage:
    """Give the key usages of a client; a self-signed certificate is its own issuer."""
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=signs_itself,
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
