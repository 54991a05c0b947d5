"""The connection to a broker: straight or through an HTTP proxy, TLS with the broker itself, a WebSocket if need be."""

import socket
import ssl
from typing import Final

from gateway.config.mqtt import MqttProxy
from gateway.errors import PublishError
from gateway.publisher import tls
from gateway.publisher.http import basic_login, request
from gateway.publisher.way import Way
from gateway.publisher.websocket import WebSocket

_LOGIN_REQUIRED: Final = 407
_FORBIDDEN: Final = 403


def open_way(way: Way, timeout: float) -> socket.socket | WebSocket:
    """Connect, up to where MQTT begins; blocks, each step for `timeout` seconds at most.

    TLS is always with the broker itself, whose certificate must have the name that the config has: a proxy passes
    on what it cannot read. Raises OSError and PublishError.
    """
    section = way.section
    context = None if section.tls.insecure_plaintext else tls.client_context(section.tls)
    connection = _reach(way, timeout)
    try:
        if context is not None:
            connection = _secure(connection, context, way.host)
        if section.transport == "websocket":
            return WebSocket(connection, way.address, section.websocket_path or "/mqtt", secure=context is not None)
    except BaseException:
        connection.close()
        raise
    return connection


def _secure(connection: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    secured = context.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    secured.do_handshake()
    return secured


def _reach(way: Way, timeout: float) -> socket.socket:
    proxy = way.section.proxy
    if proxy is None:
        return socket.create_connection((way.host, way.port), timeout)
    try:
        connection = socket.create_connection((proxy.host, proxy.port), timeout)
        try:
            _tunnel(connection, proxy, way)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise _no_proxy(error, proxy) from error
    return connection


def _tunnel(connection: socket.socket, proxy: MqttProxy, way: Way) -> None:
    """Ask the proxy for a connection to the broker (RFC 9110 section 9.3.6). Raises OSError and PublishError."""
    headers = {"Host": way.address}
    if proxy.username is not None:
        password = "" if proxy.password is None else proxy.password.reveal()
        headers["Proxy-Authorization"] = basic_login(proxy.username, password)
    answer = request(connection, f"CONNECT {way.address}", headers)
    if 200 <= answer.status < 300:
        return
    said = f"the proxy {proxy.address} answers {answer.status} {answer.reason}".rstrip()
    if answer.status == _LOGIN_REQUIRED:
        raise PublishError(f"{said}: it wants a login", do="Check mqtt.proxy.username and password.")
    if answer.status == _FORBIDDEN:
        raise PublishError(f"{said}: it does not let us to {way.address}", do="Let the proxy's owner allow it.")
    raise PublishError(f"{said} to the wish for {way.address}", do=f"Check {way.host_key}, mqtt.port and the proxy.")


def _no_proxy(error: OSError, proxy: MqttProxy) -> PublishError:
    match error:
        case socket.gaierror():
            text = f"the name {proxy.host} of the proxy cannot be resolved"
        case ConnectionRefusedError():
            text = f"the proxy {proxy.address} refuses connections"
        case TimeoutError():
            text = f"the proxy {proxy.address} does not answer"
        case _:
            text = f"the proxy {proxy.address}: {error.strerror or error}"
    return PublishError(text, do="Check mqtt.proxy, the network and the proxy.")
