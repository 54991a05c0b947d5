"""The expiry of certificate files: read from what is on disk now."""

import os
from datetime import UTC, datetime
from pathlib import Path

import trustme

from gateway.files import CertificateFile
from gateway.health.certificates import CertificateFiles, parse_certificate

END = datetime(2030, 1, 1, tzinfo=UTC)
END_MS = int(END.timestamp() * 1000)


def issue(path: Path, end: datetime) -> None:
    trustme.CA().issue_cert("localhost", not_after=end).cert_chain_pems[0].write_to_path(path)


def test_a_pem_and_a_der_file_tell_until_when_they_are_valid(tmp_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    pem, der = tmp_path / "client.pem", tmp_path / "own.der"
    issue(pem, END)
    der.write_bytes(x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER))
    found = CertificateFiles({"mqtt client": CertificateFile(pem), "opcua own": CertificateFile(der)})()
    assert [(each.name, each.not_after_ms) for each in found] == [("mqtt client", END_MS), ("opcua own", END_MS)]


def test_a_renewed_file_counts_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "client.pem"
    issue(path, END)
    certificates = CertificateFiles({"mqtt client": CertificateFile(path)})
    assert certificates()[0].not_after_ms == END_MS
    issue(path, END.replace(year=2031))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1_000_000_000))
    assert certificates()[0].not_after_ms > END_MS


def test_a_file_that_is_no_certificate_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    files = {"one": CertificateFile(tmp_path / "text"), "two": CertificateFile(tmp_path / "missing")}
    assert CertificateFiles(files)() == []
    assert parse_certificate("x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "") is None


def test_of_a_folder_each_certificate_is_told_with_what_to_do_before_it_ends(tmp_path: Path) -> None:
    issue(tmp_path / "press.pem", END)
    (tmp_path / "ca.crl").write_text("no certificate")
    files = CertificateFiles({"opcua trusted": CertificateFile(tmp_path, "Renew it at the server.")})
    assert [(each.name, each.do) for each in files()] == [("opcua trusted press.pem", "Renew it at the server.")]
    issue(tmp_path / "robot.pem", END)
    assert [each.name for each in files()] == ["opcua trusted press.pem", "opcua trusted robot.pem"]
