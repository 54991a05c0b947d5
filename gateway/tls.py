"""TLS as a client: the context of one connection, and what it means when a certificate does not do."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.errors import GatewayError

_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_WRONG_NAME: Final = (62, 64)
_NOT_TRUSTED: Final = (2, 18, 19, 20, 21)
"""X509_V_ERR_... codes of OpenSSL's x509_vfy.h."""

_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "wants a client certificate",
    "HANDSHAKE_FAILURE": "refused the TLS handshake; it may want a client certificate",
    "UNKNOWN_CA": "does not trust the CA of the client certificate",
    "BAD_CERTIFICATE": "refused the client certificate",
    "CERTIFICATE_EXPIRED": "says that the client certificate has expired",
    "CERTIFICATE_UNKNOWN": "refused the client certificate",
    "CERTIFICATE_REVOKED": "says that the client certificate was revoked",
    "UNSUPPORTED_CERTIFICATE": "refused the client certificate's type",
    "ACCESS_DENIED": "refused the client certificate",
}
"""TLS alerts about the client's certificate (RFC 8446, section 6.2), by the end of OpenSSL's name for them."""
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
"""What OpenSSL says when it reads something that is not TLS."""


class UnusableFileError(GatewayError):
    """A certificate, a key or a CA file that the config names cannot be used."""


class UntrustedPeerError(ssl.SSLError):
    """The peer's certificate did not verify; `peer` is the certificate as `SSLSocket.getpeercert` gives one."""

    def __init__(self, error: ssl.SSLCertVerificationError, peer: Mapping[str, Any]) -> None:
        super().__init__(*error.args)
        self.code = error.verify_code
        self.why = error.verify_message
        self.peer = peer


@dataclass(frozen=True, slots=True)
class Peer:
    """The other side, as sentences speak of it.

    `what` it is (broker, PLC), its `address`, the `name` that its certificate must have, the config's key for that
    name, the config's section for TLS, and the file of CAs that are trusted (None: the system's).
    """

    what: str
    address: str
    name: str
    name_key: str
    section: str
    ca_file: Path | None


def shake_hands(session: Any, handshake: Callable[[], None]) -> None:
    """Do a handshake; raises UntrustedPeerError, which keeps the certificate that did not verify."""
    try:
        handshake()
    except ssl.SSLCertVerificationError as error:
        # Public only from Python 3.13 on; without it the sentence is less exact.
        chain: Any = getattr(getattr(session, "_sslobj", None), "get_unverified_chain", lambda: None)()
        known = bool(chain) and hasattr(chain[0], "get_info")
        raise UntrustedPeerError(error, chain[0].get_info() if known else {}) from error


def client_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Make a context that verifies chain and host name, TLS 1.2 or later, from the files as they are now.

    Made anew for every connection, so that certificates may be rotated at any time. Raises UnusableFileError.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise _unusable(f"the CA file {ca_file}", error, "Write a PEM file of certificates there.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert_file is not None:
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(cert_file, key_file, password="")
        except OSError as error:
            what = f"the client certificate {cert_file} with the key {key_file}"
            do = "Both must be PEM, belong together, and the key have no pass phrase."
            raise _unusable(what, error, do) from error
    return context


def _unusable(what: str, error: OSError, do: str) -> UnusableFileError:
    why = error.reason.lower().replace("_", " ") if isinstance(error, ssl.SSLError) and error.reason else error.strerror
    return UnusableFileError(f"cannot use {what}: {why or error}", do=do)


def untrusted(error: UntrustedPeerError, peer: Peer) -> tuple[str, str]:
    """Say why a certificate did not verify, and what to do about it."""
    its, what = f"the certificate of {peer.address}", peer.what
    if error.code == _EXPIRED:
        do = f"Renew the {what}'s certificate, or set this machine's clock if it is wrong: it says {_now()}."
        return _out_of_date(its, "notAfter", "expired on", error), do
    if error.code == _NOT_YET_VALID:
        do = f"Set this machine's clock if it is wrong: it says {_now()}."
        return _out_of_date(its, "notBefore", "is not valid before", error), do
    if error.code in _WRONG_NAME:
        do = f"Write one of the certificate's names as {peer.name_key}, or give the {what} a certificate with this one."
        return f"{its} is for {_names(error.peer)}, not for {peer.name}", do
    if error.code in _NOT_TRUSTED:
        do = f"Write the file of the CA that signed the {what}'s certificate as {peer.section}.ca_file."
        return f"{its} is not signed by a trusted CA ({peer.ca_file or 'the system’s CAs'}): {error.why}", do
    return f"{its} is not trusted: {error.why}", f"Check the {what}'s certificate and {peer.section}.ca_file."


def is_no_tls(error: ssl.SSLError) -> bool:
    """Whether the other side speaks something else than TLS."""
    return error.reason in _NOT_TLS


def alert_of(error: ssl.SSLError) -> str | None:
    """Say what the other side thinks of our certificate; None if the error speaks of something else."""
    return _ALERTS.get((error.reason or "").rpartition("ALERT_")[2])


def reason_of(error: ssl.SSLError) -> str:
    """Give OpenSSL's own reason, in words."""
    return (error.reason or str(error)).lower().replace("_", " ")


def spell_instant(at: datetime) -> str:
    """Write an instant for a person."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _now() -> str:
    return spell_instant(datetime.now(UTC))


def _out_of_date(its: str, bound: str, says: str, error: UntrustedPeerError) -> str:
    written = error.peer.get(bound)
    if written is None:
        return f"{its}: {error.why}"
    at = datetime.fromtimestamp(ssl.cert_time_to_seconds(written), UTC)
    if (at > datetime.now(UTC)) == (bound == "notAfter"):
        return f"a CA certificate above {its}: {error.why}"
    return f"{its} {says} {spell_instant(at)}"


def _names(peer: Mapping[str, Any]) -> str:
    return ", ".join(name for _, name in peer.get("subjectAltName", ())) or "another name"
