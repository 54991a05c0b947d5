"""What the bytes of a server's own structures mean, by the definitions that this server gives of them.

Nothing here is shared between connections: two servers may use one id for two layouts (the library's own registry,
which is one for the process, then reads one server's values by the other's definitions).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.uaerrors import UaError

from gateway.drivers.opcua.types.values import TYPE_MISMATCH, Packed, Unusable, array, scalar, shaped
from gateway.model import Value

INT32: Final = 6
EXTENSION_OBJECT: Final = 22
VARIANT: Final = 24
_UINT32: Final = struct.Struct("<I")
_INT32: Final = struct.Struct("<i")
_DEEPEST: Final = 32
_CUT_SHORT: Final = "the structure ends before its fields do"
_MALFORMED: Final = (struct.error, IndexError, ValueError, OverflowError, RecursionError, UaError)


class Layout(Enum):
    """How a structure's fields follow one another (OPC 10000-3 section 8.49, StructureType)."""

    PLAIN = auto()
    OPTIONAL = auto()
    UNION = auto()


@dataclass(frozen=True, slots=True)
class Enumeration:
    """Names of an Int32's values."""

    name: str
    names: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class OptionSet:
    """A whole number of a built-in type whose bits have names, by their place: 0 is the lowest."""

    name: str
    number: int
    bits: Mapping[int, str]


@dataclass(slots=True)
class Structure:
    """A structure's fields, in the order of the wire; filled once its fields' own types are known."""

    name: str
    layout: Layout = Layout.PLAIN
    fields: "tuple[Field, ...]" = ()


Type = int | Enumeration | OptionSet | Structure
"""A built-in type by its number, or a type that the server defined."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field: of a built-in type by its number (OPC 10000-6 section 5.1.2), or of one that the server defines.

    `rank` is -1 for one value, 1 for an array, more for a matrix.
    """

    name: str
    type: Type
    rank: int = -1
    optional: bool = False


def _standard() -> dict[ua.NodeId, Structure]:
    """Give the structures of the standard that variables have and whose definitions old servers do not give."""
    text, double, int32, localized, octets = 12, 11, INT32, 21, 15
    return {
        ua.NodeId(ua.Int32(number)): structure
        for number, structure in (
            (ObjectIds.Range_Encoding_DefaultBinary, _plain("Range", Low=double, High=double)),
            (
                ObjectIds.EUInformation_Encoding_DefaultBinary,
                _plain("EUInformation", NamespaceUri=text, UnitId=int32, DisplayName=localized, Description=localized),
            ),
            (
                ObjectIds.EnumValueType_Encoding_DefaultBinary,
                _plain("EnumValueType", Value=8, DisplayName=localized, Description=localized),
            ),
            (ObjectIds.OptionSet_Encoding_DefaultBinary, _plain("OptionSet", Value=octets, ValidBits=octets)),
        )
    }


def _plain(name: str, **fields: int) -> Structure:
    return Structure(name, Layout.PLAIN, tuple(Field(key, kind) for key, kind in fields.items()))


