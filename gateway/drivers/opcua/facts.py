"""What a server tells of the tags: type, unit, range, names and texts, read once and put into the meta."""

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.base import Percent
from gateway.drivers.opcua.attributes import read_attributes
from gateway.drivers.opcua.definitions import Definitions
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.nodes import parse_node_id
from gateway.drivers.opcua.references import Wanted, references
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.survey import Server
from gateway.drivers.opcua.tag import OpcuaTag, Told
from gateway.drivers.opcua.types.structures import EXTENSION_OBJECT, VARIANT, Enumeration, OptionSet, Type
from gateway.drivers.opcua.types.values import DataValue, Packed, Unusable

ATTRIBUTES: Final = (
    AttributeIds.DataType,
    AttributeIds.ValueRank,
    AttributeIds.DisplayName,
    AttributeIds.Description,
)
_PROPERTIES: Final = frozenset({"EURange", "EngineeringUnits", "EnumStrings", "EnumValues", "OptionSetValues"})
_MEMORY: Final = "facts"
_SCALAR: Final = -1


class Fact(NamedTuple):
    """What a server tells of one node; None for what it does not tell."""

    data_type: ua.NodeId | None = None
    rank: int = _SCALAR
    display_name: str | None = None
    description: str | None = None
    unit: str | None = None
    range: tuple[Decimal, Decimal] | None = None
    names: Mapping[int, str] | None = None
    bits: Mapping[int, str] | None = None


NOTHING_TOLD: Final = Fact()


@dataclass(slots=True)
class Facts:
    """What the server tells of the nodes of one device's tags. `configured` is the section without any of it.

    Asked once for each run of the server: what it told stays in `memory` until it starts anew. Nothing is remembered
    of a node of which it told nothing: it is not there, and will be another when it comes.
    """

    configured: OpcuaDevice
    session: Session
    server: Server
    nodes: Sequence[ua.NodeId | None]
    definitions: Definitions
    memory: MutableMapping[str, Any]
    _known: dict[ua.NodeId, Fact] = field(default_factory=dict)
    _untold: set[int] = field(default_factory=set)

    def of(self, column: int) -> Fact:
        """Give what is known of a tag's node."""
        node = self.nodes[column]
        return NOTHING_TOLD if node is None else self._known.get(node, NOTHING_TOLD)

    async def complete(self) -> OpcuaDevice:
        """Give the section with what the server tells of its tags; what the config says stands. Raises DeviceError."""
        began, remembered = self.memory.get(_MEMORY, (None, {}))
        if began is not None and began == self.server.started:
            self._known = remembered
        self.memory[_MEMORY] = (self.server.started, self._known)
        columns = [column for column, node in enumerate(self.nodes) if node is not None]
        await self._learn(columns)
        self._untold = {column for column in columns if self.of(column).data_type is None}
        return self._section(self.configured, columns)

    def appeared(self, readings: Iterable[tuple[int, DataValue]]) -> list[int]:
        """Give the tags of which nothing was told, and of which a value has come now."""
        if not self._untold:
            return []
        return [column for column, value in readings if column in self._untold and not value.status >> 31]

    async def ask_again(self, section: OpcuaDevice, columns: Sequence[int]) -> OpcuaDevice:
        """Give the section with what the server tells of these tags by now, once for each. Raises DeviceError."""
        await self._learn(columns)
        self._untold.difference_update(columns)
        told = [column for column in columns if self.of(column).data_type is not None]
        return self._section(section, told) if told else section

    async def _learn(self, columns: Sequence[int]) -> None:
        """Ask about the nodes of these tags, and about their types."""
        nodes = list(dict.fromkeys(node for column in columns if (node := self.nodes[column]) is not None))
        missing = [node for node in nodes if node not in self._known]
        found = zip(missing, await _ask(self.session, self.server, self.definitions, missing), strict=True)
        told = {node: fact for node, fact in found if fact.data_type is not None}
        known = {node: fact for node in nodes if (fact := told.get(node) or self._known.get(node)) is not None}
        await self.definitions.learn({fact.data_type for fact in known.values() if fact.data_type is not None})
        open_nodes = [node for node, fact in known.items() if _is_open(fact, self.definitions)]
        await _meet(self.session, self.server, self.definitions, open_nodes)
        await _settle_ranks(self.session, self.server, self.definitions, told)
        # Last of all: of what was asked over a link that broke, nothing is taken for known.
        self._known.update(told)

    def _section(self, section: OpcuaDevice, columns: Iterable[int]) -> OpcuaDevice:
        tags = list(section.tags)
        for column in columns:
            tags[column] = _completed(self.configured.tags[column], self.of(column), self.definitions)
        return section.model_copy(update={"tags": tuple(tags)})


def _is_open(fact: Fact, definitions: Definitions) -> bool:
    """Whether only a value tells which structure it is."""
    return fact.data_type is not None and definitions.type_of(fact.data_type) in (EXTENSION_OBJECT, VARIANT)


async def _meet(session: Session, server: Server, definitions: Definitions, nodes: Sequence[ua.NodeId]) -> None:
    """Look once at values whose DataType is abstract, to know their structures before the first is notified."""
    pairs = [(node, AttributeIds.Value) for node in nodes]
    for value in await in_chunks(server.limits, Service.READ, pairs, partial(read_attributes, session)):
        _unpacked(value, definitions)
    await definitions.learn_encodings()


