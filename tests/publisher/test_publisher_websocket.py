"""WebSocket frames, octet by octet, for what a real broker does seldom: pings amid a frame, frames in pieces, ends."""

import base64
import hashlib
import socket
import threading
from collections.abc import Iterator

import pytest

from gateway.errors import PublishError
from gateway.publisher.websocket import BINARY, CLOSE, PING, PONG, WebSocket, frame, take_frame

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def unmasked(octets: bytearray) -> tuple[int, bytes] | None:
    """Take one frame of a client, as a server does (RFC 6455 section 5.3)."""
    length, start = octets[1] & 0x7F, 2
    assert octets[1] & 0x80, "a client masks"
    if length >= 126:
        start = 4 if length == 126 else 10
        length = int.from_bytes(octets[2:start], "big")
    if len(octets) < start + 4 + length:
        return None
    mask, payload = octets[start : start + 4], octets[start + 4 : start + 4 + length]
    opcode = octets[0] & 0x0F
    del octets[: start + 4 + length]
    return opcode, bytes(octet ^ mask[at % 4] for at, octet in enumerate(payload))


def shaken(server: socket.socket, accept: bytes | None = None) -> None:
    """Answer a handshake."""
    head = server.recv(4096)
    key = next(line.partition(b": ")[2] for line in head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
    accept = accept or base64.b64encode(hashlib.sha1(key + GUID).digest())
    server.sendall(b"HTTP/1.1 101 Switching Protocols\r\nX-Connection: 7\r\nSEC-websocket-accept:" + accept)
    server.sendall(b"\r\n\r\n")


@pytest.fixture
def both() -> Iterator[tuple[WebSocket, socket.socket]]:
    """A WebSocket after its handshake, not blocking, and the server's end."""
    client, server = socket.socketpair()
    client.settimeout(10)
    server.settimeout(10)
    thread = threading.Thread(target=shaken, args=(server,))
    thread.start()
    websocket = WebSocket(client, "broker:443", "/mqtt", secure=True)
    thread.join()
    websocket.setblocking(False)
    with client, server:
        yield websocket, server


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 131072])
def test_a_frame_is_masked_and_reads_back(length: int) -> None:
    payload = bytes(at % 251 for at in range(length))
    octets = bytearray(frame(BINARY, payload))
    assert unmasked(octets) == (BINARY, payload)
    assert not octets


def test_octets_that_come_one_by_one_make_the_same_stream(both: tuple[WebSocket, socket.socket]) -> None:
    websocket, server = both
    got = b""
    for octet in b"\x82\x03abc" + b"\x02\x01d" + b"\x80\x02ef" + b"\x82\x7e\x00\x80" + b"g" * 128:
        server.sendall(bytes([octet]))
        try:
            got += websocket.recv(1)
        except BlockingIOError:
            continue
    while websocket.pending():
        got += websocket.recv(50)
    assert got == b"abcdef" + b"g" * 128


def test_a_ping_amid_a_frame_is_answered_behind_it(both: tuple[WebSocket, socket.socket]) -> None:
    """What the system takes in pieces stays one frame: a pong within it would end the session."""
    websocket, server = both
    large = bytes(4_000_000)
    with pytest.raises(BlockingIOError):
        websocket.send(large)
    server.sendall(b"\x89\x02hi")
    with pytest.raises(BlockingIOError):
        websocket.recv(1)
    got, sent = bytearray(), 0
    while not sent:
        got += server.recv(1 << 20)
        try:
            sent = websocket.send(large)
        except BlockingIOError:
            continue
    assert sent == len(large)
    server.settimeout(0.2)
    while (first := unmasked(got)) is None:
        got += server.recv(1 << 20)
    assert first == (BINARY, large)
    while len(got) < 8:
        got += server.recv(100)
    assert unmasked(got) == (PONG, b"hi")
    assert not got


def test_a_close_is_answered_and_is_the_end(both: tuple[WebSocket, socket.socket]) -> None:
    websocket, server = both
    server.sendall(b"\x88\x02\x03\xe8")
    assert websocket.recv(10) == b""
    assert unmasked(bytearray(server.recv(100))) == (CLOSE, b"\x03\xe8")


@pytest.mark.parametrize("octets", [b"\x81\x01a", b"\x82\x81\x00\x00\x00\x00a", b"\x82\x7f" + b"\x01" * 8])
def test_what_no_mqtt_broker_sends_ends_the_connection(both: tuple[WebSocket, socket.socket], octets: bytes) -> None:
    websocket, server = both
    server.sendall(octets)
    with pytest.raises(ConnectionAbortedError):
        websocket.recv(10)


def test_a_handshake_that_is_not_for_our_key_is_refused() -> None:
    client, server = socket.socketpair()
    with client, server:
        thread = threading.Thread(target=shaken, args=(server, b"d3Jvbmc="))
        thread.start()
        with pytest.raises(PublishError, match="handshake is wrong"):
            WebSocket(client, "broker:443", "/mqtt", secure=True)
        thread.join()


def test_a_server_ping_needs_no_mask() -> None:
    octets = bytearray(b"\x89\x01x\x82")
    assert take_frame(octets) == (PING, b"x")
    assert octets == b"\x82"
