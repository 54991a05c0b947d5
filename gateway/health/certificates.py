"""Until when the certificates in the config's own files are valid, read again when a file changes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gateway.files import CertificateFile
from gateway.health.parts import Certificate


class CertificateFiles:
    """The first certificate of each PEM or DER file, under the name it has in health; of a folder, those of its files.

    A file that cannot be read is left out: whatever uses it fails, and says so, when it connects.
    """

    def __init__(self, files: Mapping[str, CertificateFile]) -> None:
        self._files = dict(files)
        self._read: dict[str, tuple[int, Certificate | None]] = {}

    def __call__(self) -> Sequence[Certificate]:
        """Give those that can be read, in the order of the files."""
        found = [self._current(name, path, file.do) for name, path, file in self._each()]
        return [certificate for certificate in found if certificate is not None]

    def _each(self) -> Iterator[tuple[str, Path, CertificateFile]]:
        for name, file in self._files.items():
            try:
                inside = sorted(file.path.iterdir()) if file.path.is_dir() else None
            except OSError:
                continue
            if inside is None:
                yield name, file.path, file
            else:
                yield from ((f"{name} {path.name}", path, file) for path in inside if path.is_file())

    def _current(self, name: str, path: Path, do: str) -> Certificate | None:
        try:
            changed = path.stat().st_mtime_ns
            if name not in self._read or self._read[name][0] != changed:
                self._read[name] = (changed, parse_certificate(name, path.read_bytes(), do))
        except OSError:
            return None
        return self._read[name][1]


def parse_certificate(name: str, content: bytes, do: str) -> Certificate | None:
    """Read the first certificate of a PEM file, or the one of a DER file; None if there is none."""
    from cryptography import x509

    try:
        if b"-----BEGIN" in content:
            certificate = x509.load_pem_x509_certificate(content)
        else:
            certificate = x509.load_der_x509_certificate(content)
    except ValueError:
        return None
    return Certificate(name, int(certificate.not_valid_after_utc.timestamp() * 1000), do)
