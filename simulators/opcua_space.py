"""The robot's address space in an asyncua server that listens on an inner port of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import asyncua
from asyncua.common.callback import CallbackType
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from asyncua.ua import DataValue, NodeId

from simulators.robot import NAMESPACE, VARIABLES, Robot, Value, Variable

ua: Any = asyncua.ua  # its annotations ask for types that its own functions do not return
APPLICATION_URI = "urn:edge-gateway:simulators:robot-1"
_UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"
_TIME = ua.NodeId(ua.ObjectIds.Server_ServerStatus_CurrentTime)
_SECURITY = [ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]


@dataclass(frozen=True)
class Users:
    """Who may open a session: anybody without a name, and one user with a password."""

    name: str
    password: str

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """Answer asyncua's question who this is; None refuses with BadUserAccessDenied."""
        if username is None or (username, password) == (self.name, self.password):
            return User(role=UserRole.User)
        return None


@dataclass
class RobotSpace:
    """A running asyncua server with the robot's nodes in it, by their path."""

    server: Any
    index: int
    nodes: dict[str, NodeId] = field(default_factory=dict)
    folders: dict[str, Any] = field(default_factory=dict)

    @property
    def inner_port(self) -> int:
        """The loopback port that the server itself listens on."""
        port: int = self.server.bserver.port
        return port

    @classmethod
    async def build(
        cls,
        users: Users,
        identity: tuple[Path, Path],
        namespaces_before: Iterable[str],
        requested: Callable[[str], None],
    ) -> RobotSpace:
        """Start a server; `requested` is called with "read" or "write" for each such request of a client."""
        server: Any = Server(user_manager=cast("UserManager", users))
        await server.init()
        server.disable_clock()  # its loop would hold up the stop by a second; `write_time` does its work
        server.set_server_name("robot-1")
        await server.set_application_uri(APPLICATION_URI)
        server.set_security_policy(_SECURITY)
        server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken])
        certificate, key = identity
        await server.load_certificate(certificate)
        await server.load_private_key(key)
        for uri in namespaces_before:
            await server.register_namespace(uri)
        space = cls(server, await server.register_namespace(NAMESPACE))
        for variable in VARIABLES:
            await space.add(variable)
        _listen_to(server, requested)
        server.set_endpoint("opc.tcp://127.0.0.1:0")
        await server.start()
        return space

    @property
    def sessions(self) -> int:
        """How many sessions of clients there are, with a connection or, for a while, without."""
        return len(self.server.iserver._external_sessions)

    async def add(self, variable: Variable) -> None:
        """Make the node of a variable, and the objects on the way to it."""
        if variable.path in self.nodes:
            return
        parent_path, _, name = variable.path.rpartition(".")
        parent = await self._folder(parent_path)
        kind = ua.VariantType[variable.type]
        nodeid = ua.NodeId(variable.path, self.index)
        initial = ua.Variant(variable.read(Robot()), kind)
        node = await parent.add_variable(nodeid, ua.QualifiedName(name, self.index), initial)
        if variable.uncefact is not None:
            await _make_analog(node, variable)
        self.nodes[variable.path] = nodeid

    async def write(self, variable: Variable, value: Value, status: str, now: datetime) -> None:
        """Set a node's value, status and timestamps; nothing where the node has been removed."""
        if variable.path in self.nodes:
            variant = ua.Variant(value, ua.VariantType[variable.type])
            shown = _stamped(now, Value=variant, StatusCode=ua.StatusCode(status_code(status)))
            await self.server.write_attribute_value(self.nodes[variable.path], shown)

    async def write_time(self, now: datetime) -> None:
        """Set the server's own CurrentTime."""
        await self.server.write_attribute_value(_TIME, _stamped(now, Value=ua.Variant(now, ua.VariantType.DateTime)))

    async def remove(self, variable: Variable, now: datetime) -> None:
        """Delete a node that is there; who subscribes to it sees BadNodeIdUnknown first."""
        if variable.path not in self.nodes:
            return
        await self.write(variable, variable.read(Robot()), "BadNodeIdUnknown", now)
        nodeid = self.nodes.pop(variable.path)
        # asyncua calls the subscribers' callbacks of a deleted node without awaiting them: take them off before
        aspace = self.server.iserver.aspace
        for handle in list(aspace[nodeid].attributes[ua.AttributeIds.Value].datachange_callbacks):
            aspace.delete_datachange_callback(handle)
        await self.server.delete_nodes([self.server.get_node(nodeid)], recursive=True)

    async def forget_sessions(self) -> None:
        """End all sessions of clients with their subscriptions; asyncua would keep them for minutes."""
        for session in list(self.server.iserver._external_sessions.values()):
            await session.close_session(delete_subs=True)

    async def close(self) -> None:
        """Stop the server."""
        await self.forget_sessions()
        await self.server.stop()

    async def _folder(self, path: str) -> Any:
        if not path:
            return self.server.nodes.objects
        if path not in self.folders:
            parent_path, _, name = path.rpartition(".")
            parent = await self._folder(parent_path)
            nodeid = ua.NodeId(path, self.index)
            self.folders[path] = await parent.add_object(nodeid, ua.QualifiedName(name, self.index))
        return self.folders[path]


def status_code(name: str) -> int:
    """The number of a status code.

    Raises:
        ValueError: there is none of that name.
    """
    code: int | None = getattr(ua.StatusCodes, name, None)
    if code is None or name.startswith("_"):
        raise ValueError(f"{name!r} is not an OPC UA status code; write for example BadSensorFailure")
    return code


def _stamped(now: datetime, **fields: Any) -> DataValue:
    shown: DataValue = ua.DataValue(SourceTimestamp=now, ServerTimestamp=now, **fields)
    return shown


async def _make_analog(node: Any, variable: Variable) -> None:
    """Turn a plain variable into an AnalogItemType with its properties (OPC 10000-8 section 5.3.2)."""
    await node.delete_reference(ua.ObjectIds.BaseDataVariableType, ua.ObjectIds.HasTypeDefinition, bidirectional=False)
    await node.add_reference(ua.ObjectIds.AnalogItemType, ua.ObjectIds.HasTypeDefinition, bidirectional=False)
    unit = ua.EUInformation(
        NamespaceUri=_UNECE,
        UnitId=int.from_bytes((variable.uncefact or "").encode()),
        DisplayName=ua.LocalizedText(variable.unit),
    )
    low, high = variable.range or (0.0, 0.0)
    properties = {"EURange": ua.Range(low, high), "EngineeringUnits": unit}
    for name, value in properties.items():
        nodeid = ua.NodeId(f"{variable.path}.{name}", node.nodeid.NamespaceIndex)
        await node.add_property(nodeid, ua.QualifiedName(name, 0), value)


def _listen_to(server: Any, requested: Callable[[str], None]) -> None:
    def note(name: str) -> Callable[..., None]:
        def listener(event: Any, _service: Any) -> None:
            if event.is_external:
                requested(name)

        return listener

    server.subscribe_server_callback(CallbackType.PreRead, note("read"))
    server.subscribe_server_callback(CallbackType.PreWrite, note("write"))
