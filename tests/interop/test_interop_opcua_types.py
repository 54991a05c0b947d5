"""What a server of another make tells of its own types: structures, unions, enumerations, units and ranges."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from gateway.drivers.base import Shared
from gateway.drivers.opcua.tag import OpcuaTag
from gateway.shaping import Shaper
from tests.interop.node_opcua import BOUND_S, NodeServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
POINT = {"x": 1.5, "y": -2.0}
JOB = {"number": 7, "mode": 7, "alarms": 18, "where": POINT, "path": [POINT, {"x": 0, "y": 0}], "names": ["a", "ü"]}
SHOWN_POINT = {"X": 1.5, "Y": -2.0}
SHOWN_JOB = {
    "Number": 7, "Mode": "Faulty", "Alarms": 18, "Where": SHOWN_POINT, "Path": [SHOWN_POINT, {"X": 0, "Y": 0}],
    "Names": ["a", "ü"],
}  # fmt: skip


def structure(kind: str, value: Any) -> dict[str, Any]:
    return {"type": "ExtensionObject", "of": kind, "value": value}


async def shown(server: NodeServer, *names: str) -> tuple[list[Any], list[OpcuaTag]]:
    """Read once; gives the values as they are sent, and the tags as the meta will have them."""
    device = server.section(list(names), mode="poll")
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        assert driver.section is not None
        shaper = Shaper(driver.section)
        values: dict[int, Any] = {}
        for raw in await driver.read(tuple(range(len(names)))):
            sent = shaper.shape(raw, 0.0)
            assert sent is not None
            assert not sent.quality
            values |= zip(sent.columns, sent.values, strict=True)
        return [values[column] for column in range(len(names))], list(driver.section.tags)


async def test_a_structure_holds_enumerations_bits_structures_and_arrays(server: NodeServer) -> None:
    await server.add(job=structure("Job", JOB), jobs=structure("Job", [JOB, {**JOB, "path": []}]))
    values, tags = await shown(server, "job", "jobs")
    assert values == [SHOWN_JOB, [SHOWN_JOB, {**SHOWN_JOB, "Path": []}]]
    assert [tag.shown_type for tag in tags] == ["Job", "Job[]"]


@pytest.mark.parametrize("given", [{"note": "wait"}, {"weight": 0.5}, {"note": "x", "weight": 0.1}])
async def test_fields_that_are_optional_are_there_or_not(server: NodeServer, given: dict[str, Any]) -> None:
    name = "job-" + "-".join(given)
    await server.add(**{name: structure("Job", {**JOB, **given})})
    expected = {key.capitalize(): value for key, value in given.items()}
    assert (await shown(server, name))[0] == [{**SHOWN_JOB, **expected}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"slot": 4}, {"Slot": 4}), ({"place": POINT}, {"Place": SHOWN_POINT}), ({"name": "dock"}, {"Name": "dock"})],
)
async def test_a_union_has_the_one_field_that_is_set(
    server: NodeServer, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    name = "union-" + "-".join(given)
    await server.add(**{name: structure("Target", given)})
    assert (await shown(server, name))[0] == [expected]


async def test_bits_are_a_number_or_bytes_with_those_that_are_valid(server: NodeServer) -> None:
    await server.add(
        bits={"type": "UInt32", "of": "Alarms", "value": 18},
        marks=structure("Marks", {"value": "Aw==", "validBits": "Bw=="}),
    )
    values, tags = await shown(server, "bits", "marks")
    assert values == [18, {"Value": "Aw==", "ValidBits": "Bw=="}]
    assert [tag.shown_type for tag in tags] == ["Alarms", "Marks"]


async def test_enumerations_are_sent_by_name(server: NodeServer) -> None:
    await server.add(
        mode={"type": "Int32", "of": "Mode", "value": 7},
        states={"type": "UInt32", "value": 1, "states": ["open", "closed"]},
        numbers={"type": "UInt32", "value": 40, "numbers": {"4": "low", "40": "high"}},
    )
    values, tags = await shown(server, "mode", "states", "numbers")
    assert values == ["Faulty", "closed", "high"]
    assert [tag.map for tag in tags] == [
        {0: "Stopped", 1: "Running", 7: "Faulty"},
        {0: "open", 1: "closed"},
        {4: "low", 40: "high"},
    ]


async def test_unit_range_and_texts_come_from_the_server(server: NodeServer) -> None:
    await server.add(
        heat={
            "type": "Double", "value": 20.5, "analog": {"low": -40, "high": 85.5, "unit": "°C"},
            "description": "of the oil",
        }
    )  # fmt: skip
    (value,), (tag,) = await shown(server, "heat")
    assert value == 20.5
    assert (tag.unit, tag.range, tag.description) == ("°C", (Decimal("-40.0"), Decimal("85.5")), "of the oil")
    assert (tag.display_name, tag.shown_type) == ("heat", "Double")
