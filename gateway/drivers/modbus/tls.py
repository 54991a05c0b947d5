"""Modbus over mutual TLS: the context of one connection, and sentences for what goes wrong with it.

Source: MODBUS/TCP Security Protocol Specification v3.6.
"""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.drivers.modbus.connection import CONNECTION_LOST, Connection
from gateway.drivers.modbus.framing import Mbap
from gateway.drivers.modbus.section import ModbusTls
from gateway.drivers.modbus.transports import connect, unreachable
from gateway.errors import DeviceError
from gateway.hosts import join
from gateway.model import DeviceState

_HANDSHAKE_S: Final = 5.0
"""What a handshake may take, however short the timeout is: small PLCs need seconds for it."""
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_WRONG_NAME: Final = (62, 64)
_NOT_TRUSTED: Final = (2, 18, 19, 20, 21)
"""X509_V_ERR_... codes of OpenSSL's x509_vfy.h."""

_ALERTS: Final = {
    "CERTIFICATE_REQUIRED": "wants a client certificate",
    "HANDSHAKE_FAILURE": "refused the TLS handshake; it may not take the client certificate, or our TLS versions",
    "UNKNOWN_CA": "does not trust the CA of the client certificate",
    "BAD_CERTIFICATE": "refused the client certificate",
    "CERTIFICATE_EXPIRED": "says that the client certificate has expired",
    "CERTIFICATE_UNKNOWN": "refused the client certificate",
    "CERTIFICATE_REVOKED": "says that the client certificate was revoked",
    "UNSUPPORTED_CERTIFICATE": "refused the client certificate's type",
    "ACCESS_DENIED": "refused the client certificate",
}
"""TLS alerts about the client's certificate (RFC 8446, section 6.2), by the end of OpenSSL's name for them."""
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)
"""What OpenSSL says when it reads something that is not TLS."""


class UntrustedPlcError(ssl.SSLError):
    """The PLC's certificate did not verify; `peer` is the certificate as `SSLSocket.getpeercert` gives one."""

    def __init__(self, error: ssl.SSLCertVerificationError, peer: Mapping[str, Any]) -> None:
        super().__init__(*error.args)
        self.code = error.verify_code
        self.why = error.verify_message
        self.peer = peer


class _Session(ssl.SSLObject):
    """A TLS session that keeps the certificate which did not verify, so that a person can be told what it says."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            # Public only from Python 3.13 on; without it the sentence is less exact.
            chain = getattr(getattr(self, "_sslobj", None), "get_unverified_chain", lambda: None)()
            raise UntrustedPlcError(error, chain[0].get_info() if chain else {}) from error


class TlsWay:
    """A TLS connection on which both sides have shown a certificate."""

    resyncs = False
    may_hang = True

    def __init__(self, host: str, port: int, section: ModbusTls) -> None:
        self.address = join(host, port)
        self._host = host
        self._port = port
        self._section = section
        self._name = section.server_name or host

    async def open(self, timeout: float, patience: float) -> Connection:
        """Connect, with the certificates as the files hold them now. Raises DeviceError."""
        connection = Connection(self.address, Mbap(), self.explain)
        tls = {"ssl": self._context(), "server_hostname": self._name}
        await connect(connection, self._host, self._port, max(timeout, _HANDSHAKE_S), patience, self.explain, **tls)
        return connection

    def explain(self, error: Exception | None) -> DeviceError:
        """Say why a connection could not be made, or ended."""
        match error:
            case UntrustedPlcError():
                return self._untrusted(error)
            case ssl.SSLError():
                return self._failed_handshake(error)
        reason = unreachable(self._host, self.address, error)
        if error is None or isinstance(error, ConnectionResetError):
            # Some servers close without an alert when they do not like the client's certificate.
            reason.do = (
                "Check whether the PLC trusts the client certificate, restarted, and how many clients it allows."
            )
        return reason

    def _context(self) -> ssl.SSLContext:
        """Make a context that verifies chain and name, TLS 1.2 or later. Raises DeviceError."""
        section = self._section
        try:
            context = ssl.create_default_context(cafile=section.ca_file)
        except OSError as error:
            do = "Write a PEM file of certificates there."
            raise _unusable(f"the CA file {section.ca_file}", error, do) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.sslobject_class = _Session
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(section.cert_file, section.key_file, password="")
        except OSError as error:
            what = f"the client certificate {section.cert_file} with the key {section.key_file}"
            do = "Both must be PEM, belong together, and the key have no pass phrase."
            raise _unusable(what, error, do) from error
        return context

    def _untrusted(self, error: UntrustedPlcError) -> DeviceError:
        its = f"the certificate of {self.address}"
        if error.code == _EXPIRED:
            text, do = _out_of_date(its, "notAfter", "expired on", error), "Renew the PLC's certificate"
            do += f", or set this machine's clock if it is wrong: it says {_day(datetime.now(UTC))}."
        elif error.code == _NOT_YET_VALID:
            text = _out_of_date(its, "notBefore", "is not valid before", error)
            do = f"Set this machine's clock if it is wrong: it says {_day(datetime.now(UTC))}."
        elif error.code in _WRONG_NAME:
            text = f"{its} is for {_names(error.peer)}, not for {self._name}"
            do = "Write one of the certificate's names as tls.server_name, or give the PLC a certificate with this one."
        elif error.code in _NOT_TRUSTED:
            text = f"{its} is not signed by a trusted CA ({self._section.ca_file or 'the system’s CAs'}): {error.why}"
            do = "Write the file of the CA that signed the PLC's certificate as tls.ca_file."
        else:
            text, do = f"{its} is not trusted: {error.why}", "Check the PLC's certificate and tls.ca_file."
        return _certificate_error(text, do)

    def _failed_handshake(self, error: ssl.SSLError) -> DeviceError:
        reason = error.reason or str(error)
        if reason in _NOT_TLS:
            do = "Write the PLC's TLS port as port, usually 802; port 502 is the one without TLS."
            return DeviceError(f"{self.address} does not speak TLS", reason=CONNECTION_LOST, do=do)
        alert = _ALERTS.get(reason.rpartition("ALERT_")[2])
        if alert is None:
            text = f"TLS with {self.address} failed: {reason.lower().replace('_', ' ')}"
            return DeviceError(text, reason=CONNECTION_LOST, do="Check that port is the PLC's TLS port.")
        do = f"Replace tls.cert_file ({self._section.cert_file}) with a certificate that the PLC trusts."
        return _certificate_error(f"{self.address} {alert}", do)


def _certificate_error(text: str, do: str) -> DeviceError:
    return DeviceError(text, reason=CONNECTION_LOST, state=DeviceState.CERTIFICATE_ERROR, do=do)


def _unusable(what: str, error: OSError, do: str) -> DeviceError:
    why = error.reason.lower().replace("_", " ") if isinstance(error, ssl.SSLError) and error.reason else error.strerror
    return _certificate_error(f"cannot use {what}: {why or error}", do)


def _out_of_date(its: str, bound: str, says: str, error: UntrustedPlcError) -> str:
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
