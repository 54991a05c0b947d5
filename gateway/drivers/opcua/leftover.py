"""A session that a broken link has left at the server: closed before there is another (OPC 10000-4 section 6.7).

The server would keep it for a minute or longer. A small PLC has few: a link that breaks again and again would take
them all, from other clients too.
"""

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_session import UaSession
from asyncua.ua.uaerrors import UaStatusCodeError

from gateway.drivers.opcua.login import Created, log_in
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.errors import DeviceError

_KEY: Final = "leftover"


@dataclass(frozen=True, slots=True)
class Leftover:
    """What it takes to have a session back: its token, which is a secret, and what its login answers to.

    The server ends it at `until` by itself (monotonic seconds).
    """

    endpoint: str
    token: ua.NodeId = field(repr=False)
    created: Created = field(repr=False)
    until: float
    keeps_subscriptions: bool

    def leave(self, memory: MutableMapping[str, Any]) -> None:
        """Keep it for the next connection to that endpoint."""
        memory.setdefault(_KEY, {})[self.endpoint] = self


def take_leftover(section: OpcuaDevice, memory: MutableMapping[str, Any]) -> Leftover | None:
    """Give the session that was left at this endpoint, once; None if there is none, or it must have ended."""
    left: Leftover | None = memory.get(_KEY, {}).pop(section.endpoint, None)
    return left if left is not None and asyncio.get_running_loop().time() < left.until else None


async def close_leftover(client: Client, section: OpcuaDevice, left: Leftover) -> None:
    """Take the session over to this channel and close it; a server that knows it no more has nothing to close.

    The channel proves that the server holds the key of the certificate that was verified, as it did when the session
    was made; the ways in are those of then. Raises what the library raises when the link is lost.
    """
    client.uaclient.session.restore_authentication_token(left.token)
    try:
        await log_in(client, section, left.created)
        await client.uaclient.close_session(not left.keeps_subscriptions)
    except (UaStatusCodeError, DeviceError):
        pass  # told, if it is of any account, by the login that follows
    client.uaclient.session = UaSession(client.uaclient)
    client.uaclient.session.reset_authentication_token()
