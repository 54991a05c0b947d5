"""What a server tells of its nodes: types, units, ranges, names; structures read by its own definitions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncua
import pytest
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from opcua_peer import NAMESPACE, Peer, section

from gateway.buffer.cutting import cut
from gateway.drivers.base import Shared
from gateway.drivers.opcua.references import references
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.tag import OpcuaTag
from gateway.model import Meta
from gateway.shaping import Shaper

ua: Any = asyncua.ua
DEVICE = {"mode": "poll"}
META = Meta("9c01d2ab", "plc", "t", ("photo", "speed"), ("*", "*"))


@contextlib.asynccontextmanager
async def open_at(peer: Peer, tags: Sequence[Any], shared: Shared | None = None) -> AsyncIterator[Any]:
    async with section(peer, list(tags), **DEVICE).open(shared or Shared("hall-3")) as driver:
        yield driver


def told(driver: Any) -> dict[str, OpcuaTag]:
    completed: OpcuaDevice = driver.section
    return {tag.name: tag for tag in completed.tags}


async def values(driver: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Read all tags as the gateway sends them: with names for numbers."""
    shaper = Shaper(driver.section)
    found: dict[str, Any] = {}
    quality: dict[str, str] = {}
    for raw in await driver.read(tuple(range(len(driver.section.tags)))):
        shaped = shaper.shape(raw, 0.0)
        if shaped is not None:
            found |= {
                driver.section.tags[at].name: value for at, value in zip(shaped.columns, shaped.values, strict=True)
            }
            quality |= shaped.quality
    return found, quality


async def analog(peer: Peer, name: str, *, unit: str = "bar", low: float = 0.0, high: float = 10.0) -> None:
    """Make a variable with a unit and a range."""
    await peer.add(**{name: 5.0})
    node = peer.server.get_node(ua.NodeId(name, peer.index))
    shown = ua.EUInformation(NamespaceUri="u", UnitId=1, DisplayName=ua.LocalizedText(unit))
    peer._added += [
        await node.add_property(ua.NodeId(f"{name}.range", peer.index), "0:EURange", ua.Range(low, high)),
        await node.add_property(ua.NodeId(f"{name}.unit", peer.index), "0:EngineeringUnits", shown),
    ]


async def test_unit_range_type_and_names_for_people_come_from_the_server(peer: Peer) -> None:
    await analog(peer, "pressure")
    async with open_at(peer, ["pressure"]) as driver:
        tag = told(driver)["pressure"]
        assert (tag.unit, tuple(map(float, tag.range or ())), tag.shown_type) == ("bar", (0.0, 10.0), "Double")
        assert tag.display_name == "pressure"


async def test_what_the_config_says_stands(peer: Peer) -> None:
    await analog(peer, "pressure")
    own = {
        "name": "pressure",
        "node": f"nsu={NAMESPACE};s=pressure",
        "unit": "kPa",
        "range": [1, 2],
        "description": "d",
    }
    async with open_at(peer, [own]) as driver:
        tag = told(driver)["pressure"]
        assert (tag.unit, tuple(map(float, tag.range or ())), tag.description) == ("kPa", (1.0, 2.0), "d")


async def test_a_scaled_value_has_not_the_servers_unit_nor_its_range(peer: Peer) -> None:
    """P5: both are of the raw value."""
    await analog(peer, "pressure")
    async with open_at(peer, [{"name": "p", "node": f"nsu={NAMESPACE};s=pressure", "scale": 0.1}]) as driver:
        assert (told(driver)["p"].unit, told(driver)["p"].range) == (None, None)


@pytest.mark.parametrize(("node", "deadband"), [("pressure", True), ("plain", False)])
async def test_a_deadband_in_percent_is_of_the_servers_range_or_there_is_none(
    peer: Peer, node: str, deadband: bool
) -> None:
    await analog(peer, "pressure")
    await peer.add(plain=1.0)
    tag = {"name": "x", "node": f"nsu={NAMESPACE};s={node}", "deadband": "2%"}
    async with open_at(peer, [tag]) as driver:
        assert (told(driver)["x"].deadband is not None) is deadband


