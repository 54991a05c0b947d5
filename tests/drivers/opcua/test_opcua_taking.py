"""`browse` in the config: a subtree of a server as tags."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncua
import pytest
import pytest_asyncio
from opcua_peer import BOUND_S, NAMESPACE, Peer, failure, section

from gateway.drivers.base import Shared
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.subtree import named
from gateway.errors import DeviceError
from gateway.model import DeviceState

ua: Any = asyncua.ua
LINE = f"nsu={NAMESPACE};s=line"


@pytest_asyncio.fixture(loop_scope="session")
async def plant(peer: Peer) -> AsyncIterator[Peer]:
    """A PLC with a line of two axes that refer to each other."""
    line = await peer.server.nodes.objects.add_object(ua.NodeId("line", peer.index), "line")
    made, axes = [line], []
    for name in ("B", "A"):
        axis = await line.add_object(ua.NodeId(name, peer.index), name)
        for what, value in (("Speed", 1.5), ("Load", 2)):
            variable = await axis.add_variable(ua.NodeId(f"{name}.{what}", peer.index), what, value)
            made += [variable, await variable.add_property(peer.index, "Note", "a property is no tag")]
        axes.append(axis)
    await axes[0].add_reference(axes[1], ua.ObjectIds.Organizes, bidirectional=False)
    await axes[1].add_reference(line, ua.ObjectIds.Organizes, bidirectional=False)
    yield peer
    await peer.server.delete_nodes([*made, *axes])


async def completed(peer: Peer, tags: list[Any], **keys: Any) -> OpcuaDevice:
    async with asyncio.timeout(BOUND_S), section(peer, tags, **keys).open(Shared("hall-3")) as driver:
        found = driver.section
        assert isinstance(found, OpcuaDevice)
        samples = await driver.read(tuple(range(len(found.tags))))
        assert sum(sample.readings for sample in samples) == len(found.tags)
        assert not any(sample.quality for sample in samples)
        return found


async def refused(peer: Peer, browse: Any) -> DeviceError:
    """Give the error of a first connect."""
    return await failure(section(peer, [], browse=browse), shared=Shared("hall-3"))


def names(section: OpcuaDevice) -> list[str]:
    return [tag.name for tag in section.tags]


async def test_each_variable_below_the_node_is_a_tag_in_the_order_of_paths(plant: Peer) -> None:
    found = await completed(plant, [], browse={"from": LINE})
    assert names(found) == ["A.Load", "A.Speed", "B.Load", "B.Speed"]
    assert found.tags[1].node == f"nsu={NAMESPACE};s=A.Speed"


async def test_globs_say_what_is_taken_and_left_out(plant: Peer) -> None:
    keys = {"from": LINE, "include": ["*.Speed"], "exclude": ["B"], "tag": {"interval": "5s", "deadband": 0.5}}
    found = await completed(plant, [], browse=[keys])
    assert [(tag.name, tag.interval, float(str(tag.deadband))) for tag in found.tags] == [("A.Speed", 5.0, 0.5)]


async def test_configured_tags_win_over_found_ones_of_the_same_node_or_name(plant: Peer) -> None:
    tags = [
        {"name": "mine", "node": f"nsu={NAMESPACE};s=A.Speed"},
        {"name": "B.Load", "node": f"nsu={NAMESPACE};s=B.Speed"},
    ]
    found = await completed(plant, tags, browse={"from": LINE})
    assert names(found) == ["mine", "B.Load", "A.Load"]


async def test_finding_nothing_is_a_config_error_that_says_so(plant: Peer) -> None:
    error = await refused(plant, {"from": LINE, "include": ["*.Pressure"]})
    assert (error.state, error.reason) == (DeviceState.CONFIG_ERROR, "nothing-found")
    assert "found no variable" in str(error)


async def test_a_start_that_is_not_there_is_a_config_error_that_names_it(plant: Peer) -> None:
    error = await refused(plant, {"from": f"nsu={NAMESPACE};s=elsewhere"})
    assert error.state == DeviceState.CONFIG_ERROR
    assert "s=elsewhere" in str(error)


async def test_too_many_tags_are_refused_in_a_sentence(plant: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.drivers.opcua.taking.MOST_TAGS", 3)
    said = "`browse` takes more than 3 variables, and a device has room for so many found tags"
    error = await refused(plant, {"from": LINE})
    assert (error.state, str(error)) == (DeviceState.CONFIG_ERROR, said)
    halves = [{"from": f"nsu={NAMESPACE};s={axis}"} for axis in "AB"]
    assert str(await refused(plant, halves)) == said


async def test_nodes_that_appear_are_tags_from_the_next_connect_on(plant: Peer) -> None:
    shared = Shared("hall-3")
    async with asyncio.timeout(BOUND_S):
        assert await followed(plant, shared) == ({"A.Load": "", "A.Speed": "", "B.Load": "", "B.Speed": ""}, ())
        axis = plant.server.get_node(ua.NodeId("A", plant.index))
        plant._added.append(await axis.add_variable(ua.NodeId("A.Torque", plant.index), "Torque", 3.0))
        found, missing = await followed(plant, shared)
    assert (found["A.Torque"], len(found), missing) == ("", 5, ())


async def test_a_node_that_vanished_stays_a_bad_tag_that_health_names_until_it_returns(plant: Peer) -> None:
    shared = Shared("hall-3")
    axis, identifier = plant.server.get_node(ua.NodeId("A", plant.index)), ua.NodeId("A.Load", plant.index)
    async with asyncio.timeout(BOUND_S):
        await followed(plant, shared)
        await plant.server.delete_nodes([plant.server.get_node(identifier)])
        for _ in range(2):
            found, missing = await followed(plant, shared)
            assert found == {"A.Load": "bad:BadNodeIdUnknown", "A.Speed": "", "B.Load": "", "B.Speed": ""}
            assert missing == ("A.Load",)
        plant._added.append(await axis.add_variable(identifier, "Load", 5))
        assert await followed(plant, shared) == ({"A.Load": "", "A.Speed": "", "B.Load": "", "B.Speed": ""}, ())


async def test_a_node_made_anew_under_the_same_path_takes_its_tag(plant: Peer) -> None:
    shared = Shared("hall-3")
    axis = plant.server.get_node(ua.NodeId("A", plant.index))
    async with asyncio.timeout(BOUND_S):
        await followed(plant, shared)
        await plant.server.delete_nodes([plant.server.get_node(ua.NodeId("A.Load", plant.index))])
        plant._added.append(await axis.add_variable(ua.NodeId("another id", plant.index), "Load", 5))
        assert await followed(plant, shared) == ({"A.Load": "", "A.Speed": "", "B.Load": "", "B.Speed": ""}, ())


async def test_a_restarted_server_without_any_of_its_nodes_keeps_the_tags(plant: Peer) -> None:
    shared = Shared("hall-3")
    keys = {"from": LINE, "include": ["A.Load"]}
    async with asyncio.timeout(BOUND_S):
        assert await followed(plant, shared, keys) == ({"A.Load": ""}, ())
        await plant.server.delete_nodes([plant.server.get_node(ua.NodeId("A.Load", plant.index))])
        assert await followed(plant, shared, keys) == ({"A.Load": "bad:BadNodeIdUnknown"}, ("A.Load",))


async def test_two_devices_at_one_server_find_their_own(plant: Peer) -> None:
    shared = Shared("hall-3")
    one = section(plant, [], browse={"from": LINE, "include": ["A.*"]})
    other = section(plant, [], browse={"from": LINE, "include": ["B.*"]}).model_copy(update={"name": "other"})
    async with asyncio.timeout(BOUND_S), one.open(shared) as first, other.open(shared) as second:
        assert [names(driver.section) for driver in (first, second)] == [  # type: ignore[arg-type]
            ["A.Load", "A.Speed"],
            ["B.Load", "B.Speed"],
        ]


async def test_doubled_long_and_odd_names_are_tags_that_are_read(plant: Peer) -> None:
    axis = plant.server.get_node(ua.NodeId("A", plant.index))
    odd = ["twin", "twin", "*", "tab\there", "y" * 300, "a.b", "°C / %"]
    for number, name in enumerate(odd):
        qualified = ua.QualifiedName(name, plant.index)
        plant._added.append(await axis.add_variable(ua.NodeId(f"odd{number}", plant.index), qualified, number))
    found = await completed(plant, [], browse={"from": LINE, "exclude": ["B"]})
    assert len(found.tags) == len({tag.name for tag in found.tags}) == len(odd) + 2
    again = await completed(plant, [], browse={"from": LINE, "exclude": ["B"]})
    assert names(again) == names(found)


async def followed(
    peer: Peer, shared: Shared, keys: dict[str, Any] | None = None
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Connect once, read all; give each tag's quality, empty if good, and what health says is missing."""
    async with section(peer, [], mode="poll", browse=keys or {"from": LINE}).open(shared) as driver:
        found = names(driver.section)  # type: ignore[arg-type]
        qualities: dict[str, str] = {}
        for sample in await driver.read(tuple(range(len(found)))):
            qualities |= sample.quality
        return {name: qualities.get(name, "") for name in found}, driver.details.get("missing", ())


def test_names_are_valid_and_unique_and_the_same_in_any_order() -> None:
    found = [("a.b", "i=1"), ("a.b", "i=2"), ("*", "i=3"), ("x" * 300, "i=4"), ("tab\there", "i=5"), ("plain", "i=6")]
    forward, backward = named(found), named(reversed(found))
    assert forward == backward
    assert len({name for name, _ in forward}) == 6
    assert all(len(name) <= 256 and name.isprintable() and name != "*" for name, _ in forward)
    assert ("plain", "i=6") in forward


@pytest.mark.parametrize(
    ("browse", "said"),
    [
        ({"from": "b=A"}, "not whole base64"),
        ({"tag": {"node": "i=1"}}, "comes from the server"),
        ({"tag": {"speed": 1}}, "not a key of a tag"),
        ({"tag": {"interval": "fast"}}, "tag.interval"),
        ({"include": [""]}, "at least 1 character"),
        ({"form": "i=85"}, "Extra inputs"),
    ],
)
def test_a_wrong_subtree_is_refused_in_a_sentence(browse: dict[str, Any], said: str) -> None:
    device = {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://127.0.0.1:4840", "browse": browse}
    with pytest.raises(ValueError, match=said):
        OpcuaDevice.model_validate(device)
