"""`edge-gateway certs`: our own certificate for OPC UA, and the servers that are trusted or were rejected."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.certificates import as_document, as_screen, as_table
from gateway.config import Config, load
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.security import own, pki
from gateway.drivers.opcua.security.pki import Filed
from gateway.drivers.opcua.security.trust import faults
from gateway.errors import DeviceError, GatewayError, told

_LEAST_DIGITS: Final = 4


@dataclass(frozen=True)
class _Place:
    """Which folder is meant: looked up once a command needs it, so that none does for its help."""

    path: Path | None
    pki_dir: Path | None

    @cached_property
    def config(self) -> Config | None:
        """The config, where one was given."""
        return None if self.path is None else load(self.path, elsewhere=True)

    @cached_property
    def folder(self) -> Path:
        """The folder that was named, or the one that the config's devices use. Raises GatewayError, UsageError."""
        if self.pki_dir is not None:
            return self.pki_dir
        if self.config is None:
            raise click.UsageError("say where the certificates are: -c gateway.yaml, or --pki-dir FOLDER")
        return _folder_of(self.config)

    @property
    def gateway_id(self) -> str:
        """The gateway that a new certificate is made out to. Raises UsageError."""
        if self.config is None:
            raise click.UsageError("a new certificate names the gateway: give its config with -c")
        return self.config.gateway.id


