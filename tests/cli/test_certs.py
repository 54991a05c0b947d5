"""`edge-gateway certs`: the certificates of OPC UA, as an operator at the PLC needs them."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gateway.drivers.opcua.security import own, pki
from tests.cli.conftest import Shell

DAY = timedelta(days=1)


def config(folder: Path, *pki_dirs: str) -> None:
    """A config whose robots use these folders."""
    robot = {"protocol": "opcua", "tags": [{"name": "speed", "node": "i=2258"}]}
    devices = [
        robot | {"name": f"robot-{n}", "endpoint": f"opc.tcp://192.0.2.{n}:4840", "security": {"pki_dir": name}}
        for n, name in enumerate(pki_dirs, 1)
    ]
    document = {"gateway": {"id": "hall-3"}, "mqtt": {"host": "broker.example.com"}, "devices": devices}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(document))


def issued(key: rsa.RSAPublicKey, names: x509.SubjectAlternativeName, days: int = 30) -> list[x509.Certificate]:
    """A certificate for a key, and that of the CA which signed it."""
    ca_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the company's CA")])
    now = datetime.now(UTC)
    found = []
    for subject, public, is_ca in ((x509.Name([]), key, False), (ca_name, ca_key.public_key(), True)):
        builder = x509.CertificateBuilder(
            ca_name, subject, public, x509.random_serial_number(), now - DAY, now + days * DAY
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        if not is_ca:
            builder = builder.add_extension(names, critical=False)
        found.append(builder.sign(ca_key, hashes.SHA256()))
    return found


def reject(folder: Path, days: int = 30) -> str:
    """Let the gateway find an unknown server, and give the fingerprint of its certificate."""
    pki.prepare(folder)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("urn:plc"), x509.DNSName("plc-7")])
    server, _ = issued(key.public_key(), names, days)
    return pki.reject(folder, server.public_bytes(serialization.Encoding.DER)).stem


async def test_init_makes_the_certificate_before_the_first_connection_and_then_keeps_it(shell: Shell) -> None:
    config(shell.folder, "pki")
    first = await shell("certs", "-c", "gateway.yaml", "init")
    assert (first.code, first.err) == (0, "")
    made = own.identity(shell.folder / "pki", "")
    assert made.application_uri.endswith(":edge-gateway:hall-3")
    for told in (f"{made.path}: made", made.application_uri, "SHA-256:", "SHA-1:", "self-signed", "clientAuth"):
        assert told in first.out
    again = await shell("certs", "-c", "gateway.yaml", "init")
    assert "kept, it was there already" in again.out
    assert own.identity(shell.folder / "pki", "") == made
    assert stat.S_IMODE((shell.folder / "pki" / "own" / "key.pem").stat().st_mode) == 0o600
    assert "PRIVATE" not in first.out + again.out


async def test_a_request_goes_to_the_companys_ca_and_what_comes_back_is_put_into_place(shell: Shell) -> None:
    config(shell.folder, "pki")
    asked = await shell("certs", "-c", "gateway.yaml", "init", "--csr")
    path = shell.folder / "pki" / "own" / "request.csr"
    assert str(path) in asked.out
    request = x509.load_pem_x509_csr(path.read_bytes())
    assert request.is_signature_valid
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [
        own.identity(path.parents[1], "").application_uri
    ]
    assert request.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    key = request.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    mine, ca = issued(key, names)
    pem = b"".join(each.public_bytes(serialization.Encoding.PEM) for each in (mine, ca))
    (shell.folder / "signed.pem").write_bytes(pem)
    outcome = await shell("certs", "-c", "gateway.yaml", "install", "signed.pem")
    assert (outcome.code, outcome.err) == (0, "")
    identity = own.identity(shell.folder / "pki", "")
    assert (identity.certificate, identity.chain) == (mine, (ca,))


async def test_a_certificate_that_is_not_ours_is_not_installed(shell: Shell) -> None:
    config(shell.folder, "pki")
    nothing = await shell("certs", "-c", "gateway.yaml", "install", "signed.pem")
    assert (nothing.code, "certs init --csr" in nothing.err) == (1, True)
    await shell("certs", "-c", "gateway.yaml", "init")
    before = own.identity(shell.folder / "pki", "")
    strange, _ = issued(
        rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(),
        x509.SubjectAlternativeName([x509.UniformResourceIdentifier(before.application_uri)]),
    )
    nameless, _ = issued(before.key.public_key(), x509.SubjectAlternativeName([x509.DNSName("x")]))
    for wrong, told in ((strange, "holds no certificate for"), (nameless, "does not name urn:")):
        (shell.folder / "signed.der").write_bytes(wrong.public_bytes(serialization.Encoding.DER))
        outcome = await shell("certs", "-c", "gateway.yaml", "install", "signed.der")
        assert (outcome.code, told in outcome.err) == (1, True)
    missing = await shell("certs", "-c", "gateway.yaml", "install", "no-such-file")
    assert (missing.code, "there is no such file" in missing.err) == (1, True)
    assert own.identity(shell.folder / "pki", "") == before


async def test_a_rejected_server_is_shown_and_trusted_by_the_beginning_of_its_fingerprint(shell: Shell) -> None:
    config(shell.folder, "pki")
    found = reject(shell.folder / "pki")
    shown = await shell("certs", "-c", "gateway.yaml", "show", found[:8])
    assert shown.code == 0
    for told in ("urn:plc", "plc-7", "RSA, 2048 bits", "29 days left", ":".join([found[:2], found[2:4]]).upper()):
        assert told in shown.out
    assert "refused" not in shown.out
    trusted = await shell("certs", "--pki-dir", "pki", "trust", found[:8].upper())
    assert (trusted.code, trusted.err) == (0, "")
    assert list((shell.folder / "pki" / "rejected").iterdir()) == []
    assert [path.stem for path in (shell.folder / "pki" / "trusted").iterdir()] == [found]
    again = await shell("certs", "-c", "gateway.yaml", "trust", found)
    assert (again.code, "is trusted already" in again.out) == (0, True)


async def test_what_the_gateway_would_refuse_all_the_same_is_told(shell: Shell) -> None:
    found = reject(shell.folder / "pki", days=0)
    shown = await shell("certs", "--pki-dir", "pki", "show", found)
    assert "refused:" in shown.out
    assert "expired on" in shown.out
    trusted = await shell("certs", "--pki-dir", "pki", "trust", found)
    assert trusted.code == 0
    assert "still refuse" in trusted.err


async def test_all_certificates_are_listed_with_the_days_they_have_left(shell: Shell) -> None:
    config(shell.folder, "pki")
    empty = await shell("certs", "-c", "gateway.yaml", "list")
    assert (empty.code, "holds no certificates yet" in empty.out) == (0, True)
    await shell("certs", "-c", "gateway.yaml", "init")
    found = reject(shell.folder / "pki")
    listed = await shell("certs", "-c", "gateway.yaml", "list")
    assert "own" in listed.out
    assert found[:16] in listed.out
    assert "29 days left" in listed.out
    document = json.loads((await shell("certs", "-c", "gateway.yaml", "list", "--json")).out)
    assert {(each["folder"], each["days_left"] > 0) for each in document["certificates"]} == {
        ("own", True), ("rejected", True)
    }  # fmt: skip
    assert found in {each["sha256"] for each in document["certificates"]}
    shown = json.loads((await shell("certs", "--pki-dir", "pki", "show", found, "--json")).out)
    assert (shown["hosts"], shown["faults"]) == (["plc-7"], [])


@pytest.mark.parametrize("wrong", ["", "zz", "abc", "0123456789abcdef"])
async def test_a_fingerprint_that_none_has_is_one_sentence(shell: Shell, wrong: str) -> None:
    reject(shell.folder / "pki")
    for verb in ("show", "trust"):
        outcome = await shell("certs", "--pki-dir", "pki", verb, wrong)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.count("\n") == 1


async def test_several_folders_need_a_choice_and_without_any_there_is_nothing_to_show(shell: Shell) -> None:
    config(shell.folder, "one", "two")
    several = await shell("certs", "-c", "gateway.yaml", "list")
    assert (several.code, "--pki-dir" in several.err) == (1, True)
    assert (await shell("certs", "-c", "gateway.yaml", "--pki-dir", "two", "list")).code == 0
    config(shell.folder)
    assert (await shell("certs", "-c", "gateway.yaml", "list")).code in (1, 2)
    assert (await shell("certs", "list")).code == 2
    assert (await shell("certs", "show", "--help")).code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_what_root_makes_belongs_to_whom_the_folder_belongs(shell: Shell) -> None:
    config(shell.folder, "pki")
    (shell.folder / "pki").mkdir()
    os.chown(shell.folder / "pki", 1234, 1234)
    assert (await shell("certs", "-c", "gateway.yaml", "init", "--csr")).code == 0
    owners = {path.stat().st_uid for path in (shell.folder / "pki").rglob("*")}
    assert owners == {1234}