async def _settle_ranks(
    session: Session,
    server: Server,
    definitions: Definitions,
    known: dict[ua.NodeId, Fact],
) -> None:
    """Look once at values that have names, and may be arrays or not by what the server says: names are for one number.

    Some servers leave the ValueRank of a MultiStateDiscrete at Any, as its type has it.
    """
    unsure = [node for node, fact in known.items() if fact.rank < _SCALAR and _names_of(fact, definitions)]
    pairs = [(node, AttributeIds.Value) for node in unsure]
    values = await in_chunks(server.limits, Service.READ, pairs, partial(read_attributes, session))
    for node, value in zip(unsure, values, strict=True):
        if isinstance(value.value, int) and not value.status >> 30:
            known[node] = known[node]._replace(rank=_SCALAR)


def _names_of(fact: Fact, definitions: Definitions) -> Mapping[int, str] | None:
    kind = None if fact.data_type is None else definitions.type_of(fact.data_type)
    return kind.names if isinstance(kind, Enumeration) else fact.names


def _completed(tag: OpcuaTag, fact: Fact, definitions: Definitions) -> OpcuaTag:
    """Put what the server tells where the config says nothing."""
    kind = None if fact.data_type is None else definitions.type_of(fact.data_type)
    names = _names_of(fact, definitions)
    is_scalar = fact.rank == _SCALAR
    update: dict[str, Any] = {}
    if tag.unit is None and fact.unit and not tag.scaled:
        update["unit"] = fact.unit
    if tag.description is None and fact.description:
        update["description"] = fact.description
    if tag.range is None and fact.range is not None and not tag.scaled:
        update["range"] = fact.range
    if tag.map is None and names and is_scalar and not _is_calculated(tag):
        update["map"] = dict(names)
    if isinstance(tag.deadband, Percent) and tag.range is None and "range" not in update:
        update["deadband"] = None
    bits = kind.bits if isinstance(kind, OptionSet) else fact.bits
    told = Told(_type_name(fact, kind, definitions), fact.display_name, None if tag.scaled else bits)
    return tag.with_told(told, update)


def _is_calculated(tag: OpcuaTag) -> bool:
    """Whether the config treats the value as a number."""
    return tag.scaled or bool(tag.deadband) or tag.min is not None or tag.max is not None


def _type_name(fact: Fact, kind: Type | None, definitions: Definitions) -> str | None:
    if fact.data_type is None:
        return None
    name = definitions.names.get(fact.data_type)
    if name is None:
        name = ua.VariantType(kind).name if isinstance(kind, int) else str(fact.data_type)
        if fact.data_type.NamespaceIndex == 0 and isinstance(fact.data_type.Identifier, int):
            name = _ABSTRACT.get(fact.data_type.Identifier, name)
    return name + "[]" * max(0, fact.rank)


_ABSTRACT: Final[Mapping[int, str]] = {
    24: "BaseDataType",
    26: "Number",
    27: "Integer",
    28: "UInteger",
    29: "Enumeration",
    22: "Structure",
}


async def _ask(session: Session, server: Server, definitions: Definitions, nodes: Sequence[ua.NodeId]) -> list[Fact]:
    pairs = [(node, attribute) for node in nodes for attribute in ATTRIBUTES]
    values = await in_chunks(server.limits, Service.READ, pairs, partial(read_attributes, session))
    found = await references(session, server.limits, nodes, Wanted(ObjectIds.HasProperty, subtypes=False))
    properties = [
        (at, each.name, each.node)
        for at, own in enumerate(found)
        for each in own
        if each.name in _PROPERTIES and each.node is not None
    ]
    wanted = [(node, AttributeIds.Value) for _, _, node in properties]
    shown = await in_chunks(server.limits, Service.READ, wanted, partial(read_attributes, session))
    told: dict[int, dict[str, Any]] = {}
    for (at, name, _), value in zip(properties, shown, strict=True):
        told.setdefault(at, {})[name] = _unpacked(value, definitions)
    width = len(ATTRIBUTES)
    return [_fact(values[at * width : (at + 1) * width], told.get(at, {})) for at in range(len(nodes))]


def _unpacked(value: DataValue, definitions: Definitions) -> Any:
    if value.status >> 30:
        return None
    shown = definitions.book.unpack(value.value) if isinstance(value.value, Packed) else value.value
    return None if isinstance(shown, Unusable) else shown


def _fact(attributes: Sequence[DataValue], properties: Mapping[str, Any]) -> Fact:
    data_type, rank, display_name, description = (
        None if isinstance(each.value, Unusable) or each.status >> 30 else each.value for each in attributes
    )
    return Fact(
        data_type=parse_node_id(data_type) if isinstance(data_type, str) else None,
        rank=rank if isinstance(rank, int) else _SCALAR,
        display_name=display_name or None,
        description=description or None,
        unit=_unit(properties.get("EngineeringUnits")),
        range=_range(properties.get("EURange")),
        names=_names(properties.get("EnumStrings"), properties.get("EnumValues")),
        bits=_names(properties.get("OptionSetValues"), None),
    )


def _unit(told: Any) -> str | None:
    """Give the unit as the server shows it to people (EUInformation, OPC 10000-8 section 5.6.3)."""
    return (told.get("DisplayName") or told.get("Description") or None) if isinstance(told, dict) else None


def _range(told: Any) -> tuple[Decimal, Decimal] | None:
    if not isinstance(told, dict) or told.get("Low") is None or told.get("High") is None:
        return None
    low, high = Decimal(repr(told["Low"])), Decimal(repr(told["High"]))
    return (low, high) if low < high else None


def _names(strings: Any, values: Any) -> dict[int, str] | None:
    """Give the names of numbers: EnumStrings counts from 0, EnumValues says each (OPC 10000-8 section 5.3.3)."""
    if isinstance(values, list):
        return {int(each["Value"]): str(each["DisplayName"]) for each in values if each.get("DisplayName")} or None
    if isinstance(strings, list):
        return {number: text for number, text in enumerate(strings) if text} or None
    return None