@click.group(
    epilog="Example: edge-gateway certs -c /etc/edge-gateway/gateway.yaml list",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The config file.")
@click.option("--pki-dir", type=click.Path(path_type=Path), help="The folder, where the config has none or several.")
@click.pass_context
def certs(context: click.Context, path: Path | None, pki_dir: Path | None) -> None:
    """Show, make and trust certificates for OPC UA.

    FINGERPRINT is SHA-256, or as much of its beginning as is unique. A running gateway sees every change at its next
    attempt to connect.
    """
    context.obj = _Place(path, pki_dir)


def _folder_of(config: Config) -> Path:
    devices = [device for device in config.devices if isinstance(device, OpcuaDevice)]
    folders = sorted({device.security.pki_dir for device in devices if not device.is_insecure})
    if not folders:
        raise GatewayError("no device of this config uses certificates for OPC UA", do="Name the folder: --pki-dir.")
    if len(folders) > 1:
        text = f"the devices of this config have several folders: {', '.join(map(str, folders))}"
        raise GatewayError(text, do="Name one of them: --pki-dir.")
    return folders[0]


@certs.command(name="list", epilog="Example: edge-gateway certs -c gateway.yaml list")
@click.option("--json", "as_json", is_flag=True, help="Print the certificates and CRLs as JSON.")
@click.pass_obj
def list_(place: _Place, as_json: bool) -> None:
    """List our own certificates, the trusted, the issuers and the rejected."""
    with _permissions():
        filed, crls = pki.all_filed(place.folder), pki.load_trust(place.folder).crls
    now = datetime.now(UTC)
    if as_json:
        documents = [as_document(each, now) for each in filed]
        ends = [
            {"issuer": crl.issuer.rfc4514_string(), "next_update_ms": _ms(crl.next_update_utc), "revoked": len(crl)}
            for crl in crls
        ]
        click.echo(json.dumps({"pki_dir": str(place.folder), "certificates": documents, "crls": ends}))
    elif not filed:
        click.echo(f"{place.folder} holds no certificates yet; edge-gateway certs init makes the gateway's own")
    else:
        for line in as_table(filed, crls, now):
            click.echo(line)


def _ms(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)


@certs.command(epilog="Example: edge-gateway certs -c gateway.yaml init --csr")
@click.option("--csr", is_flag=True, help="Write a certificate request for a company's CA, too.")
@click.pass_obj
def init(place: _Place, csr: bool) -> None:
    """Make the gateway's own certificate, if there is none yet.

    So that it can be installed at the PLCs before the first connection. With --csr also a request (PEM) for a CA; the
    key stays here. What the CA makes of it is put into place with `certs install FILE`.
    """
    folder = place.folder
    with _permissions():
        is_new = not (folder / "own" / own.CERTIFICATE).exists()
        gateway_id = place.gateway_id if is_new else ""
        pki.prepare(folder)
        identity = own.identity(folder, gateway_id)
        click.echo(f"{identity.path}: {'made' if is_new else 'kept, it was there already'}")
        if csr:
            request = own.request(folder, identity)
            click.echo(f"{request}: the request; let the CA sign it with the names that are in it")
    for line in as_screen(Filed(identity.path, identity.certificate), (), datetime.now(UTC)):
        click.echo(line)


@certs.command(epilog="Example: edge-gateway certs -c gateway.yaml install from-the-ca.pem")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def install(place: _Place, file: Path) -> None:
    """Put into place what a CA made of our request.

    FILE holds the gateway's certificate, as DER, or as PEM with the CAs' certificates after it.
    """
    with _permissions():
        if not (place.folder / "own" / own.KEY).exists():
            text = f"{place.folder / 'own'} holds no key yet"
            raise GatewayError(text, do="Begin with edge-gateway certs init --csr.")
        path = own.install(place.folder, own.identity(place.folder, ""), file)
    click.echo(f"{path}: installed; the gateway uses it from its next connection on")


@certs.command(epilog="Example: edge-gateway certs -c gateway.yaml show 3fa2c19e")
@click.argument("fingerprint")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show(place: _Place, fingerprint: str, as_json: bool) -> None:
    """Show all of a certificate that a person compares, and what is wrong with it."""
    with _permissions():
        filed = _find(pki.all_filed(place.folder), fingerprint)
        wrong = _wrong(place, filed)
    now = datetime.now(UTC)
    if as_json:
        click.echo(json.dumps(as_document(filed, now) | {"faults": list(wrong)}))
    else:
        for line in as_screen(filed, wrong, now):
            click.echo(line)


def _wrong(place: _Place, filed: Filed) -> tuple[str, ...]:
    """Say what the gateway would refuse in a server's certificate, beside that nobody trusts it yet."""
    if filed.folder not in {"trusted", "rejected"}:
        return ()
    found = faults((filed.certificate,), None, pki.load_trust(place.folder), datetime.now(UTC))
    return tuple(told(str(fault), fault.do) for fault in found if fault.known)


@certs.command(epilog="Example: edge-gateway certs -c gateway.yaml trust 3fa2c19e")
@click.argument("fingerprint")
@click.pass_obj
def trust(place: _Place, fingerprint: str) -> None:
    """Trust a certificate that was rejected: compare its fingerprint with the server's own before.

    It is moved from rejected/ to trusted/, and is trusted for whatever host the server is reached at.
    """
    with _permissions():
        filed = _find(pki.all_filed(place.folder), fingerprint, prefer="rejected")
        if filed.folder == "trusted":
            click.echo(f"{filed.path}: is trusted already")
            return
        if filed.folder != "rejected":
            raise GatewayError(f"{filed.path} is no server's certificate that was rejected")
        path = pki.accept(place.folder, filed)
        wrong = _wrong(place, Filed(path, filed.certificate))
    click.echo(f"{path}: trusted; the gateway connects at its next attempt")
    for sentence in wrong:
        click.echo(f"but it will still refuse it: {sentence}", err=True)


def _find(all_filed: list[Filed], fingerprint: str, prefer: str = "") -> Filed:
    """Give the one certificate whose fingerprint begins so. Raises GatewayError if none or several do."""
    digits = "".join(each for each in fingerprint.lower() if each not in ": -")
    if len(digits) < _LEAST_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise GatewayError(f"{fingerprint} is no SHA-256 fingerprint", do="Take one of edge-gateway certs list.")
    found = [filed for filed in all_filed if filed.fingerprint.startswith(digits)]
    different = {filed.fingerprint for filed in found}
    if len(different) > 1:
        raise GatewayError(f"{len(different)} certificates have a fingerprint that begins so", do="Write more of it.")
    if not found:
        raise GatewayError(f"no certificate has the fingerprint {digits}", do="See edge-gateway certs list.")
    return next((filed for filed in found if filed.folder == prefer), found[0])


@contextlib.contextmanager
def _permissions() -> Iterator[None]:
    """Say to whom the folder belongs where it is closed to the user of the command."""
    try:
        yield
    except DeviceError as error:
        cause: Any = error.__cause__
        if isinstance(cause, PermissionError):
            raise GatewayError(str(error), do="Run the command as root (sudo), or as the gateway's user.") from error
        raise
