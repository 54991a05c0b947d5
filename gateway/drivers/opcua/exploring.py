"""What a person is shown of a server's nodes: where they are, and what they hold, step by bounded step."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIdNames

from gateway.drivers.opcua.browse import Browser, Pages
from gateway.drivers.opcua.definitions import Definitions
from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.nodes import parse_node_id, resolve
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.survey import Server
from gateway.drivers.opcua.types.structures import Enumeration
from gateway.drivers.opcua.types.values import DataValue, Packed, Unusable

_SHOWN: Final = (AttributeIds.Value, AttributeIds.DataType, AttributeIds.Description)
UNIT: Final = "EngineeringUnits"
"""The property of a variable that holds its unit (OPC 10000-8 section 5.3.2)."""


class View(NamedTuple):
    """What a variable holds: no value where the quality is bad."""

    value: Any
    quality: str
    type: str
    unit: str
    description: str


class Explorer(Pages, Protocol):
    """Whoever asks the server for a person; each call is one bounded step and raises DeviceError.

    `requests` counts what the server was asked.
    """

    requests: int

    async def look(self, nodes: Sequence[tuple[str, str]]) -> list[View]:
        """Read variables: each is given with the node of its unit, empty if it has none."""


class SessionExplorer(Browser):
    """Explores through an open session; `definitions` say what structures, enumerations and types' names are."""

    def __init__(self, session: Session, server: Server, definitions: Definitions) -> None:
        super().__init__(session, server)
        self._asker = session
        self._spaces = server.namespaces
        self._limits = server.limits.apart()
        self._definitions = definitions

    async def look(self, nodes: Sequence[tuple[str, str]]) -> list[View]:
        """Read variables: each is given with the node of its unit, empty if it has none."""
        wanted = [
            ua.ReadValueId(NodeId=resolve(node, self._spaces) or ua.NodeId(), AttributeId=attribute)
            for node, _ in nodes
            for attribute in _SHOWN
        ]
        found = await in_chunks(self._limits, Service.READ, wanted, self._read)
        units = await self._units([unit for _, unit in nodes if unit])
        kinds = [_data_type(value) for value in found[1 :: len(_SHOWN)]]
        await self._definitions.learn(kind for kind in kinds if kind is not None)
        values = [await self._meant(value, kind) for value, kind in zip(found[:: len(_SHOWN)], kinds, strict=True)]
        return [
            _view(value, self._name(kind), units.get(unit, ""), description)
            for value, kind, (_, unit), description in zip(values, kinds, nodes, found[2 :: len(_SHOWN)], strict=True)
        ]

    async def _meant(self, value: DataValue, kind: ua.NodeId | None) -> DataValue:
        """Give structures as JSON objects and enumerations by name, as the gateway sends them."""
        book = self._definitions.book
        if isinstance(value.value, Packed):
            meant = book.unpack(value.value)
            if book.unknown and await self._definitions.learn_encodings():
                meant = book.unpack(value.value)
            return value._replace(value=meant)
        known = None if kind is None else self._definitions.type_of(kind)
        if isinstance(known, Enumeration) and isinstance(value.value, int):
            return value._replace(value=known.names.get(value.value, value.value))
        return value

    def _name(self, kind: ua.NodeId | None) -> str:
        """Name a type as the server does."""
        if kind is None:
            return ""
        if kind in self._definitions.names:
            return self._definitions.names[kind]
        is_standard = not kind.NamespaceIndex and isinstance(kind.Identifier, int)
        return str(ObjectIdNames.get(int(kind.Identifier), kind)) if is_standard else str(kind)

    async def _read(self, wanted: Sequence[ua.ReadValueId]) -> list[DataValue]:
        self.requests += 1
        body = await self._asker.ask_in_background(_request(wanted), self._asker.setup_timeout)
        with device_errors(self._asker.address):
            return read_response(body)

    async def _units(self, nodes: Sequence[str]) -> dict[str, str]:
        async def ask(chunk: Sequence[str]) -> list[str]:
            wanted = [
                ua.ReadValueId(NodeId=resolve(node, self._spaces) or ua.NodeId(), AttributeId=AttributeIds.Value)
                for node in chunk
            ]
            self.requests += 1
            answer = await self._asker.ask_for(_request(wanted), ua.ReadResponse)
            return [_unit(value) for value in answer.Results]

        units = await in_chunks(self._limits, Service.READ, nodes, ask)
        return dict(zip(nodes, units, strict=True))


def _request(wanted: Sequence[ua.ReadValueId]) -> ua.ReadRequest:
    parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Neither)
    parameters.NodesToRead = list(wanted)
    return ua.ReadRequest(Parameters=parameters)


def _unit(value: ua.DataValue) -> str:
    held = value.Value.Value if value.Value is not None else None
    return held.DisplayName.Text or "" if isinstance(held, ua.EUInformation) else ""


def _data_type(value: DataValue) -> ua.NodeId | None:
    node = parse_node_id(value.value) if isinstance(value.value, str) else None
    return None if node is None or node.is_null() else node


def _view(value: DataValue, kind: str, unit: str, description: DataValue) -> View:
    bad = isinstance(value.value, Unusable) or value.status >> 31
    return View(
        None if bad else value.value,
        value.quality or "good",
        kind,
        unit,
        description.value if isinstance(description.value, str) else "",
    )
