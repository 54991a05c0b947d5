"""Modbus over mutual TLS: the context of one connection, and sentences for what goes wrong with it.

Source: MODBUS/TCP Security Protocol Specification v3.6.
"""

import ssl
from typing import Final

from gateway import tls
from gateway.drivers.modbus.connection import CONNECTION_LOST, Connection
from gateway.drivers.modbus.framing import Mbap
from gateway.drivers.modbus.section import ModbusTls
from gateway.drivers.modbus.transports import connect, unreachable
from gateway.errors import DeviceError
from gateway.hosts import join
from gateway.model import DeviceState
from gateway.tls import UntrustedPeerError

_HANDSHAKE_S: Final = 5.0
"""What a handshake may take, however short the timeout is: small PLCs need seconds for it."""


class _Session(ssl.SSLObject):
    """A TLS session that keeps the certificate which did not verify, so that a person can be told what it says."""

    def do_handshake(self) -> None:
        tls.shake_hands(self, super().do_handshake)


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
        secured = {"ssl": self._context(), "server_hostname": self._name}
        await connect(connection, self._host, self._port, max(timeout, _HANDSHAKE_S), patience, self.explain, **secured)
        return connection

    def explain(self, error: Exception | None) -> DeviceError:
        """Say why a connection could not be made, or ended."""
        match error:
            case UntrustedPeerError():
                peer = tls.Peer("PLC", self.address, self._name, "tls.server_name", "tls", self._section.ca_file)
                return _certificate_error(*tls.untrusted(error, peer))
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
        """Make the context of one connection, from the files as they are now. Raises DeviceError."""
        section = self._section
        try:
            context = tls.client_context(section.ca_file, section.cert_file, section.key_file)
        except tls.UnusableFileError as error:
            raise _certificate_error(str(error), error.do) from error
        context.sslobject_class = _Session
        return context

    def _failed_handshake(self, error: ssl.SSLError) -> DeviceError:
        if tls.is_no_tls(error):
            do = "Write the PLC's TLS port as port, usually 802; port 502 is the one without TLS."
            return DeviceError(f"{self.address} does not speak TLS", reason=CONNECTION_LOST, do=do)
        alert = tls.alert_of(error)
        if alert is None:
            text = f"TLS with {self.address} failed: {tls.reason_of(error)}"
            return DeviceError(text, reason=CONNECTION_LOST, do="Check that port is the PLC's TLS port.")
        do = f"Replace tls.cert_file ({self._section.cert_file}) with a certificate that the PLC trusts."
        return _certificate_error(f"{self.address} {alert}", do)


def _certificate_error(text: str, do: str) -> DeviceError:
    return DeviceError(text, reason=CONNECTION_LOST, state=DeviceState.CERTIFICATE_ERROR, do=do)