async def test_facts_are_asked_for_once_a_run_of_the_server(peer: Peer) -> None:
    await analog(peer, "pressure")
    shared = Shared("hall-3")
    async with open_at(peer, ["pressure"], shared):
        first = len(peer.wire.requests)
    async with open_at(peer, ["pressure"], shared) as driver:
        assert told(driver)["pressure"].unit == "bar"
        assert len(peer.wire.requests) - first < first


async def test_an_enumeration_is_sent_by_name_and_a_number_without_one_as_it_is(peer: Peer) -> None:
    kind = await new_enum(peer.server, peer.index, "Mode", ["Off", "Manual", "Auto"])
    for name, number in (("mode", 2), ("other", 7)):
        node = await peer.server.nodes.objects.add_variable(
            ua.NodeId(name, peer.index), name, number, ua.VariantType.Int32, datatype=kind.nodeid
        )
        peer._added.append(node)
    async with open_at(peer, ["mode", "other"]) as driver:
        assert await values(driver) == ({"mode": "Auto", "other": 7}, {"other": "uncertain:unmapped"})
        assert told(driver)["mode"].shown_type == "Mode"


async def test_names_are_given_to_a_number_though_the_server_says_it_may_be_an_array_as_well(peer: Peer) -> None:
    """Some servers leave the ValueRank of a MultiStateDiscrete at Any, as its type has it (OPC 10000-8 5.3.3.3)."""
    await peer.add(one=ua.Variant(1, ua.VariantType.UInt32), many=ua.Variant([0, 1], ua.VariantType.UInt32))
    texts = [ua.LocalizedText("open"), ua.LocalizedText("closed")]
    for name in ("one", "many"):
        node = peer.server.get_node(ua.NodeId(name, peer.index))
        await node.write_attribute(ua.AttributeIds.ValueRank, ua.DataValue(ua.Variant(-2, ua.VariantType.Int32)))
        names = await node.add_property(ua.NodeId(f"{name}.names", peer.index), "0:EnumStrings", texts)
        peer._added.append(names)
    async with open_at(peer, ["one", "many"]) as driver:
        assert await values(driver) == ({"one": "closed", "many": [0, 1]}, {})


async def test_a_structure_is_an_object_by_the_servers_own_definition(peer: Peer) -> None:
    kind, _ = await new_struct(
        peer.server,
        peer.index,
        "Job",
        [
            new_struct_field("Speed", ua.VariantType.Double),
            new_struct_field("Name", ua.VariantType.String),
            new_struct_field("Steps", ua.VariantType.Int32, array=True),
        ],
    )
    await peer.server.load_data_type_definitions()
    job = ua.Job(Speed=1.5, Name="drill", Steps=[1, 2])
    node = await peer.server.nodes.objects.add_variable(
        ua.NodeId("job", peer.index), "job", ua.Variant(job, ua.VariantType.ExtensionObject), datatype=kind.nodeid
    )
    peer._added.append(node)
    async with open_at(peer, ["job"]) as driver:
        assert await values(driver) == ({"job": {"Speed": 1.5, "Name": "drill", "Steps": [1, 2]}}, {})
        assert told(driver)["job"].shown_type == "Job"


async def test_a_structure_in_a_variable_of_any_type_is_read_too(peer: Peer) -> None:
    """Only the value tells which it is."""
    _, _ = await new_struct(peer.server, peer.index, "Point", [new_struct_field("X", ua.VariantType.Float)])
    await peer.server.load_data_type_definitions()
    points = ua.Variant([ua.Point(X=1.0), ua.Point(X=2.5)], ua.VariantType.ExtensionObject)
    node = await peer.server.nodes.objects.add_variable(
        ua.NodeId("points", peer.index), "points", points, datatype=ua.NodeId(ua.ObjectIds.BaseDataType)
    )
    peer._added.append(node)
    async with open_at(peer, ["points"]) as driver:
        assert (await values(driver))[0] == {"points": [{"X": 1.0}, {"X": 2.5}]}


