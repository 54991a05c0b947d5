"""The little HTTP that stands before MQTT: one request without a body, and the head of its answer."""

import base64
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_LARGEST_HEAD: Final = 16 * 1024
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of an answer (RFC 9112 section 4); the names of `headers` are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]


def request(connection: socket.socket, what: str, headers: Mapping[str, str]) -> Answer:
    """Send a request, `what` being its method and target, and wait for the head of the answer.

    What follows the head is not HTTP any more, and the other side does not begin it. Raises OSError.
    """
    lines = [f"{what} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    connection.sendall("\r\n".join(lines).encode() + _END)
    head = bytearray()
    while not head.endswith(_END):
        # Octet by octet: what comes after the head is not ours to read.
        octet = connection.recv(1)
        if not octet:
            raise ConnectionAbortedError("the connection was closed instead of an HTTP answer")
        head += octet
        if len(head) > _LARGEST_HEAD or not b"HTTP/1."[: len(head)] == head[:7]:
            raise ConnectionAbortedError("it does not answer in HTTP")
    return _parse(head.decode("latin-1"))


def basic_login(username: str, password: str) -> str:
    """Write a login as `Authorization` and `Proxy-Authorization` have it (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _parse(head: str) -> Answer:
    first, *lines = head.rstrip("\r\n").split("\r\n")
    _, _, rest = first.partition(" ")
    status, _, reason = rest.partition(" ")
    if not status.isdecimal():
        raise ConnectionAbortedError("it does not answer in HTTP")
    pairs = (line.partition(":") for line in lines)
    return Answer(int(status), reason.strip(), {name.strip().lower(): value.strip() for name, _, value in pairs})
