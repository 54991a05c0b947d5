"""Which deadbands the server itself can apply: it keeps noise away, and the gateway decides what is sent."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from asyncua.ua.attribute_ids import AttributeIds

from gateway.drivers.opcua.attributes import read_attributes
from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.subscription import wishes

REFUSED: Final = frozenset(
    {
        "BadFilterNotAllowed",
        "BadMonitoredItemFilterUnsupported",
        "BadMonitoredItemFilterInvalid",
        "BadDeadbandFilterInvalid",
    }
)
_NUMBERS: Final = frozenset(f"i={number}" for number in range(2, 12))
"""The built-in types SByte to Double (OPC 10000-6 section 5.1.2)."""
_SCALAR: Final = -1
_MEMORY: Final = "refused_filters"


async def distances(connection: Connection, columns: Sequence[int]) -> dict[int, float]:
    """Give the distance to try at the server, for each tag where it makes sense. Raises DeviceError.

    Only for nodes that are a number: the gateway tells each change of an array, a text or a switch, however small.
    What the server has refused once is not tried again.
    """
    refused = connection.memory.get(_MEMORY, set())
    tags, nodes = connection.section.tags, connection.nodes
    wanted = {
        column: distance
        for column in columns
        if nodes[column] is not None
        and (distance := wishes.deadband(tags[column])) is not None
        and str(nodes[column]) not in refused
    }
    asked = [node for column in wanted if (node := nodes[column]) is not None]
    attributes = [(node, attribute) for node in asked for attribute in (AttributeIds.DataType, AttributeIds.ValueRank)]
    read = partial(read_attributes, connection.session)
    answers = await in_chunks(connection.server.limits, Service.READ, attributes, read) if attributes else []
    numbers = [
        kind.value in _NUMBERS and rank.value == _SCALAR for kind, rank in zip(answers[::2], answers[1::2], strict=True)
    ]
    return {column: wanted[column] for column, is_number in zip(wanted, numbers, strict=True) if is_number}


def remember_refusal(connection: Connection, column: int) -> None:
    """Note that the server takes no filter for this tag."""
    connection.memory.setdefault(_MEMORY, set()).add(str(connection.nodes[column]))