@dataclass(slots=True)
class TypeBook:
    """The structures of one server, for as long as one connection lasts.

    `unknown` are the encodings that came and are in no definition yet.
    """

    structures: dict[ua.NodeId, Structure] = field(default_factory=_standard)
    unknown: set[ua.NodeId] = field(default_factory=set)

    def unpack(self, packed: Packed) -> Value | Unusable:
        """Give structures as JSON objects; what cannot be read to its last byte is no value."""
        values: list[Value] = []
        for encoding, body in packed.parts:
            value = self._read(encoding, body, 0)
            if isinstance(value, Unusable):
                return value
            values.append(value)
        if packed.shape is None:
            return values[0]
        nested: Value | Unusable = shaped(values, packed.shape)
        return nested

    def _read(self, encoding: ua.NodeId, body: bytes, depth: int) -> Value | Unusable:
        known = self.structures.get(encoding)
        if known is None:
            if not encoding.is_null():
                self.unknown.add(encoding)
            return TYPE_MISMATCH
        try:
            value, at = self._structure(known, body, 0, depth)
        except _MALFORMED:
            return TYPE_MISMATCH
        return value if at == len(body) else TYPE_MISMATCH

    def _structure(self, kind: Structure, data: bytes, at: int, depth: int) -> tuple[dict[str, Value], int]:
        if depth >= _DEEPEST:
            raise ValueError("structures lie too deep in one another")
        fields = kind.fields
        if kind.layout is Layout.UNION:
            (switch,) = _UINT32.unpack_from(data, at)
            fields, at = (fields[switch - 1 : switch] if switch else ()), at + 4
            if switch and not fields:
                raise IndexError("the union has no such field")
        elif kind.layout is Layout.OPTIONAL:
            (mask,) = _UINT32.unpack_from(data, at)
            fields, at = _present(fields, mask), at + 4
        found: dict[str, Value] = {}
        for each in fields:
            found[each.name], at = self._field(each, data, at, depth)
        return found, at

    def _field(self, of: Field, data: bytes, at: int, depth: int) -> tuple[Value, int]:
        if of.rank < 1:
            return self._element(of.type, data, at, depth)
        if of.rank == 1:
            (count,) = _INT32.unpack_from(data, at)
            return self._elements(of.type, count, data, at + 4, depth)
        # A matrix within a structure: the lengths of its dimensions, then its elements (OPC 10000-6 section 5.2.5).
        lengths, at = array(INT32, *_count(data, at), 0)
        if not isinstance(lengths, list) or len(lengths) != of.rank:
            raise ValueError("a matrix has another number of dimensions than it is defined with")
        size = 1
        for length in lengths:
            size *= max(length, 0)
        elements, at = self._elements(of.type, size, data, at, depth)
        nested = shaped(elements, tuple(lengths))
        return (None if isinstance(nested, Unusable) else nested), at

    def _elements(self, kind: Type, count: int, data: bytes, at: int, depth: int) -> tuple[Value, int]:
        if count < 0:
            return None, at
        if count > len(data) - at:
            raise IndexError(_CUT_SHORT)  # an element takes one byte at least: the count alone must not cost memory
        elements: list[Value] = []
        for _ in range(count):
            element, at = self._element(kind, data, at, depth)
            elements.append(element)
        return elements, at

    def _element(self, kind: Type, data: bytes, at: int, depth: int) -> tuple[Value, int]:
        """Read one value; a field that has none (a null String, NaN, a structure that nobody knows) is None."""
        if isinstance(kind, Structure):
            return self._structure(kind, data, at, depth + 1)
        if isinstance(kind, Enumeration):
            (number,) = _INT32.unpack_from(data, at)
            return kind.names.get(number, number), at + 4
        value, at = scalar(kind.number if isinstance(kind, OptionSet) else kind, data, at, 0)
        if at > len(data):
            raise IndexError(_CUT_SHORT)
        if isinstance(value, Packed) and value.shape is None and depth + 1 < _DEEPEST:
            value = self._read(*value.parts[0], depth + 1)
        return (None if isinstance(value, Unusable) else value), at


def _present(fields: tuple[Field, ...], mask: int) -> tuple[Field, ...]:
    """Give the fields that are there: each optional one has a bit, in their order (OPC 10000-6 section 5.2.7)."""
    optional = [each for each in fields if each.optional]
    if mask >> len(optional):
        raise ValueError("the structure has more optional fields than it is defined with")
    absent = {each.name for bit, each in enumerate(optional) if not mask >> bit & 1}
    return tuple(each for each in fields if each.name not in absent)


def _count(data: bytes, at: int) -> tuple[int, bytes, int]:
    (count,) = _INT32.unpack_from(data, at)
    return count, data, at + 4
