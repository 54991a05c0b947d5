"""TLS to the broker: the context of one connection, and sentences for what goes wrong with it."""

import contextlib
import socket
import ssl
from pathlib import Path

from gateway import tls
from gateway.config.mqtt import MqttTls
from gateway.errors import PublishError
from gateway.model import MqttState
from gateway.publisher.way import Way
from gateway.tls import UntrustedPeerError


class _Socket(ssl.SSLSocket):
    """A socket that remembers the certificate which did not verify, so that the operator can be told what it says."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            tls.shake_hands(self, lambda: super(_Socket, self).do_handshake(block))
        except OSError:
            self.close()  # nobody else would, and its descriptor would wait for the garbage collector
            raise


def client_context(section: MqttTls) -> ssl.SSLContext:
    """Make the context of one connection, from the files as they are now. Raises PublishError."""
    try:
        context = tls.client_context(section.ca_file, section.cert_file, section.key_file)
    except tls.UnusableFileError as error:
        raise PublishError(str(error), state=MqttState.CERTIFICATE_ERROR, do=error.do) from error
    context.sslsocket_class = _Socket
    if section.alpn is not None:
        context.set_alpn_protocols([section.alpn])
    return context


def explain(error: OSError, way: Way) -> PublishError:
    """Say what an error of the connection means, and what to do about it."""
    match error:
        case UntrustedPeerError():
            peer = tls.Peer("broker", way.address, way.host, way.host_key, "mqtt.tls", way.section.tls.ca_file)
            text, do = tls.untrusted(error, peer)
            return PublishError(text, state=MqttState.CERTIFICATE_ERROR, do=do)
        case ssl.SSLError():
            return _failed_handshake(error, way)
        case socket.gaierror():
            return PublishError(f"the name {way.host} cannot be resolved", do=f"Check DNS and {way.host_key}.")
        case ConnectionRefusedError():
            return PublishError(f"{way.address} refuses connections", do="Check the broker and mqtt.port.")
        case TimeoutError():
            do = f"Check the network, {way.host_key} and mqtt.port."
            return PublishError(f"{way.address} does not answer", do=do)
    return PublishError(f"{way.address}: {error.strerror or error}", do=_hint(error, way))


def _hint(error: OSError, way: Way) -> str:
    broken = isinstance(error, ConnectionResetError | BrokenPipeError)
    if broken and not way.section.tls.insecure_plaintext and way.section.tls.cert_file is None:
        return "If the broker wants client certificates, set mqtt.tls.cert_file and key_file."
    return "Check the network and the broker."


def _failed_handshake(error: ssl.SSLError, way: Way) -> PublishError:
    if tls.is_no_tls(error):
        do = "Write the broker's TLS port as mqtt.port, usually 8883."
        return PublishError(f"{way.address} does not speak TLS", do=do)
    if (error.reason or "").endswith("NO_APPLICATION_PROTOCOL"):
        do = "Write as mqtt.tls.alpn what the broker wants to hear; for AWS on port 443: x-amzn-mqtt-ca."
        return PublishError(f"{way.address} does not know the protocol that mqtt.tls.alpn names", do=do)
    alert = tls.alert_of(error)
    if alert is None:
        do = "Check that mqtt.port is the broker's TLS port, and look into the broker's log."
        return PublishError(f"TLS with {way.address} failed: {tls.reason_of(error)}", do=do)
    if way.section.tls.cert_file is None:
        do = "Set mqtt.tls.cert_file and key_file to a certificate that the broker trusts."
    else:
        do = f"Replace mqtt.tls.cert_file ({way.section.tls.cert_file}{_expiry(way.section.tls.cert_file)})."
    return PublishError(f"{way.address} {alert}", state=MqttState.CERTIFICATE_ERROR, do=do)


def _expiry(path: Path) -> str:
    """When a certificate expires, for a sentence; empty if the file cannot be read."""
    from cryptography import x509

    with contextlib.suppress(OSError, ValueError):
        until = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
        return f", valid until {tls.spell_instant(until)}"
    return ""
