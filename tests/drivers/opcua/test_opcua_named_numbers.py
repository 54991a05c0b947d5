"""Numbers that mean something: enumerations and option sets, defined or only named by properties of their types."""

from collections.abc import Sequence
from typing import Any

import asyncua
import orjson
import pytest
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field
from opcua_peer import NAMESPACE, Peer, section
from test_opcua_facts import open_at, told, values

from gateway.config.schema import Config
from gateway.drivers.base import Shared
from gateway.meta import meta_of

ua: Any = asyncua.ua


async def variable(peer: Peer, name: str, value: Any, kind: Any, data_type: Any) -> Any:
    """Make a variable whose DataType is the server's own."""
    node = await peer.server.nodes.objects.add_variable(
        ua.NodeId(name, peer.index), name, ua.Variant(value, kind), datatype=data_type
    )
    peer._added.append(node)
    return node


async def new_type(peer: Peer, base: int, name: str, **properties: Any) -> Any:
    """Make a DataType without a definition, that names numbers by properties, as older servers do."""
    made = await peer.server.get_node(ua.NodeId(base)).add_data_type(ua.NodeId(name, peer.index), name)
    peer._added.append(made)
    for key, value in properties.items():
        peer._added.append(await made.add_property(ua.NodeId(f"{name}.{key}", peer.index), f"0:{key}", value))
    return made.nodeid


def texts(*names: str) -> list[Any]:
    return [ua.LocalizedText(name) for name in names]


def named(**numbers: int) -> Any:
    kinds = [ua.EnumValueType(Value=number, DisplayName=ua.LocalizedText(name)) for name, number in numbers.items()]
    return ua.Variant(kinds, ua.VariantType.ExtensionObject)


def bits_definition(names: Sequence[str]) -> Any:
    """Define bits: it looks like the definition of an enumeration (OPC 10000-3 section 8.51)."""
    return ua.EnumDefinition(Fields=[ua.EnumField(Value=at, Name=name) for at, name in enumerate(names) if name])


@pytest.mark.parametrize(
    ("base", "kind"),
    [(3, ua.VariantType.Byte), (5, ua.VariantType.UInt16), (7, ua.VariantType.UInt32), (9, ua.VariantType.UInt64)],
)
async def test_an_option_set_stays_a_number_and_its_bits_have_names(peer: Peer, base: int, kind: Any) -> None:
    """P5: 1 is bit 0, and not the name that has the number 1."""
    data_type = await new_type(peer, base, "Flags")
    await peer.server.get_node(data_type).write_data_type_definition(bits_definition(["Running", "", "Fault"]))
    await variable(peer, "flags", 1, kind, data_type)
    async with open_at(peer, ["flags"]) as driver:
        assert await values(driver) == ({"flags": 1}, {})
        assert (told(driver)["flags"].bits, told(driver)["flags"].shown_type) == ({0: "Running", 2: "Fault"}, "Flags")


async def test_bits_are_named_by_a_property_of_the_type_or_of_the_variable(peer: Peer) -> None:
    data_type = await new_type(peer, 7, "Old", OptionSetValues=texts("Running", "", "Fault"))
    await variable(peer, "typed", 4, ua.VariantType.UInt32, data_type)
    own = await variable(peer, "own", 4, ua.VariantType.UInt32, ua.NodeId(7))
    peer._added.append(
        await own.add_property(
            ua.NodeId("own.bits", peer.index), "0:OptionSetValues", [*texts("A"), ua.LocalizedText(), *texts("B")]
        )
    )
    async with open_at(peer, ["typed", "own"]) as driver:
        assert await values(driver) == ({"typed": 4, "own": 4}, {})
        assert told(driver)["typed"].bits == {0: "Running", 2: "Fault"}
        assert told(driver)["own"].bits == {0: "A", 2: "B"}


async def test_the_meta_tells_the_names_of_bits(peer: Peer) -> None:
    data_type = await new_type(peer, 5, "Word", OptionSetValues=texts("Running", "Fault"))
    await variable(peer, "word", 3, ua.VariantType.UInt16, data_type)
    async with open_at(peer, ["word"]) as driver:
        config = Config.model_validate(
            {"gateway": {"id": "hall-3"}, "mqtt": {"host": "h"}, "buffer": {"path": "b.db"}, "devices": []}
        )
        tag = orjson.loads(meta_of(config, driver.section).document)["tags"]["word"]
        assert tag["bits"] == {"0": "Running", "1": "Fault"}


