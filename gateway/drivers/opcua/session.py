"""One session with a server: opened within bounds, kept alive, and closed without leaving a socket or a task.

The library's own connect and its watchdogs are not used: cancelled, they leak the socket; they send the password
before anybody could look at what CreateSession returned; and a lost link leaves them running.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NoReturn, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.utils import Buffer
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.ua_binary import struct_from_binary

from gateway.drivers.base import Shared
from gateway.drivers.opcua.channel import renew_keys
from gateway.drivers.opcua.connect import client_of, connect, drop, load_identity
from gateway.drivers.opcua.faults import PROTOCOL_ERRORS, device_errors, plain_cancellation
from gateway.drivers.opcua.leftover import Leftover
from gateway.drivers.opcua.pacer import Pacer
from gateway.drivers.opcua.section import OpcuaDevice

_STEP_S: Final = 4.0
"""The least that one step of connecting may take: RSA is slow on a PLC."""
_STEPS: Final = 3
"""Connecting as a whole may take this many slow steps."""
_CLOSE_S: Final = 1.0
_LEAST_RENEWAL_S: Final = 0.1
_RENEW_AT: Final = 0.75
"""Share of a channel's lifetime after which its keys are renewed (OPC 10000-4 section 5.6.2.1)."""

_Answer = TypeVar("_Answer")

# Whatever the library would log, even as CRITICAL, reaches the operator once, as our DeviceError.
logging.getLogger("asyncua").setLevel(logging.CRITICAL + 1)


class Session:
    """An activated session. Requests raise DeviceError when the link is lost or the server refuses them."""

    def __init__(self, client: Client, protocol: UASocketProtocol, section: OpcuaDevice) -> None:
        self.address = section.address
        self.timeout = section.timeout
        self.setup_timeout = max(_STEP_S, section.timeout)
        self.keeps_subscriptions = False
        """Whether the server is to keep the subscriptions when the session is closed: the next one takes them over."""
        self._client = client
        self._protocol = protocol
        self._pacer = Pacer(section.max_requests_per_second)
        self.heard = asyncio.get_running_loop().time()

    @property
    def token(self) -> ua.NodeId:
        """Names the session to the server, and to nobody else."""
        return self._client.uaclient.session.authentication_token

    @property
    def lifetime_s(self) -> float:
        """Silence, in seconds, after which the server ends the session: what it granted, not what we asked for."""
        return self._client.session_timeout / 1000

    async def ask(self, request: Any, timeout: float | None = None) -> Buffer:
        """Send a request, as soon as the ceiling on requests allows, and give the bytes of its answer."""
        await self._pacer.turn()
        return await self._ask(request, timeout)

    async def ask_in_background(self, request: Any, timeout: float | None = None) -> Buffer:
        """Send a request that can wait until no live one wants the turn."""
        await self._pacer.turn_in_background()
        return await self._ask(request, timeout)

    async def _ask(self, request: Any, timeout: float | None) -> Buffer:
        with device_errors(self.address):
            answer = await self._client.uaclient._send_request(request, timeout or self.timeout)
        self.hear()
        return answer

    async def ask_for(self, request: Any, kind: type[_Answer]) -> _Answer:
        """Send a request that sets something up, which may take longer, and give its answer as a structure."""
        body = await self.ask(request, self.setup_timeout)
        with device_errors(self.address):
            answer = struct_from_binary(kind, body)
            answer.ResponseHeader.ServiceResult.check()  # type: ignore[attr-defined]
        return answer

    def post(self, request: Any) -> "asyncio.Future[Buffer]":
        """Send a request whose answer may take any time. `collect` is for what the future gives."""
        with device_errors(self.address):
            return self._protocol._send_request(request, 0)

    def collect(self, answered: "asyncio.Future[Buffer]") -> Buffer:
        """Give the bytes of an answer that has come."""
        with device_errors(self.address):
            body = answered.result()
            self._protocol.check_answer(body, "")
        self.hear()
        return body

    def hear(self) -> None:
        """Note that the server is alive."""
        self.heard = asyncio.get_running_loop().time()

    async def renew(self) -> NoReturn:
        """Renew the channel's keys in time, for ever. Raises DeviceError if that fails.

        A server goes on with the old keys until a request comes under the new ones: so one follows at once.
        """
        while True:
            await asyncio.sleep(max(_LEAST_RENEWAL_S, self._client.secure_channel_timeout * _RENEW_AT / 1000))
            with device_errors(self.address):
                await renew_keys(self._client, self.address)
            await self.ask(read_request((standard_node(ObjectIds.Server_ServerStatus_State),)), self.setup_timeout)


def standard_node(number: int) -> ua.NodeId:
    """Give the id of a node that every server has."""
    return ua.NodeId(ua.Int32(number))


def read_request(nodes: Iterable[ua.NodeId]) -> ua.ReadRequest:
    """Make a request for the values of nodes, with both timestamps."""
    parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both)
    parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=AttributeIds.Value) for node in nodes]
    return ua.ReadRequest(Parameters=parameters)


@contextlib.asynccontextmanager
async def open_session(section: OpcuaDevice, shared: Shared, channel_s: float) -> AsyncIterator[Session]:
    """Connect, verify, log in. Raises DeviceError on entry; leaves no socket and no task behind, even cancelled."""
    identity = None
    if section.security.policy != "None":
        identity = await asyncio.to_thread(load_identity, section, shared.gateway_id)
    step = max(_STEP_S, section.timeout)
    client = client_of(section, step, channel_s)
    memory = shared.memory.setdefault(section.name, {})
    session = None
    try:
        with device_errors(section.address, str(identity.path) if identity else ""):
            async with asyncio.timeout(_STEPS * step):
                with plain_cancellation():
                    created = await connect(client, section, identity, shared.gateway_id, memory)
                protocol = client.uaclient.protocol
                if protocol is None:
                    raise ConnectionResetError
        session = Session(client, protocol, section)
        yield session
    finally:
        keeps = session is not None and session.keeps_subscriptions
        if not await _close(client, keeps_subscriptions=keeps) and session is not None:
            until = session.heard + session.lifetime_s
            Leftover(section.endpoint, session.token, created, until, keeps).leave(memory)


async def _close(client: Client, *, keeps_subscriptions: bool) -> bool:
    """Say goodbye, so that the server frees the session, and its subscriptions, at once; gives whether it listened."""
    listens = client.uaclient.protocol is not None and not client.uaclient.protocol.is_closed
    try:
        async with asyncio.timeout(_CLOSE_S):
            with plain_cancellation():
                if keeps_subscriptions:
                    await client.uaclient.close_session(False)
                else:
                    await client.close_session()
                await client.close_secure_channel()
    except (OSError, *PROTOCOL_ERRORS):
        return False  # there is nobody left to say it to
    else:
        return listens
    finally:
        drop(client)
