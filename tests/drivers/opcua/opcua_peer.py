"""The other side of the OPC UA tests: a server of another make behind a tapped wire."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncua
from asyncua.common.utils import Buffer
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary
from opcua_certificates import SERVER_URI, Certificate

from gateway.drivers.base import Shared
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.errors import DeviceError
from simulators.opcua_faults import CHANGING, SERVICES, changes
from simulators.relay import Relay

ua: Any = asyncua.ua
NAMESPACE = "urn:tests:press"
BOUND_S = 30.0
"""No step of a test takes longer than this, even on a machine that is busy with other things."""
SHARED = Shared(gateway_id="hall-3")

NOTHING = [ua.SecurityPolicyType.NoSecurity]
ENCRYPTED = [ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
SIGNED = [ua.SecurityPolicyType.Basic256Sha256_Sign]


class Users:
    """Knows one user, and lets anonymous clients in."""

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        if username is None or (username, password) == ("gateway", "secret"):
            return User(role=UserRole.User)
        return None


class Wire(Relay):
    """A relay that keeps the requests which a client sends in clear: their type's number, and their bytes."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), port=port)
        self.requests: list[tuple[int, bytes]] = []
        self._news = asyncio.Condition()

    @property
    def services(self) -> set[str]:
        """Names of the services that were asked for."""
        numbers = {number for number, _ in self.requests}
        return {name.removesuffix("Request_Encoding_DefaultBinary") for name, n in _REQUESTS.items() if n in numbers}

    @property
    def acknowledged(self) -> list[int]:
        """The sequence numbers that PublishRequests have acknowledged, in order."""
        found: list[int] = []
        for number, body in self.requests:
            if number == ua.ObjectIds.PublishRequest_Encoding_DefaultBinary:
                request = struct_from_binary(ua.PublishRequest, Buffer(body))
                found += [ack.SequenceNumber for ack in request.Parameters.SubscriptionAcknowledgements]
        return found

    async def seen(self, service: str, times: int) -> None:
        """Wait until a service was asked for so many times."""
        number = _REQUESTS[f"{service}Request_Encoding_DefaultBinary"]
        async with self._news:
            await self._news.wait_for(lambda: sum(kind == number for kind, _ in self.requests) >= times)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        if late:
            await super()._pump(reader, writer, late=late)
            return
        clear = False
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readexactly(8):
                body = await reader.readexactly(struct.unpack_from("<I", head, 4)[0] - 8)
                clear = b"SecurityPolicy#None" in body if head[:3] == b"OPN" else clear
                if clear and head[:4] == b"MSGF":
                    async with self._news:
                        self.requests.append((nodeid_from_binary(Buffer(body[16:])).Identifier, body[16:]))
                        self._news.notify_all()
                    changes.update(
                        {SERVICES.get(self.requests[-1][0], "")} & set(CHANGING)
                    )  # P10: see tests/conftest.py
                await self._flowing.wait()
                writer.write(head + body)
                await writer.drain()
        writer.close()


_REQUESTS: dict[str, int] = {
    name: number
    for name, number in vars(ua.ObjectIds).items()
    if name.endswith("Request_Encoding_DefaultBinary") and isinstance(number, int)
}


def _free_port() -> int:
    """Pick a port that the system gives to nobody by itself: it must still be free after a stop."""
    dice = random.SystemRandom()
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", dice.randrange(20_000, 32_000)))
            return int(probe.getsockname()[1])


