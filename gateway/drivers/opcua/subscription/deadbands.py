"""Which deadbands the server itself can apply: it keeps noise away, and the gateway decides what is sent."""

import math
from collections.abc import Sequence
from typing import Final

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.subscription import wishes

REFUSED: Final = frozenset(
    {
        "BadFilterNotAllowed",
        "BadMonitoredItemFilterUnsupported",
        "BadMonitoredItemFilterInvalid",
        "BadDeadbandFilterInvalid",
    }
)
_WHOLE: Final = frozenset({2, 3, 4, 5, 7})
"""SByte, Byte, Int16, UInt16 and UInt32. In the others, servers that subtract before they compare overflow, or lose
digits: from 2,000,000,000 to -2,000,000,000 an Int32 then changes by less than nothing."""
_FLOATS: Final = frozenset({10, 11})
_SCALAR: Final = -1
_MEMORY: Final = "refused_filters"
_COMPARE_NEIGHBOURS: Final = ("FreeOpcUa",)
"""Products (BuildInfo) whose filter compares a value with the one before it, not with the last one that was notified:
a slow drift is never told, however far it goes. asyncua's and python-opcua's servers name themselves so."""
_SLACK: Final = 1.001
"""A server may calculate in 32-bit floats."""


def distances(connection: Connection, columns: Sequence[int]) -> dict[int, float]:
    """Give the distance to try at the server, for each tag where it makes sense.

    Only for nodes that are a number: the gateway tells each change of an array, a text or a switch, however small.
    What the server has refused once is not tried again, and nothing at servers that are known to get it wrong.
    """
    if connection.server.product.startswith(_COMPARE_NEIGHBOURS):
        return {}
    refused = connection.memory.get(_MEMORY, set())
    found = {}
    for column in columns:
        distance = wishes.deadband(connection.section.tags[column])
        if distance is not None and str(connection.nodes[column]) not in refused:
            distance = _worth(connection, column, distance)
            if distance:
                found[column] = distance
    return found


def held_back(connection: Connection) -> dict[int, float]:
    """Give how far a value may go from the last that was notified, without a notification; by column.

    Where it is not known whether the server took the filter, it counts as taken.
    """
    found = distances(connection, range(len(connection.nodes)))
    return {column: distance * _SLACK for column, distance in found.items()}


def _worth(connection: Connection, column: int, distance: float) -> float:
    """Give the distance as the node's type has it; 0 where it holds back nothing, or might hold back too much."""
    fact = connection.facts.of(column)
    if fact.data_type is None or fact.rank != _SCALAR:
        return 0.0
    kind = connection.definitions.type_of(fact.data_type)
    if not isinstance(kind, int):
        return 0.0
    if kind in _WHOLE:
        return float(math.floor(distance))
    return distance if kind in _FLOATS else 0.0


def remember_refusal(connection: Connection, column: int) -> None:
    """Note that the server takes no filter for this tag."""
    connection.memory.setdefault(_MEMORY, set()).add(str(connection.nodes[column]))