@pytest.mark.parametrize(
    ("properties", "number", "shown"),
    [
        ({"EnumStrings": texts("Off", "Manual", "Auto")}, 2, "Auto"),
        ({"EnumValues": named(Off=0, Auto=100, Lost=-1)}, 100, "Auto"),
        ({"EnumValues": named(Off=0, Auto=100, Lost=-1)}, -1, "Lost"),
    ],
)
async def test_an_enumeration_without_a_definition_is_named_by_its_properties(
    peer: Peer, properties: dict[str, Any], number: int, shown: str
) -> None:
    data_type = await new_type(peer, 29, "Mode", **properties)
    await variable(peer, "mode", number, ua.VariantType.Int32, data_type)
    async with open_at(peer, ["mode"]) as driver:
        assert await values(driver) == ({"mode": shown}, {})


@pytest.mark.parametrize(
    ("properties", "number", "shown"),
    [
        ({"EnumStrings": texts("Off", "Auto")}, 1, "Auto"),
        ({"EnumValues": named(Off=0, Auto=100, Lost=-1)}, -1, "Lost"),
    ],
)
async def test_a_variable_names_its_own_numbers(
    peer: Peer, properties: dict[str, Any], number: int, shown: str
) -> None:
    node = await variable(peer, "mode", number, ua.VariantType.Int32, ua.NodeId(6))
    for key, value in properties.items():
        peer._added.append(await node.add_property(ua.NodeId(f"mode.{key}", peer.index), f"0:{key}", value))
    async with open_at(peer, ["mode"]) as driver:
        assert await values(driver) == ({"mode": shown}, {})


async def test_a_number_that_an_enumeration_gives_no_name_stays_one(peer: Peer) -> None:
    kind = await new_enum(peer.server, peer.index, "Gaps", [ua.EnumField(Name="Off"), ua.EnumField(Name=None)])
    await variable(peer, "gaps", 1, ua.VariantType.Int32, kind.nodeid)
    async with open_at(peer, ["gaps"]) as driver:
        assert await values(driver) == ({"gaps": 1}, {"gaps": "uncertain:unmapped"})


async def test_in_a_structure_an_unnamed_number_and_an_option_set_stay_numbers(peer: Peer) -> None:
    """A set of bits is as wide as its type: read as an Int32, it would shift all that follows."""
    mode = await new_enum(peer.server, peer.index, "JobMode", ["Off", "On"])
    flags = await new_type(peer, 3, "JobFlags")
    await peer.server.get_node(flags).write_data_type_definition(bits_definition(["Running", "Fault"]))
    bare = await new_type(peer, 29, "Bare")
    fields = [
        new_struct_field("Mode", mode),
        new_struct_field("Other", mode),
        new_struct_field("Flags", ua.VariantType.Byte),
        new_struct_field("Bare", ua.VariantType.Int32),
        new_struct_field("Speed", ua.VariantType.Int16),
    ]
    kind, _ = await new_struct(peer.server, peer.index, "Cutting", fields)
    await peer.server.load_data_type_definitions()
    job = ua.Cutting(Mode=ua.JobMode.On, Other=7, Flags=3, Bare=5, Speed=-2)
    definition = await kind.read_data_type_definition()
    definition.Fields[2].DataType, definition.Fields[3].DataType = flags, bare
    await kind.write_data_type_definition(definition)
    await variable(peer, "job", job, ua.VariantType.ExtensionObject, kind.nodeid)
    async with open_at(peer, ["job"]) as driver:
        expected = {"Mode": "On", "Other": 7, "Flags": 3, "Bare": 5, "Speed": -2}
        assert await values(driver) == ({"job": expected}, {})


async def test_an_option_set_that_is_a_structure_shows_its_value_and_which_bits_are_valid(peer: Peer) -> None:
    await variable(
        peer, "set", ua.OptionSet(Value=b"\x05", ValidBits=b"\xff"), ua.VariantType.ExtensionObject, ua.NodeId(12755)
    )
    async with open_at(peer, ["set"]) as driver:
        assert await values(driver) == ({"set": {"Value": "BQ==", "ValidBits": "/w=="}}, {})


async def test_a_deadband_on_what_is_no_number_is_left_to_the_gateway(peer: Peer) -> None:
    kind = await new_enum(peer.server, peer.index, "Pace", ["Slow", "Fast"])
    await variable(peer, "pace", 1, ua.VariantType.Int32, kind.nodeid)
    tag = {"name": "pace", "node": f"nsu={NAMESPACE};s=pace", "deadband": 10}
    async with section(peer, [tag], mode="subscribe").open(Shared("hall-3")) as driver:
        assert driver.held_back == {}