class Peer:
    """A PLC: asyncua's server behind a tapped wire, with variables of an own namespace."""

    def __init__(self, server: Any, certificate: Certificate) -> None:
        self.server = server
        self.wire = Wire(port=_free_port())
        self.index = 0
        self.certificate = certificate
        self._added: list[Any] = []

    @property
    def endpoint(self) -> str:
        return f"opc.tcp://127.0.0.1:{self.wire.port}"

    async def start(
        self, policies: list[Any] = NOTHING, certificate: Certificate | None = None, uri: str = SERVER_URI
    ) -> None:
        """Listen on the same port as before, with these policies and this certificate."""
        self.certificate = certificate or self.certificate
        await self.server.set_application_uri(uri)
        self.server._policies.clear()
        self.server.iserver.endpoints.clear()
        self.server.set_security_policy(policies)
        await self.server.load_certificate(self.certificate.der)
        await self.server.load_private_key(self.certificate.key_der)
        self.index = await self.server.register_namespace(NAMESPACE)
        self.server.set_endpoint("opc.tcp://127.0.0.1:0")
        await self.server.start()
        self.wire.target = ("127.0.0.1", self.server.bserver.port)
        await self.wire.start()

    async def restart(self, policies: list[Any] = NOTHING, certificate: Certificate | None = None) -> None:
        """Be another server behind the same open port: with these policies, this certificate, and no session."""
        await self._end()
        await self.wire.cut()
        await self.start(policies, certificate)

    async def stop(self) -> None:
        """Close the port and every connection; forget all sessions and subscriptions."""
        await self.wire.stop()
        await self._end()

    async def _end(self) -> None:
        for session in list(self.server.iserver._external_sessions.values()):
            await session.close_session(delete_subs=True)
        for subscription in self.subscriptions:  # of sessions that were closed, or lost, without them
            await self.server.iserver.subscription_service.delete_subscriptions([subscription.data.SubscriptionId])
        await self.server.stop()

    async def add(self, **variables: Any) -> None:
        """Make variables by their names; a value is given plain, or as a Variant."""
        for name, value in variables.items():
            variant = value if isinstance(value, ua.Variant) else ua.Variant(value)
            node = await self.server.nodes.objects.add_variable(ua.NodeId(name, self.index), name, variant)
            self._added.append(node)

    async def clear(self) -> None:
        """Take away what the test has changed, once nobody is connected any more."""
        await self.server.delete_nodes(self._added)
        self._added.clear()
        await self.limit()
        self.server.iserver.certificate_validator = None
        self.server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken])
        self.expire_sessions_after(5.0, 600.0)

    async def write(
        self, name: str, value: Any, *, status: int = 0, ts: datetime | None = None, server: datetime | None = None
    ) -> None:
        """Let the PLC change a variable; without `ts` at this moment."""
        variant = value if isinstance(value, ua.Variant) else ua.Variant(value)
        stamped = ua.DataValue(
            variant,
            ua.StatusCode(status),
            SourceTimestamp=ts or datetime.now(UTC),
            ServerTimestamp=server or datetime.now(UTC),
        )
        await self.server.write_attribute_value(ua.NodeId(name, self.index), stamped)

    async def limit(self, *, reads: int = 0, items: int = 0) -> None:
        """Announce operation limits, and hold the client to the one on reads."""
        limits = {
            ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead: reads,
            ua.ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall: items,
        }
        for number, limit in limits.items():
            variant = ua.Variant(limit, ua.VariantType.UInt32)
            await self.server.write_attribute_value(ua.NodeId(number), ua.DataValue(variant))

    def expire_sessions_after(self, least_s: float, most_s: float) -> None:
        """Allow clients a session timeout within these bounds."""
        self.server.iserver.min_session_timeout_ms = least_s * 1000
        self.server.iserver.max_session_timeout_ms = most_s * 1000

    @property
    def subscriptions(self) -> list[Any]:
        """The server's own view of the subscriptions of its clients."""
        found = self.server.iserver.subscription_service.subscriptions.values()
        return [subscription for subscription in found if subscription.pub_request_callback is not None]


@contextlib.asynccontextmanager
async def new_server() -> AsyncIterator[Any]:
    """Build an address space, which takes seconds; `Peer` starts and stops it."""
    server: Any = Server(user_manager=Users())  # type: ignore[arg-type]
    await server.init()
    server.disable_clock()
    server.set_server_name("PLC")
    yield server


async def no_act(driver: Any) -> None:
    """Do nothing with an open device."""


async def failure(
    device: OpcuaDevice, act: Callable[[Any], Awaitable[Any]] = no_act, shared: Shared = SHARED
) -> DeviceError:
    """Open a device, do something with it, and give the DeviceError that comes of it."""
    try:
        async with asyncio.timeout(BOUND_S), device.open(shared) as driver:
            await act(driver)
    except DeviceError as error:
        return error
    raise AssertionError("there was no DeviceError")


def section(peer: Peer, tags: list[Any], **keys: Any) -> OpcuaDevice:
    """Make a device's section; a tag is a mapping, or a name that is also the node's."""
    given = [tag if isinstance(tag, dict) else {"name": tag, "node": f"nsu={NAMESPACE};s={tag}"} for tag in tags]
    plain = {"policy": "None", "insecure": True}
    device = {"name": "plc", "protocol": "opcua", "endpoint": peer.endpoint, "mode": "poll", "timeout": "5s"}
    return OpcuaDevice.model_validate({**device, "security": plain, **keys, "tags": given})


def secured(folder: Path, mode: str = "SignAndEncrypt") -> dict[str, Any]:
    """Make the `security` of a section."""
    return {"policy": "Basic256Sha256", "mode": mode, "pki_dir": str(folder)}


def trust(folder: Path, certificate: Certificate, *, where: str = "trusted") -> Path:
    """Put a certificate where the gateway looks for those it trusts."""
    path = folder / where / f"{certificate.certificate.serial_number:x}.der"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(certificate.der)
    return path
