"""MQTT in the binary frames of a WebSocket (RFC 6455; MQTT 5.0 section 6), in the shape of the socket paho expects.

paho's own loses a packet whose frame the socket takes in two pieces, and answers a ping in the midst of a frame.
"""

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import struct
from typing import Final

from gateway.errors import PublishError
from gateway.publisher.http import request

BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
CONTINUATION: Final = 0x0
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LARGEST: Final = 16 * 1024 * 1024
"""More than any broker sends us; a length beyond it is no frame."""
_CHUNK: Final = 65536


class WebSocket:
    """A WebSocket, client's side, over a connection that is open already; the handshake is done on making it.

    `address` is the broker's `host:port`. Raises PublishError if the other side has no WebSocket at `path`, OSError.
    """

    def __init__(self, connection: socket.socket, address: str, path: str, *, secure: bool) -> None:
        self._connection = connection
        self._came = bytearray()
        self._payload = bytearray()
        self._out = bytearray()
        self._framed = 0
        self._closed = False
        _shake_hands(connection, address, path, secure=secure)

    def recv(self, size: int) -> bytes:
        """Give up to `size` octets of MQTT; none at the end. Raises BlockingIOError, ssl.SSLWantReadError, OSError."""
        while not self._payload and not self._closed:
            octets = self._connection.recv(_CHUNK)
            if not octets:
                return b""
            self._came += octets
            self._unpack()
        taken = bytes(self._payload[:size])
        del self._payload[:size]
        return taken

    def send(self, octets: bytes) -> int:
        """Send octets of MQTT as one frame; gives how many once all are with the system.

        Raises BlockingIOError or ssl.SSLWantWriteError until then: call it again with the same octets.
        """
        if not self._framed:
            self._out += frame(BINARY, octets)
            self._framed = len(octets)
        self._flush()
        sent, self._framed = self._framed, 0
        return sent

    def pending(self) -> int:
        """Octets that can be had without waiting, though `select` does not know of them."""
        hidden = self._connection.pending() if isinstance(self._connection, ssl.SSLSocket) else 0
        return len(self._payload) + hidden

    def fileno(self) -> int:
        """The connection's."""
        return self._connection.fileno()

    def setblocking(self, flag: bool) -> None:
        """Make the connection block, or not."""
        self._connection.setblocking(flag)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the connection."""
        self._connection.setsockopt(level, option, value)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _flush(self) -> None:
        while self._out:
            del self._out[: self._connection.send(self._out)]

    def _unpack(self) -> None:
        while (taken := take_frame(self._came)) is not None:
            opcode, payload = taken
            if opcode in (BINARY, CONTINUATION):
                self._payload += payload
            elif opcode == PING:
                self._answer(PONG, payload)
            elif opcode == CLOSE:
                self._answer(CLOSE, payload)
                self._closed = True
            elif opcode != PONG:
                raise ConnectionAbortedError(f"a WebSocket frame of kind {opcode} is not MQTT")

    def _answer(self, opcode: int, payload: bytes) -> None:
        # Behind a frame of which a part may be under way; what does not go now goes with the next send.
        self._out += frame(opcode, payload)
        with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._flush()


def frame(opcode: int, payload: bytes) -> bytes:
    """Make a whole frame, masked as a client must (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, length)
    mask = os.urandom(4)
    key = (mask * (length // 4 + 1))[:length]
    # As one number each: octet by octet, a message of 128 KiB would hold the loop for 10 ms.
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return head + mask + masked.to_bytes(length, "big")


def take_frame(came: bytearray) -> tuple[int, bytes] | None:
    """Take the first whole frame of a server from what came: its opcode and payload; None if there is none yet.

    Raises ConnectionAbortedError for what no server may send.
    """
    if len(came) < 2:
        return None
    opcode, length, start = came[0] & 0x0F, came[1], 2
    if length & 0x80:
        raise ConnectionAbortedError("a WebSocket frame from the broker is masked")
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(came) < start:
            return None
        length = int.from_bytes(came[2:start], "big")
    if length > _LARGEST:
        raise ConnectionAbortedError(f"a WebSocket frame of {length} bytes is too large")
    if len(came) < start + length:
        return None
    payload = bytes(came[start : start + length])
    del came[: start + length]
    return opcode, payload


def _shake_hands(connection: socket.socket, address: str, path: str, *, secure: bool) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    headers = {
        "Host": address,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Origin": f"{'https' if secure else 'http'}://{address}",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "mqtt",
    }
    answer = request(connection, f"GET {path}", headers)
    if answer.status != 101:
        text = f"{address} answers {answer.status} {answer.reason}".rstrip() + f" to {path}: there is no WebSocket"
        raise PublishError(text, do="Check mqtt.websocket_path and the broker's WebSocket listener.")
    digest = hashlib.sha1((key + _GUID).encode(), usedforsecurity=False).digest()
    if answer.headers.get("sec-websocket-accept") != base64.b64encode(digest).decode():
        raise PublishError(f"{address} is no WebSocket server: its handshake is wrong", do="Check what listens there.")
