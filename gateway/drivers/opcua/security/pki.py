"""The folder of certificates: our own, those we trust, and those we rejected and an operator may trust.

    own/       our certificate and key (see `own`)
    trusted/   certificates of servers, and of CAs whose servers are trusted
    issuers/   CA certificates that only complete chains
    rejected/  <sha256>.der of each unknown certificate that a server showed us

CRLs lie beside the certificates in trusted/ and issuers/, as NAME.crl. All files may be DER or PEM. The folder is
read at every connect: what was put there counts from the next attempt on. All functions block for some file access.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.drivers.opcua.security.trust import Trust
from gateway.errors import DeviceError
from gateway.files import reason
from gateway.model import DeviceState

FOLDERS: Final = ("own", "trusted", "issuers", "rejected")
_MOST_REJECTED: Final = 100
_LARGEST_FILE: Final = 1 << 20
_SUFFIXES: Final = frozenset({".der", ".pem", ".crt", ".cer"})
_ROOT: Final = 0


@dataclass(frozen=True, slots=True)
class Filed:
    """A certificate, and the file in which it lies."""

    path: Path
    certificate: x509.Certificate = field(repr=False)

    @property
    def folder(self) -> str:
        """`own`, `trusted`, `issuers` or `rejected`."""
        return self.path.parent.name

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint in hexadecimal digits."""
        return fingerprint(self.certificate)


def fingerprint(certificate: x509.Certificate) -> str:
    """Give the SHA-256 fingerprint in hexadecimal digits."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def prepare(folder: Path) -> None:
    """Make the folders that are missing, for the gateway's user alone. Raises DeviceError."""
    with folder_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for path in (folder, *(folder / name for name in FOLDERS)):
            if not path.is_dir():
                path.mkdir(mode=0o700, exist_ok=True)
                hand_over(path)


def load_trust(folder: Path) -> Trust:
    """Load what decides whom we trust. Raises DeviceError.

    A file that holds no certificate trusts nobody, and is passed over; a CRL that cannot be read might hide that a
    certificate was revoked, and is not.
    """
    places = (folder / "trusted", folder / "issuers")
    with folder_errors(folder):
        trusted, issuers = (tuple(filed.certificate for filed in _in(place)) for place in places)
        crls = tuple(crl for place in places for crl in _crls_in(place))
    return Trust(trusted, issuers, crls)


def reject(folder: Path, certificate: bytes) -> Path:
    """Keep a certificate that nobody has trusted yet where an operator finds it. Raises DeviceError.

    Who can answer in a PLC's place can show a new certificate each time: only the latest hundred are kept.
    """
    rejected = folder / "rejected"
    path = rejected / f"{hashlib.sha256(certificate).hexdigest()}.der"
    with folder_errors(folder):
        write(path, certificate, 0o600)
        by_age = sorted(rejected.glob("*.der"), key=lambda file: file.stat().st_mtime_ns)
        for file in by_age[:-_MOST_REJECTED]:
            file.unlink(missing_ok=True)
    return path


def accept(folder: Path, filed: Filed) -> Path:
    """Move a rejected certificate to those that are trusted. Raises DeviceError."""
    path = folder / "trusted" / f"{filed.fingerprint}.der"
    with folder_errors(folder):
        filed.path.replace(path)
    return path


def all_filed(folder: Path) -> list[Filed]:
    """Give every certificate of the folder: our own, the trusted, the issuers, the rejected. Raises DeviceError."""
    with folder_errors(folder):
        return [filed for name in FOLDERS for filed in _in(folder / name)]


@contextlib.contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Raise DeviceError where a file or folder cannot be used."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise unusable(
            f"cannot use {where}: {reason(error)}", f"Give the gateway's user access to {folder}."
        ) from error


def unusable(text: str, do: str) -> DeviceError:
    """Say what is wrong with what lies in the folder."""
    return DeviceError(text, reason="certificate-error", state=DeviceState.CERTIFICATE_ERROR, do=do)


def _files(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    return [path for path in found if not path.name.startswith(".") and path.is_file()]


def _in(folder: Path) -> Iterator[Filed]:
    for path in _files(folder):
        if path.suffix.lower() in _SUFFIXES:
            yield from (Filed(path, certificate) for certificate in certificates_of(path))


def certificates_of(path: Path) -> list[x509.Certificate]:
    """Read one DER certificate, or all PEM ones of a file; none where there is none. Raises OSError."""
    content = _content(path)
    try:
        if b"-----BEGIN" in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError:
        return []


def _crls_in(folder: Path) -> Iterator[x509.CertificateRevocationList]:
    for path in _files(folder):
        if path.suffix.lower() != ".crl":
            continue
        content = _content(path)
        load = x509.load_pem_x509_crl if b"-----BEGIN" in content else x509.load_der_x509_crl
        try:
            yield load(content)
        except ValueError:
            do = "Put the CA's CRL there, as DER or PEM, one in each file; or take it out."
            raise unusable(f"{path} is no certificate revocation list (CRL)", do) from None


def _content(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST_FILE)


def write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all. Raises OSError."""
    handle, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 -- the file that mkstemp opened
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        hand_over(Path(name))
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def hand_over(path: Path) -> None:
    """Let what root makes, from the command line, belong to whom the folder belongs: the gateway's own user."""
    if os.geteuid() == _ROOT:
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid)
