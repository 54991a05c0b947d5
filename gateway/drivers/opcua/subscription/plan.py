"""The fingerprint under which an old subscription may be taken over: its client handles mean columns of ours."""

import hashlib
from typing import Final

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.subscription import wishes

_FORMAT: Final = "2"
"""Of the bookmarks: a gateway that writes others does not read these."""


def server_of(connection: Connection) -> str:
    """Name the server as it runs now; after a restart it is another, and knows nothing of what it was told before.

    Empty where it does not say since when it runs.
    """
    started = connection.server.started
    return "" if started is None else f"{connection.session.address} {started}"


def fingerprint(connection: Connection) -> str:
    """Give what has to be the same, as a hash: the server and its start, and each tag in its place."""
    section = connection.section
    digest = hashlib.sha256(f"{_FORMAT} {server_of(connection)}".encode())
    for tag, node in zip(section.tags, connection.nodes, strict=True):
        wish = (tag.name, str(node), section.interval_of(tag), wishes.sampling_s(section, tag), tag.queue)
        digest.update(repr((*wish, wishes.deadband(tag))).encode())
    return digest.hexdigest()[:32]
