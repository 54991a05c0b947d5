"""What a person is shown of a server's nodes: where they are, and what they hold, step by bounded step."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIdNames

from gateway.drivers.opcua.browse import Browser, Pages
from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.messages import read_response
from gateway.drivers.opcua.nodes import resolve
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.survey import Server
from gateway.drivers.opcua.types.values import DataValue, Unusable

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
    """Whoever asks the server for a person; each call is one bounded step and raises DeviceError."""

    async def look(self, nodes: Sequence[tuple[str, str]]) -> list[View]:
        """Read variables: each is given with the node of its unit, empty if it has none."""


class SessionExplorer(Browser):
    """Explores through an open session."""

    def __init__(self, session: Session, server: Server) -> None:
        super().__init__(session, server)
        self._asker = session
        self._spaces = server.namespaces
        self._limits = server.limits

    async def look(self, nodes: Sequence[tuple[str, str]]) -> list[View]:
        """Read variables: each is given with the node of its unit, empty if it has none."""
        wanted = [
            ua.ReadValueId(NodeId=resolve(node, self._spaces) or ua.NodeId(), AttributeId=attribute)
            for node, _ in nodes
            for attribute in _SHOWN
        ]
        found = await in_chunks(self._limits, Service.READ, wanted, self._read)
        units = await self._units([unit for _, unit in nodes if unit])
        return [
            _view(found[at * len(_SHOWN) : (at + 1) * len(_SHOWN)], units.get(unit, ""))
            for at, (_, unit) in enumerate(nodes)
        ]

    async def _read(self, wanted: Sequence[ua.ReadValueId]) -> list[DataValue]:
        body = await self._asker.ask(_request(wanted), self._asker.setup_timeout)
        with device_errors(self._asker.address):
            return read_response(body)

    async def _units(self, nodes: Sequence[str]) -> dict[str, str]:
        async def ask(chunk: Sequence[str]) -> list[str]:
            wanted = [
                ua.ReadValueId(NodeId=resolve(node, self._spaces) or ua.NodeId(), AttributeId=AttributeIds.Value)
                for node in chunk
            ]
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


def _view(found: Sequence[DataValue], unit: str) -> View:
    value, kind, description = found
    bad = isinstance(value.value, Unusable) or value.status >> 31
    return View(
        None if bad else value.value,
        value.quality or "good",
        _type_name(kind.value),
        unit,
        description.value if isinstance(description.value, str) else "",
    )


def _type_name(kind: Any) -> str:
    """Give the name of a built-in type; of others the node id."""
    text = kind if isinstance(kind, str) else ""
    number = text.removeprefix("i=")
    return str(ObjectIdNames.get(int(number), text)) if number.isdecimal() else text