async def test_a_node_that_was_not_there_is_asked_about_before_its_first_value_goes_out(peer: Peer) -> None:
    """P5: no value under a meta that does not know what it is."""
    kind = await new_enum(peer.server, peer.index, "Gear", ["Neutral", "First"])
    tags = ["pressure", {"name": "level", "node": f"nsu={NAMESPACE};s=pressure", "deadband": "2%"}, "gear"]
    async with open_at(peer, tags) as driver:
        before = driver.section
        assert set((await values(driver))[1].values()) == {"bad:BadNodeIdUnknown"}
        assert driver.section is before
        await analog(peer, "pressure")
        node = await peer.server.nodes.objects.add_variable(
            ua.NodeId("gear", peer.index), "gear", 1, ua.VariantType.Int32, datatype=kind.nodeid
        )
        peer._added.append(node)
        raw = await driver.read((0, 1, 2))
        assert (told(driver)["pressure"].unit, told(driver)["gear"].shown_type) == ("bar", "Gear")
        assert str(told(driver)["level"].deadband) == "2%"
        assert [Shaper(driver.section).shape(each, 0.0).values[-1] for each in raw][-1] == "First"  # type: ignore[union-attr]


async def test_what_two_tasks_are_told_at_once_is_known_of_both_nodes(peer: Peer) -> None:
    async with open_at(peer, ["pressure", "level"]) as driver:
        await analog(peer, "pressure", unit="bar")
        await analog(peer, "level", unit="mm")
        await asyncio.gather(driver.read((0,)), driver.read((1,)))
        assert (told(driver)["pressure"].unit, told(driver)["level"].unit) == ("bar", "mm")


async def test_an_enumeration_is_one_though_the_server_does_not_tell_its_supertype(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told_nothing(_session: Any, _limits: Any, nodes: Sequence[Any], wanted: Any) -> list[list[Any]]:
        return [[] for _ in nodes] if wanted.inverse else await references(_session, _limits, nodes, wanted)

    monkeypatch.setattr("gateway.drivers.opcua.definitions.references", told_nothing)
    kind = await new_enum(peer.server, peer.index, "Pace", ["Slow", "Fast"])
    node = await peer.server.nodes.objects.add_variable(
        ua.NodeId("pace", peer.index), "pace", 1, ua.VariantType.Int32, datatype=kind.nodeid
    )
    peer._added.append(node)
    async with open_at(peer, ["pace"]) as driver:
        assert await values(driver) == ({"pace": "Fast"}, {})


async def test_nothing_is_remembered_of_a_node_that_was_not_there(peer: Peer) -> None:
    shared = Shared("hall-3")
    async with open_at(peer, ["pressure"], shared) as driver:
        assert told(driver)["pressure"].shown_type is None
    await analog(peer, "pressure")
    async with open_at(peer, ["pressure"], shared) as driver:
        assert told(driver)["pressure"].unit == "bar"


async def test_a_node_that_vanishes_and_returns_keeps_its_meaning(peer: Peer) -> None:
    await analog(peer, "pressure")
    async with open_at(peer, ["pressure"]) as driver:
        await peer.server.delete_nodes(peer._added)
        peer._added.clear()
        assert (await values(driver))[1] == {"pressure": "bad:BadNodeIdUnknown"}
        await analog(peer, "pressure")
        assert (await values(driver))[0] == {"pressure": 5.0}
        assert told(driver)["pressure"].unit == "bar"


async def test_a_node_that_tells_nothing_though_it_has_a_value_is_asked_once_more_and_no_more(peer: Peer) -> None:
    async with open_at(peer, ["pressure"]) as driver:
        await peer.add(pressure=5.0)
        await driver.read((0,))
        before = len(peer.wire.requests)
        await driver.read((0,))
        assert len(peer.wire.requests) == before + 1


async def test_a_huge_value_costs_only_itself_and_is_bad_too_large_once_stored(peer: Peer) -> None:
    """The connection, and the other tags of the same answer, are none the worse for it."""
    await peer.add(photo=ua.Variant(b"\xff" * 2_000_000, ua.VariantType.ByteString), speed=1.5)
    async with open_at(peer, ["photo", "speed"]) as driver:
        for _ in range(2):
            pieces = cut(META, await driver.read((0, 1)))
            assert {
                column: value for piece in pieces for column, value in zip(piece.columns, piece.values, strict=True)
            } == {1: 1.5}
            assert {name: text for piece in pieces for name, text in piece.quality.items()} == {
                "photo": "bad:too-large"
            }
