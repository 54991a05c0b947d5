"""TLS to the broker: the context of one connection, and sentences for what goes wrong with it."""

import contextlib
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.config.mqtt import MqttSection, MqttTls
from gateway.errors import PublishError
from gateway.model import MqttState

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
"""TLS alerts about the client's certificate (RFC 8446 section 6.2), by the end of OpenSSL's name for them."""
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE")
"""What OpenSSL says when it reads something that is not TLS."""


class UntrustedPeerError(ssl.SSLError):
    """The broker's certificate did not verify; `peer` is the certificate as `SSLSocket.getpeercert` gives one."""

    def __init__(self, error: ssl.SSLCertVerificationError, peer: Mapping[str, Any]) -> None:
        super().__init__(*error.args)
        self.code = error.verify_code
        self.why = error.verify_message
        self.peer = peer


class _Socket(ssl.SSLSocket):
    """A socket that remembers the certificate which did not verify, so that the operator can be told what it says."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as error:
            peer = self._unverified_peer()
            self.close()
            raise UntrustedPeerError(error, peer) from error
        except OSError:
            self.close()  # nobody else would, and its descriptor would wait for the garbage collector
            raise

    def _unverified_peer(self) -> Mapping[str, Any]:
        # Public only from Python 3.13 on; without it the sentence is less exact.
        chain = getattr(getattr(self, "_sslobj", None), "get_unverified_chain", lambda: None)()
        if not chain or not hasattr(chain[0], "get_info"):
            return {}
        info: Mapping[str, Any] = chain[0].get_info()
        return info


def client_context(tls: MqttTls) -> ssl.SSLContext:
    """Make a context that verifies chain and host name, TLS 1.2 or later, from the files as they are now.

    Made anew for every connection, so that certificates may be rotated at any time. Raises PublishError.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
    except OSError as error:
        raise _unusable(f"the CA file {tls.ca_file}", error, "Write a PEM file of certificates there.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslsocket_class = _Socket
    if tls.cert_file is not None:
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
        except OSError as error:
            what = f"the client certificate {tls.cert_file} with the key {tls.key_file}"
            raise _unusable(
                what, error, "Both must be PEM, belong together, and the key have no pass phrase."
            ) from error
    return context


def explain(error: OSError, section: MqttSection) -> PublishError:
    """Say what an error of the connection means, and what to do about it."""
    match error:
        case UntrustedPeerError():
            return _untrusted(error, section)
        case ssl.SSLError():
            return _failed_handshake(error, section)
        case socket.gaierror():
            return PublishError(f"the name {section.host} cannot be resolved", do="Check DNS and mqtt.host.")
        case ConnectionRefusedError():
            return PublishError(f"{section.address} refuses connections", do="Check the broker and mqtt.port.")
        case TimeoutError():
            return PublishError(f"{section.address} does not answer", do="Check the network, mqtt.host and mqtt.port.")
    return PublishError(f"{section.address}: {error.strerror or error}", do=_hint(error, section))


def _hint(error: OSError, section: MqttSection) -> str:
    broken = isinstance(error, ConnectionResetError | BrokenPipeError)
    if broken and not section.tls.insecure_plaintext and section.tls.cert_file is None:
        return "If the broker wants client certificates, set mqtt.tls.cert_file and key_file."
    return "Check the network and the broker."


def _unusable(what: str, error: OSError, do: str) -> PublishError:
    why = error.reason.lower().replace("_", " ") if isinstance(error, ssl.SSLError) and error.reason else error.strerror
    return PublishError(f"cannot use {what}: {why or error}", state=MqttState.CERTIFICATE_ERROR, do=do)


def _untrusted(error: UntrustedPeerError, section: MqttSection) -> PublishError:
    its = f"the certificate of {section.address}"
    if error.code == _EXPIRED:
        text, do = _out_of_date(its, "notAfter", "expired on", error), "Renew the broker's certificate"
        do += f", or set this machine's clock if it is wrong: it says {_day(datetime.now(UTC))}."
    elif error.code == _NOT_YET_VALID:
        text = _out_of_date(its, "notBefore", "is not valid before", error)
        do = f"Set this machine's clock if it is wrong: it says {_day(datetime.now(UTC))}."
    elif error.code in _WRONG_NAME:
        text = f"{its} is for {_names(error.peer)}, not for {section.host}"
        do = "Write one of the certificate's names as mqtt.host, or give the broker a certificate with this one."
    elif error.code in _NOT_TRUSTED:
        text = f"{its} is not signed by a trusted CA ({section.tls.ca_file or 'the system’s CAs'}): {error.why}"
        do = "Write the file of the CA that signed the broker's certificate as mqtt.tls.ca_file."
    else:
        text, do = f"{its} is not trusted: {error.why}", "Check the broker's certificate and mqtt.tls.ca_file."
    return PublishError(text, state=MqttState.CERTIFICATE_ERROR, do=do)


def _out_of_date(its: str, bound: str, says: str, error: UntrustedPeerError) -> str:
    written = error.peer.get(bound)
    if written is None:
        return f"{its}: {error.why}"
    at = datetime.fromtimestamp(ssl.cert_time_to_seconds(written), UTC)
    if (at > datetime.now(UTC)) == (bound == "notAfter"):
        return f"a CA certificate above {its}: {error.why}"
    return f"{its} {says} {_day(at)}"


def _day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _names(peer: Mapping[str, Any]) -> str:
    return ", ".join(name for _, name in peer.get("subjectAltName", ())) or "another name"


def _failed_handshake(error: ssl.SSLError, section: MqttSection) -> PublishError:
    reason = error.reason or str(error)
    if reason in _NOT_TLS:
        do = "Write the broker's TLS port as mqtt.port, usually 8883."
        return PublishError(f"{section.address} does not speak TLS", do=do)
    alert = _ALERTS.get(reason.rpartition("ALERT_")[2])
    if alert is None:
        do = "Check that mqtt.port is the broker's TLS port, and look into the broker's log."
        return PublishError(f"TLS with {section.address} failed: {reason.lower().replace('_', ' ')}", do=do)
    if section.tls.cert_file is None:
        do = "Set mqtt.tls.cert_file and key_file to a certificate that the broker trusts."
    else:
        do = f"Replace mqtt.tls.cert_file ({section.tls.cert_file}{_expiry(section.tls.cert_file)})."
    return PublishError(f"{section.address} {alert}", state=MqttState.CERTIFICATE_ERROR, do=do)


def _expiry(path: Path) -> str:
    """When a certificate expires, for a sentence; empty if the file cannot be read."""
    from cryptography import x509

    with contextlib.suppress(OSError, ValueError):
        return f", valid until {_day(x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc)}"
    return ""
