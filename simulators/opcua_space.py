"""The robot's address space in an asyncua server that listens on an inner port of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import asyncua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.user_managers import UserManager

from simulators.opcua_core import Core, RobotServer
from simulators.opcua_faults import ServiceFaults, status_code
from simulators.opcua_history import History
from simulators.opcua_limits import Limits
from simulators.opcua_types import ShapedNodes
from simulators.opcua_volume import Volume
from simulators.robot import NAMESPACE, VARIABLES, Robot, Value, Variable

ua: Any = asyncua.ua  # its annotations ask for types that its own functions do not return
APPLICATION_URI = "urn:edge-gateway:simulators:robot-1"
_UNECE = "http://www.opcfoundation.org/UA/units/un/cefact"
_SECURITY = [ua.SecurityPolicyType.NoSecurity, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt]
_CURRENT_READ = 1
_HISTORY_READ = 4


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


@dataclass(frozen=True)
class Behaviour:
    """How a server behaves, whatever its address space: it outlives a `rebuild`."""

    faults: ServiceFaults
    limits: Limits
    history: History
    volume: Volume


@dataclass
class RobotSpace:
    """An asyncua server with the robot's nodes in it, by their path; it listens between `listen` and `close`."""

    server: RobotServer
    index: int
    behaviour: Behaviour
    shaped: ShapedNodes = field(default_factory=ShapedNodes)
    nodes: dict[str, Any] = field(default_factory=dict)
    folders: dict[str, Any] = field(default_factory=dict)

    @classmethod
    async def build(cls, users: Users, behaviour: Behaviour, namespaces_before: Iterable[str]) -> RobotSpace:
        """Make a server with all nodes; it does not listen yet."""
        core = Core(cast("UserManager", users), behaviour.faults, behaviour.limits, behaviour.history)
        server = RobotServer(iserver=core)
        await server.init()
        server.disable_clock()  # its loop would hold up the stop by a second; `ServerStatus` does its work
        server.set_server_name("robot-1")
        # Under the library's name, clients would not trust its deadbands: `RobotItems` are as the standard has them.
        await server.set_build_info(APPLICATION_URI, "edge-gateway", "Simulated robot", "1", "1", datetime.now(UTC))
        await server.set_application_uri(APPLICATION_URI)
        server.set_security_policy(_SECURITY)
        server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken])
        for uri in namespaces_before:
            await server.register_namespace(uri)
        space = cls(server, await server.register_namespace(NAMESPACE), behaviour)
        for variable in VARIABLES:
            await space.add(variable)
        await space.shaped.build(server, space.index, await space._folder("Robot"))
        await behaviour.volume.build(server, space.index)
        await space.announce(announced=True)
        return space

    @property
    def core(self) -> Core:
        """Sessions and subscriptions."""
        return self.server.iserver

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
        await self._tell_of_history(nodeid)

    async def write(self, variable: Variable, value: Value, status: str, source: datetime, now: datetime) -> None:
        """Set a node's value, status and timestamps; nothing where the node has been removed."""
        if variable.path in self.nodes:
            shown = ua.DataValue(
                Value=ua.Variant(value, ua.VariantType[variable.type]),
                StatusCode=ua.StatusCode(status_code(status)),
                SourceTimestamp=source,
                ServerTimestamp=now,
            )
            nodeid = self.nodes[variable.path]
            await self.server.write_attribute_value(nodeid, shown)
            self.behaviour.history.record(nodeid, self.server.read_attribute_value(nodeid))

    async def write_shaped(self, robot: Robot, source: datetime, now: datetime) -> None:
        """Set the variables that are more than one plain value."""
        for path, value in self.shaped.values(robot).items():
            shown = ua.DataValue(Value=value, SourceTimestamp=source, ServerTimestamp=now)
            await self.server.write_attribute_value(ua.NodeId(path, self.index), shown)

    async def remove(self, variable: Variable, source: datetime, now: datetime) -> None:
        """Delete a node that is there; who subscribes to it sees BadNodeIdUnknown first."""
        if variable.path not in self.nodes:
            return
        await self.write(variable, variable.read(Robot()), "BadNodeIdUnknown", source, now)
        nodeid = self.nodes.pop(variable.path)
        # asyncua calls the subscribers' callbacks of a deleted node without awaiting them: take them off before
        aspace: Any = self.core.aspace
        for handle in list(aspace[nodeid].attributes[ua.AttributeIds.Value].datachange_callbacks):
            aspace.delete_datachange_callback(handle)
        await self.server.delete_nodes([self.server.get_node(nodeid)], recursive=True)

    async def announce(self, announced: bool) -> None:
        """Let the nodes for it tell of the limits, or of none."""
        for number, limit in self.behaviour.limits.told(announced).items():
            nodeid = ua.NodeId(number)
            kind = self.server.read_attribute_value(nodeid).Value
            wanted = ua.VariantType.UInt32 if kind is None or kind.Value is None else kind.VariantType
            shown = ua.DataValue(Value=ua.Variant(limit, wanted), SourceTimestamp=None)
            await self.server.write_attribute_value(nodeid, shown)

    async def tell_of_history(self) -> None:
        """Let the nodes tell whether their history can be read."""
        for nodeid in self.nodes.values():
            await self._tell_of_history(nodeid)

    async def _tell_of_history(self, nodeid: Any) -> None:
        on = self.behaviour.history.on
        level = ua.Variant(_CURRENT_READ | (_HISTORY_READ if on else 0), ua.VariantType.Byte)
        for attribute in (ua.AttributeIds.AccessLevel, ua.AttributeIds.UserAccessLevel):
            await self.server.write_attribute_value(nodeid, ua.DataValue(level), attribute)
        historizing = ua.DataValue(ua.Variant(on, ua.VariantType.Boolean))
        await self.server.write_attribute_value(nodeid, historizing, ua.AttributeIds.Historizing)

    async def _folder(self, path: str) -> Any:
        if not path:
            return self.server.nodes.objects
        if path not in self.folders:
            parent_path, _, name = path.rpartition(".")
            parent = await self._folder(parent_path)
            nodeid = ua.NodeId(path, self.index)
            self.folders[path] = await parent.add_object(nodeid, ua.QualifiedName(name, self.index))
        return self.folders[path]


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
