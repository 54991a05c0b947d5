"""The server's own definitions of its types, asked for once a connection (OPC 10000-3 section 8.48 to 8.52)."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.limits import Limits, Service, in_chunks
from gateway.drivers.opcua.references import Wanted, references
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.types.structures import (
    EXTENSION_OBJECT,
    INT32,
    VARIANT,
    Enumeration,
    Field,
    Layout,
    OptionSet,
    Structure,
    Type,
    TypeBook,
)

_BUILT_IN: Final = range(1, 26)
_UNSIGNED: Final = {3, 5, 7, 9}
_NAMING: Final = ("EnumStrings", "EnumValues", "OptionSetValues")
"""Properties by which a type names numbers or bits where it has no definition (OPC 10000-3 section 8.14 and 8.40)."""
_ABSTRACT_NUMBERS: Final = {ObjectIds.Number, ObjectIds.Integer, ObjectIds.UInteger}
_LAYOUTS: Final = {
    ua.StructureType.Structure: Layout.PLAIN,
    ua.StructureType.StructureWithOptionalFields: Layout.OPTIONAL,
    ua.StructureType.Union: Layout.UNION,
    ua.StructureType.StructureWithSubtypedValues: Layout.PLAIN,
    ua.StructureType.UnionWithSubtypedValues: Layout.UNION,
}
_SUBTYPED: Final = {ua.StructureType.StructureWithSubtypedValues, ua.StructureType.UnionWithSubtypedValues}


@dataclass(slots=True)
class Definitions:
    """The types of one server by their DataType nodes, and the book by which values are read."""

    session: Session
    limits: Limits
    book: TypeBook = field(default_factory=TypeBook)
    types: dict[ua.NodeId, Type] = field(default_factory=dict)
    names: dict[ua.NodeId, str] = field(default_factory=dict)
    _learning: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def learn(self, data_types: Iterable[ua.NodeId]) -> None:
        """Learn what these DataTypes are, and all that they consist of. Raises DeviceError.

        What the server does not define stays unknown: a structure of it is `bad:type-mismatch`.
        """
        async with self._learning:  # what is half learned must not be built upon by another task
            await self._learn(data_types)

    async def _learn(self, data_types: Iterable[ua.NodeId]) -> None:
        wanted = [each for each in dict.fromkeys(data_types) if self.type_of(each) is None]
        if not wanted:
            return
        names = await _attributes(self.session, self.limits, wanted, AttributeIds.BrowseName)
        given = await _attributes(self.session, self.limits, wanted, AttributeIds.DataTypeDefinition)
        structures: dict[ua.NodeId, ua.StructureDefinition] = {}
        named: dict[ua.NodeId, Mapping[int, str]] = {}
        undefined: list[ua.NodeId] = []
        for data_type, name, definition in zip(wanted, names, given, strict=True):
            self.names[data_type] = name.Name if isinstance(name, ua.QualifiedName) and name.Name else str(data_type)
            if isinstance(definition, ua.EnumDefinition):
                named[data_type] = {int(each.Value): str(each.Name) for each in definition.Fields or () if each.Name}
            elif isinstance(definition, ua.StructureDefinition):
                structures[data_type] = definition
                self.types[data_type] = Structure(self.names[data_type])
            else:
                undefined.append(data_type)
        await self._inherit([*undefined, *named])
        # A server that does not tell the supertype: an EnumDefinition is an enumeration's, but for option sets.
        self.types |= {each: INT32 for each in named if self.types[each] == EXTENSION_OBJECT}
        await self._name([*undefined, *named], named)
        await self._learn(each.DataType for definition in structures.values() for each in definition.Fields or ())
        for data_type, definition in structures.items():
            self._define(data_type, definition)
        await self._find_encodings(structures)

    async def learn_encodings(self) -> bool:
        """Learn the types of encodings that came in values; whether anything was learned. Raises DeviceError."""
        async with self._learning:
            return await self._learn_encodings()

    async def _learn_encodings(self) -> bool:
        encodings = sorted(self.book.unknown, key=str)
        self.book.unknown.clear()
        if not encodings:
            return False
        inverse = Wanted(ObjectIds.HasEncoding, inverse=True)
        found = await references(self.session, self.limits, encodings, inverse)
        data_types = [each[0].node for each in found if each and each[0].node is not None]
        before = len(self.book.structures)
        await self._learn(data_types)
        for encoding, each in zip(encodings, found, strict=True):
            kind = self.types.get(each[0].node) if each and each[0].node is not None else None
            if isinstance(kind, Structure):
                self.book.structures.setdefault(encoding, kind)
        return len(self.book.structures) > before

    def type_of(self, data_type: ua.NodeId) -> Type | None:
        """Give what is known of a DataType."""
        if data_type.NamespaceIndex == 0 and isinstance(data_type.Identifier, int):
            number = int(data_type.Identifier)
            if number in _BUILT_IN:
                return number
            if number in _ABSTRACT_NUMBERS:
                return VARIANT
            if number == ObjectIds.Enumeration:
                return INT32
        return self.types.get(data_type)

    async def _inherit(self, undefined: Sequence[ua.NodeId]) -> None:
        """A type without a definition is what its supertype is: a Duration is a Double."""
        if not undefined:
            return
        inverse = Wanted(ObjectIds.HasSubtype, inverse=True)
        found = await references(self.session, self.limits, undefined, inverse)
        above = {each: up[0].node for each, up in zip(undefined, found, strict=True) if up and up[0].node is not None}
        # Nothing is its own supertype, but a server may say so.
        self.types |= dict.fromkeys(undefined, EXTENSION_OBJECT)
        await self._learn(each for each in above.values() if each is not None)
        for _ in undefined:
            for each, supertype in above.items():
                known = None if supertype is None else self.type_of(supertype)
                if known is not None and not isinstance(known, Structure):
                    self.types[each] = known

    async def _name(self, data_types: Sequence[ua.NodeId], given: Mapping[ua.NodeId, Mapping[int, str]]) -> None:
        """Take the names of an Int32's values, or of an unsigned number's bits; `given` are those of definitions.

        Which of the two they are, the supertype tells: an EnumDefinition looks the same for both.
        """
        numbers = [each for each in data_types if self.type_of(each) in (INT32, *_UNSIGNED)]
        told = await self._properties([each for each in numbers if each not in given])
        for data_type in numbers:
            names = given.get(data_type) or told.get(data_type)
            kind = self.types[data_type]
            if names and kind == INT32:
                self.types[data_type] = Enumeration(self.names[data_type], names)
            elif names and isinstance(kind, int):
                self.types[data_type] = OptionSet(self.names[data_type], kind, names)

    async def _properties(self, data_types: Sequence[ua.NodeId]) -> dict[ua.NodeId, Mapping[int, str]]:
        """Read the names that types give as properties of theirs."""
        if not data_types:
            return {}
        wanted = Wanted(ObjectIds.HasProperty, subtypes=False)
        found = await references(self.session, self.limits, data_types, wanted)
        pairs = [
            (data_type, each.node)
            for data_type, own in zip(data_types, found, strict=True)
            for each in own
            if each.name in _NAMING and each.node is not None
        ]
        shown = await _attributes(self.session, self.limits, [node for _, node in pairs], AttributeIds.Value)
        return {data_type: _names_in(value) for (data_type, _), value in zip(pairs, shown, strict=True)}

    def _define(self, data_type: ua.NodeId, definition: ua.StructureDefinition) -> None:
        structure = self.types[data_type]
        if not isinstance(structure, Structure):
            return
        subtyped = definition.StructureType in _SUBTYPED
        structure.layout = _LAYOUTS.get(definition.StructureType, Layout.PLAIN)
        structure.fields = tuple(
            Field(
                str(each.Name),
                self._carried(each.DataType, subtypes=subtyped and bool(each.IsOptional)),
                int(each.ValueRank) if each.ValueRank is not None else -1,
                optional=bool(each.IsOptional) and not subtyped,
            )
            for each in definition.Fields or ()
        )
        if not definition.DefaultEncodingId.is_null():
            self.book.structures[definition.DefaultEncodingId] = structure

    def _carried(self, data_type: ua.NodeId, *, subtypes: bool) -> Type:
        """Give what a field is on the wire: one that allows subtypes says itself what it is."""
        kind = self.type_of(data_type)
        if kind is None:
            return EXTENSION_OBJECT
        if subtypes:
            return EXTENSION_OBJECT if isinstance(kind, Structure) else VARIANT
        return kind

    async def _find_encodings(self, structures: Mapping[ua.NodeId, ua.StructureDefinition]) -> None:
        """Some servers leave DefaultEncodingId empty: the encoding is a node beside the type."""
        missing = [data_type for data_type, definition in structures.items() if definition.DefaultEncodingId.is_null()]
        if not missing:
            return
        found = await references(self.session, self.limits, missing, Wanted(ObjectIds.HasEncoding))
        for data_type, encodings in zip(missing, found, strict=True):
            structure = self.types[data_type]
            for each in encodings:
                if each.name == "Default Binary" and each.node is not None and isinstance(structure, Structure):
                    self.book.structures[each.node] = structure


def _names_in(value: object) -> dict[int, str]:
    """Give the names in a list of texts, which counts from 0, or of EnumValueTypes, each of which says its number."""
    names: dict[int, str] = {}
    for number, each in enumerate(value if isinstance(value, list) else ()):
        if isinstance(each, ua.LocalizedText) and each.Text:
            names[number] = each.Text
        elif isinstance(each, ua.EnumValueType) and each.DisplayName.Text:
            names[int(each.Value)] = each.DisplayName.Text
    return names


async def _attributes(
    session: Session, limits: Limits, nodes: Sequence[ua.NodeId], attribute: AttributeIds
) -> list[object]:
    return await in_chunks(limits, Service.READ, nodes, partial(_read, session, attribute))


async def _read(session: Session, attribute: AttributeIds, nodes: Sequence[ua.NodeId]) -> list[object]:
    """Read an attribute of few nodes; the library takes the values apart: definitions are the standard's own types."""
    parameters = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Neither)
    parameters.NodesToRead = [ua.ReadValueId(NodeId=node, AttributeId=attribute) for node in nodes]
    answer = await session.ask_for(ua.ReadRequest(Parameters=parameters), ua.ReadResponse)
    return [None if each.Value is None else each.Value.Value for each in answer.Results]
