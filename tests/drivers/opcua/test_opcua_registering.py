"""RegisterNodes: in `mode: poll`, nodes that are read again and again are read by shorter ids, never a wrong one."""

import asyncio
from typing import Any

import asyncua
import pytest
from asyncua.common.utils import Buffer, ServiceError
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary
from opcua_peer import BOUND_S, NAMESPACE, Peer, failure, section

from gateway.drivers.base import Shared
from gateway.model import Sample

ua: Any = asyncua.ua
NAMES = ["Axis1.Speed", "Axis1.Load", "Axis1.Heat"]
ALIASES = [70_001, 70_002, 70_003]


class Registry:
    """What the server answers to RegisterNodes: an alias for each node it knows, or a refusal."""

    def __init__(self, peer: Peer) -> None:
        self.aliases = {name: ua.NodeId(alias, peer.index) for name, alias in zip(NAMES, ALIASES, strict=True)}
        self.asked: list[list[str]] = []
        self.refusal = 0

    async def register(self, processor: Any, header: Any, sequence: Any, body: Any) -> bool:
        wanted = struct_from_binary(ua.RegisterNodesParameters, body).NodesToRegister
        self.asked.append([node.Identifier for node in wanted])
        if self.refusal:
            raise ServiceError(self.refusal)
        response = ua.RegisterNodesResponse()
        response.Parameters.RegisteredNodeIds = [self.aliases.get(node.Identifier, node) for node in wanted]
        processor.send_response(header.RequestHandle, sequence, response)
        return True


