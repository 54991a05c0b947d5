"""A secure channel: opened on a fresh socket, its keys renewed while it is used (OPC 10000-4 section 5.6.2)."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.connection import SecureConnection
from asyncua.common.utils import create_nonce
from asyncua.ua.ua_binary import struct_from_binary

from gateway.drivers.opcua.faults import untrusted

_GRACE: Final = 1.25
"""What comes under the old keys is taken for so many of their lifetimes (OPC 10000-4 section 5.6.2.1)."""
_NO_CLOCK: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Channel(SecureConnection):
    """Takes what comes under the old keys as long as it should, whatever the clocks of both sides say.

    The library would compare the moment at which the server says that it made them with our clock: with a PLC whose
    clock is behind, a renewal could cost the connection. The keys' lifetime is measured by a clock that nobody sets.
    """

    def set_channel(self, params: Any, request_type: ua.SecurityTokenRequestType, client_nonce: bytes) -> None:
        """Take over what the server made of our request for keys."""
        token = params.SecurityToken
        lasting = replace(token, CreatedAt=_NO_CLOCK, RevisedLifetime=int(token.RevisedLifetime * _GRACE))
        super().set_channel(replace(params, SecurityToken=lasting), request_type, client_nonce)


async def open_channel(client: Client, address: str) -> None:
    """Connect a fresh client's socket and open the channel on it. Raises DeviceError, or what the library raises."""
    timeout = client.uaclient._timeout
    # With a timeout of its own, connect_socket would use asyncio.wait_for, which in Python 3.11 forgets a
    # cancellation that comes at the moment at which the connection is made.
    client.uaclient._timeout = None  # type: ignore[assignment]
    async with asyncio.timeout(timeout):
        await client.connect_socket()
    client.uaclient._timeout = timeout
    protocol = client.uaclient.protocol
    if protocol is not None:
        protocol.timeout = timeout
        protocol._connection = Channel(client.security_policy, protocol._connection._limits)
    await client.send_hello()
    await _ask_for_keys(client, address, ua.SecurityTokenRequestType.Issue)


async def renew_keys(client: Client, address: str) -> None:
    """Ask for new keys, which the next request uses. Raises DeviceError, or what the library raises."""
    await _ask_for_keys(client, address, ua.SecurityTokenRequestType.Renew)


async def _ask_for_keys(client: Client, address: str, kind: ua.SecurityTokenRequestType) -> None:
    """Ask for keys; the library's own way to do so does not tell why a server refuses."""
    protocol = client.uaclient.protocol
    if protocol is None:
        raise ConnectionResetError
    parameters = ua.OpenSecureChannelParameters(
        RequestType=kind,
        SecurityMode=client.security_policy.Mode,
        RequestedLifetime=ua.UInt32(client.secure_channel_timeout),
        ClientNonce=create_nonce(client.security_policy.secure_channel_nonce_length),
    )
    request = ua.OpenSecureChannelRequest(Parameters=parameters)
    protocol._open_secure_channel_exchange = parameters
    try:
        body = await protocol.send_request(request, message_type=ua.MessageType.SecureOpen)  # type: ignore[arg-type]
    finally:
        protocol._open_secure_channel_exchange = None
    answer = struct_from_binary(ua.OpenSecureChannelResponse, body)
    answer.ResponseHeader.ServiceResult.check()
    result = answer.Parameters
    if len(result.ServerNonce or b"") < client.security_policy.secure_channel_nonce_length:
        text = "its nonce is too short to make keys of"
        raise untrusted(address, "BadNonceInvalid", text, "Update the server's firmware.")
    client.secure_channel_timeout = result.SecurityToken.RevisedLifetime
