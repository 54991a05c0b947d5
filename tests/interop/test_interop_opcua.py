"""The OPC UA driver against node-opcua: nothing of ours, nor of the library we use, is on the other side."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from gateway.drivers.base import Notification, Shared
from tests.interop.node_opcua import BOUND_S, NodeServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
SCALARS: dict[str, tuple[str, Any, Any]] = {
    "boolean": ("Boolean", True, True),
    "sbyte": ("SByte", -128, -128),
    "byte": ("Byte", 255, 255),
    "int16": ("Int16", -32768, -32768),
    "uint16": ("UInt16", 65535, 65535),
    "int32": ("Int32", -2147483648, -2147483648),
    "uint32": ("UInt32", 4294967295, 4294967295),
    "int64": ("Int64", "-9007199254740993", -9007199254740993),
    "uint64": ("UInt64", "18446744073709551615", 18446744073709551615),
    "float": ("Float", 0.1, 0.1),
    "double": ("Double", 1 / 3, 1 / 3),
    "string": ("String", "Grüße, 世界", "Grüße, 世界"),
    "datetime": ("DateTime", 1767355200123, 1767355200123),
    "guid": ("Guid", "72962B91-FA75-4AE6-8D28-B404DC7DAF63", "72962b91-fa75-4ae6-8d28-b404dc7daf63"),
    "bytestring": ("ByteString", "AAEC/w==", "AAEC/w=="),
    "xml": ("XmlElement", "<a>1</a>", "<a>1</a>"),
    "node_id": ("NodeId", "ns=1;s=x", "ns=1;s=x"),
    "expanded": ("ExpandedNodeId", "ns=1;i=7", "ns=1;i=7"),
    "status": ("StatusCode", "BadTimeout", "BadTimeout"),
    "qualified": ("QualifiedName", {"namespaceIndex": 1, "name": "speed"}, "1:speed"),
    "localized": ("LocalizedText", "fast", "fast"),
}
ARRAYS = {f"{name}s": (kind, [given, given], [expected, expected]) for name, (kind, given, expected) in SCALARS.items()}
ALL = {**SCALARS, **ARRAYS}


@pytest_asyncio.fixture(loop_scope="session", scope="module", autouse=True)
async def _variables(server: NodeServer) -> None:
    await server.add(**{name: (kind, given) for name, (kind, given, _) in ALL.items()})


def shared() -> Shared:
    """What no other test has learned of the server."""
    return Shared("hall-3")


async def read(server: NodeServer, names: list[str], **keys: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Read once; gives values and qualities by name."""
    async with asyncio.timeout(BOUND_S), server.section(names, mode="poll", **keys).open(shared()) as driver:
        samples = await driver.read(tuple(range(len(names))))
    pairs = [pair for each in samples for pair in zip(each.columns, each.values, strict=True)]
    qualities = {name: text for each in samples for name, text in each.quality.items()}
    return {names[column]: value for column, value in pairs}, qualities


def values(notification: Notification) -> dict[int, Any]:
    """The last value of each column in a notification."""
    pairs = [zip(each.columns, each.values, strict=True) for each in notification.samples]
    return {column: value for sample in pairs for column, value in sample}


async def first_values(changes: AsyncIterator[Notification]) -> dict[int, Any]:
    """Wait for values."""
    async for notification in changes:
        if found := values(notification):
            return found
    raise AssertionError("no values came")


@pytest.mark.parametrize("name", list(ALL))
async def test_every_built_in_type_is_read_alone_and_in_arrays(server: NodeServer, name: str) -> None:
    assert await read(server, [name]) == ({name: ALL[name][2]}, {})


async def test_a_matrix_is_nested_the_last_dimension_innermost(server: NodeServer) -> None:
    await server.add(matrix=("Int32", [1, 2, 3, 4, 5, 6], [2, 3]), cube=("Double", list(range(8)), [2, 2, 2]))
    found, _ = await read(server, ["matrix", "cube"])
    assert found == {"matrix": [[1, 2, 3], [4, 5, 6]], "cube": [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]}


async def test_what_is_bad_and_what_is_not_there_cost_no_other(server: NodeServer) -> None:
    await server.add(level=("Double", 1.0))
    await server.order("set", values=[{"name": "level", "value": 2.0, "status": "BadSensorFailure"}])
    found, qualities = await read(server, ["level", "nowhere", "double"])
    assert found == {"double": 1 / 3}
    assert qualities == {"level": "bad:BadSensorFailure", "nowhere": "bad:BadNodeIdUnknown"}


async def test_5000_items_are_monitored_within_the_servers_limits_and_all_are_notified(server: NodeServer) -> None:
    names = [f"many{number:04}" for number in range(5000)]
    await server.add(**dict.fromkeys(names, ("Int32", 0)))
    seen: dict[int, Any] = {}
    async with asyncio.timeout(BOUND_S), server.section(names, mode="subscribe").open(shared()) as driver:
        changes = driver.changes()
        while len(seen) < 5000:
            seen |= values(await anext(changes))
        assert set(seen.values()) == {0}
        assert sum(each["items"] for each in await server.order("held")) == 5000
        await server.set(**{name: number + 1 for number, name in enumerate(names)})
        while any(seen[column] != column + 1 for column in range(5000)):
            seen |= values(await anext(changes))


async def test_what_is_polled_again_is_registered_and_reads_the_same(server: NodeServer) -> None:
    names = list(ALL)
    async with asyncio.timeout(BOUND_S), server.section(names, mode="poll").open(shared()) as driver:
        polls = [await driver.poll(tuple(range(len(names)))) for _ in range(3)]
        registered = driver.details["registered"]
    assert values(polls[0]) == values(polls[1]) == values(polls[2])
    assert len(values(polls[2])) == registered == len(names)