@pytest.fixture
def registry(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry(peer)
    process = UaProcessor._process_message

    async def registering(processor: Any, kind: Any, header: Any, sequence: Any, body: Any) -> Any:
        if kind.Identifier == ua.ObjectIds.RegisterNodesRequest_Encoding_DefaultBinary:
            return await registry.register(processor, header, sequence, body)
        return await process(processor, kind, header, sequence, body)

    monkeypatch.setattr(UaProcessor, "_process_message", registering)
    return registry


async def alike(peer: Peer) -> None:
    """Make the nodes, and for each one that its alias stands for, with the same value."""
    await peer.add(**{name: float(number) for number, name in enumerate(NAMES)})
    for number, alias in enumerate(ALIASES):
        node = ua.NodeId(alias, peer.index)
        peer._added.append(await peer.server.nodes.objects.add_variable(node, f"alias{number}", float(number)))


def values(samples: tuple[Sample, ...]) -> dict[int, Any]:
    return {column: value for sample in samples for column, value in zip(sample.columns, sample.values, strict=True)}


def last_read(peer: Peer) -> list[Any]:
    """The identifiers that the last ReadRequest asks for."""
    number = ua.ObjectIds.ReadRequest_Encoding_DefaultBinary
    body = [body for kind, body in peer.wire.requests if kind == number][-1]
    return [each.NodeId.Identifier for each in struct_from_binary(ua.ReadRequest, Buffer(body)).Parameters.NodesToRead]


async def poll(driver: Any, *columns: int) -> dict[int, Any]:
    return values((await driver.poll(columns or (0, 1, 2))).samples)


RIGHT = {0: 0.0, 1: 1.0, 2: 2.0}


async def test_what_is_polled_again_is_read_by_the_ids_that_the_server_gave_for_it(
    peer: Peer, registry: Registry
) -> None:
    await alike(peer)
    async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(Shared("hall-3")) as driver:
        assert await poll(driver) == RIGHT
        assert (registry.asked, last_read(peer)) == ([], NAMES)
        for _ in range(2):
            assert await poll(driver) == RIGHT
            assert (registry.asked, last_read(peer)) == ([NAMES], ALIASES)


async def test_a_tag_that_is_due_again_later_is_registered_then(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(Shared("hall-3")) as driver:
        await poll(driver)
        await poll(driver, 0, 1)
        assert await poll(driver) == RIGHT
        assert registry.asked == [NAMES[:2], NAMES[2:]]
        assert last_read(peer) == ALIASES


async def test_what_is_read_once_for_a_person_is_not_registered(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(Shared("hall-3")) as driver:
        await driver.read((0, 1, 2))
        await driver.read((0, 1, 2))
    assert registry.asked == []


async def test_numeric_ids_are_short_enough(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    tags = [{"name": name, "node": f"nsu={NAMESPACE};i={alias}"} for name, alias in zip(NAMES, ALIASES, strict=True)]
    async with asyncio.timeout(BOUND_S), section(peer, tags).open(Shared("hall-3")) as driver:
        for _ in range(3):
            assert await poll(driver) == RIGHT
    assert registry.asked == []


async def test_nothing_is_registered_beside_a_subscription(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    async with asyncio.timeout(BOUND_S), section(peer, NAMES, mode="subscribe").open(Shared("hall-3")) as driver:
        for _ in range(3):
            assert await poll(driver) == RIGHT
    assert registry.asked == []


async def test_registering_keeps_within_the_limit(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    limits = {"max_nodes_per_register_nodes": 2}
    async with asyncio.timeout(BOUND_S), section(peer, NAMES, limits=limits).open(Shared("hall-3")) as driver:
        await poll(driver)
        assert await poll(driver) == RIGHT
    assert registry.asked == [NAMES[:2], NAMES[2:]]


async def read_by_plain_ids(peer: Peer, registry: Registry) -> None:
    """Poll in two sessions: all is read by the config's ids, and the server was asked for others once."""
    shared = Shared("hall-3")
    for _ in range(2):
        async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(shared) as driver:
            for _ in range(3):
                assert await poll(driver) == RIGHT
                assert last_read(peer) == NAMES
    assert registry.asked == [NAMES]


@pytest.mark.parametrize(
    "refusal", ["BadServiceUnsupported", "BadNotImplemented", "BadNodeIdInvalid", "BadOutOfMemory"]
)
async def test_where_the_server_refuses_the_plain_ids_are_read_and_it_is_not_asked_again(
    peer: Peer, registry: Registry, refusal: str
) -> None:
    await alike(peer)
    registry.refusal = getattr(ua.StatusCodes, refusal)
    await read_by_plain_ids(peer, registry)


async def test_where_the_server_gives_the_same_ids_it_is_not_asked_again(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    registry.aliases.clear()
    await read_by_plain_ids(peer, registry)


async def test_a_node_without_an_id_of_its_own_costs_the_others_none(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    del registry.aliases[NAMES[2]]  # such as one that is not there just now
    shared = Shared("hall-3")
    for _ in range(2):
        async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(shared) as driver:
            await poll(driver)
            await poll(driver, 0, 1)
            assert await poll(driver) == RIGHT
            assert last_read(peer) == [*ALIASES[:2], NAMES[2]]
    assert registry.asked == [NAMES[:2], NAMES[2:]] * 2


async def test_one_id_for_two_nodes_is_not_believed(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    registry.aliases[NAMES[1]] = registry.aliases[NAMES[0]]
    async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(Shared("hall-3")) as driver:
        for _ in range(3):
            assert await poll(driver) == RIGHT
            assert last_read(peer) == NAMES


async def test_the_id_of_another_tag_is_not_believed(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    registry.aliases = {NAMES[1]: ua.NodeId(NAMES[0], peer.index)}
    async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(Shared("hall-3")) as driver:
        for _ in range(3):
            assert await poll(driver) == RIGHT


async def test_an_id_that_the_server_has_forgotten_gives_way_to_the_plain_one_within_the_same_poll(
    peer: Peer, registry: Registry
) -> None:
    await alike(peer)
    async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(Shared("hall-3")) as driver:
        await poll(driver)
        await poll(driver)
        await peer.server.delete_nodes([peer.server.get_node(registry.aliases[NAMES[1]])])
        notification = await driver.poll((0, 1, 2))
        assert values(notification.samples) == RIGHT
        assert not any(sample.quality for sample in notification.samples)
        assert sum(sample.readings for sample in notification.samples) == 3
        assert await poll(driver) == RIGHT
        assert last_read(peer) == [ALIASES[0], NAMES[1], ALIASES[2]]
    assert registry.asked == [NAMES]


async def test_a_node_that_vanishes_is_unknown_and_comes_back(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(Shared("hall-3")) as driver:
        await poll(driver)
        await poll(driver)
        node = ua.NodeId(NAMES[1], peer.index)
        await peer.server.delete_nodes([peer.server.get_node(registry.aliases[NAMES[1]]), peer.server.get_node(node)])
        notification = await driver.poll((0, 1, 2))
        assert {name for sample in notification.samples for name in sample.quality} == {NAMES[1]}
        await peer.add(**{NAMES[1]: 5.0})
        assert await poll(driver) == {**RIGHT, 1: 5.0}


async def test_a_new_session_registers_anew(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    shared = Shared("hall-3")
    for _ in range(2):
        async with asyncio.timeout(BOUND_S), section(peer, NAMES).open(shared) as driver:
            await poll(driver)
            assert last_read(peer) == NAMES
            await poll(driver)
    assert registry.asked == [NAMES, NAMES]


async def test_a_server_that_hangs_up_on_it_is_not_asked_again(peer: Peer, registry: Registry) -> None:
    await alike(peer)
    shared = Shared("hall-3")
    device = section(peer, NAMES)

    async def hang_up(*_: Any) -> bool:
        registry.asked.append([])
        await peer.wire.cut()
        return True

    registry.register = hang_up  # type: ignore[method-assign]
    error = await failure(device, poll_twice, shared)
    assert "closed the connection" in str(error)
    async with asyncio.timeout(BOUND_S), device.open(shared) as driver:
        for _ in range(3):
            assert await poll(driver) == RIGHT
    assert registry.asked == [[]]


async def poll_twice(driver: Any) -> None:
    await poll(driver)
    await poll(driver)
