"""What the OPC UA simulator does wrong on demand beside its subscriptions, seen by a client that asks one by one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncua
import pytest
import pytest_asyncio

from simulators import OpcuaSimulator
from simulators.opcua_types import SHAPED
from simulators.opcua_volume import volume_path
from simulators.robot import NAMESPACE
from tests.simulators.raw_opcua import RawClient, raw_client, values

ua: Any = asyncua.ua
pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTER = "Robot.Counter"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
VOLUME = 30
SHORT_S = 0.3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator(volume=VOLUME, history=True) as simulator:
        yield simulator


@pytest_asyncio.fixture(loop_scope="module")
async def simulator(shared: OpcuaSimulator) -> AsyncIterator[OpcuaSimulator]:
    yield shared
    await shared.clear()
    await shared.history()
    await shared.restart()


def standard(name: str) -> Any:
    return ua.NodeId(getattr(ua.ObjectIds, name))


async def one(client: RawClient, node: Any) -> Any:
    return (await client.read(node))[0].Value.Value


async def refused(client: RawClient, service: str, **parameters: Any) -> str:
    """The name of the status code that a request is refused with."""
    try:
        await client.ask(service, **parameters)
    except ua.UaStatusCodeError as error:
        return str(ua.StatusCode(error.code).name)
    raise AssertionError("it was answered")


async def test_a_killed_server_resets_connections_and_says_nothing(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator):
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        writer.write(b"HELF")
        await writer.drain()
        await simulator.stop()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_graceful_restart_is_told_by_the_server_state_before_sessions_end(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client, asyncio.TaskGroup() as tasks:
        started = await one(client, standard("Server_ServerStatus_StartTime"))
        subscription = (await client.subscribe()).SubscriptionId
        await client.monitor(subscription, COUNTER)
        await client.publish()
        waiting = tasks.create_task(refused(client, "Publish"), name="publish")
        restart = tasks.create_task(simulator.restart(graceful=True, announced_s=1), name="restart")
        while await one(client, standard("Server_ServerStatus_State")) != ua.ServerState.Shutdown:
            await asyncio.sleep(0.01)
        assert await one(client, standard("Server_ServerStatus_SecondsTillShutdown")) == 1
        assert (await one(client, standard("Server_ServerStatus"))).State is ua.ServerState.Shutdown
        assert await waiting == "BadShutdown"
        await restart
    async with raw_client(simulator) as client:
        assert await one(client, standard("Server_ServerStatus_State")) == ua.ServerState.Running
        assert await one(client, standard("Server_ServerStatus_StartTime")) > started


async def test_a_restart_can_bring_another_certificate(simulator: OpcuaSimulator) -> None:
    before = simulator.certificate_path.read_bytes()
    await simulator.renew_certificate()
    after = simulator.certificate_path.read_bytes()
    assert after != before
    async with raw_client(simulator) as client:
        endpoints = await client.client.get_endpoints()
    assert {e.ServerCertificate for e in endpoints if e.SecurityMode.name == "SignAndEncrypt"} == {after}
    assert len(endpoints) == 2


async def test_a_dropped_session_leaves_the_link_and_publish_requests_learn_of_it(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client, asyncio.TaskGroup() as tasks:
        await client.subscribe()
        waiting = tasks.create_task(refused(client, "Publish"), name="publish")
        await client.publish()  # the first keep-alive; the other request waits
        connections = simulator.connections
        await simulator.drop_sessions()
        assert await waiting == "BadSessionClosed"
        assert await refused(client, "Read") == "BadSessionIdInvalid"
        assert (simulator.connections, simulator.sessions) == (connections, 0)


async def test_chosen_services_are_refused_late_or_mute_and_the_others_are_served(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        simulator.faults.refuse_services(["CreateSubscription"])
        assert await refused(client, "CreateSubscription") == "BadServiceUnsupported"
        simulator.faults.slow_services(["Read"], SHORT_S)
        began = asyncio.get_running_loop().time()
        await one(client, client.node(COUNTER))
        assert asyncio.get_running_loop().time() - began >= SHORT_S
        simulator.faults.accept_services(["Read", "CreateSubscription"])
        simulator.faults.mute_services(["Read"])
        with pytest.raises(TimeoutError):
            await client.ask("Read", timeout=SHORT_S)
        await client.subscribe()
        with pytest.raises(ValueError, match="'Reed' is not an OPC UA service"):
            simulator.faults.mute_services(["Reed"])


@pytest.mark.changes_a_plc
async def test_writes_and_calls_are_refused_and_counted_and_reads_too(simulator: OpcuaSimulator) -> None:
    before = simulator.report()
    async with raw_client(simulator) as client:
        for service in ("Write", "Call"):
            request = getattr(ua, f"{service}Request")()
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await client.client.uaclient._send_request(request, 5.0)
        await client.read(client.node(COUNTER))
        after = simulator.report()
    assert (after["writes"], after["calls"]) == (before["writes"] + 1, before["calls"] + 1)
    assert after["reads"] > before["reads"]
    assert after["sessions"] == 1


@pytest.mark.parametrize("announced", [True, False])
async def test_limits_are_enforced_whether_they_are_told_or_not(simulator: OpcuaSimulator, announced: bool) -> None:
    await simulator.limit(nodes_per_read=3, items_per_call=2, nodes_per_browse=1, announced=announced)
    async with raw_client(simulator) as client:
        operations = "Server_ServerCapabilities_OperationLimits_"
        names = ("MaxNodesPerRead", "MaxMonitoredItemsPerCall", "MaxNodesPerBrowse")
        told = [await one(client, standard(operations + name)) for name in names]
        assert told == ([3, 2, 1] if announced else [0, 0, 0])
        with pytest.raises(ua.uaerrors.BadTooManyOperations):
            await client.read(*[client.node(COUNTER)] * 4)
        assert len(await client.read(*[client.node(COUNTER)] * 3)) == 3
        subscription = (await client.subscribe()).SubscriptionId
        with pytest.raises(ua.uaerrors.BadTooManyOperations):
            await client.monitor(subscription, *[COUNTER] * 3)
        browse = [ua.BrowseDescription(), ua.BrowseDescription()]
        assert await refused(client, "Browse", NodesToBrowse=browse) == "BadTooManyOperations"


async def test_a_browse_comes_in_pages_where_there_are_too_many_references(simulator: OpcuaSimulator) -> None:
    await simulator.limit(references_per_node=4)
    async with raw_client(simulator) as client:
        folder = ua.BrowseDescription(NodeId=client.node("Volume.F000"), ResultMask=63)
        page = (await client.ask("Browse", NodesToBrowse=[folder])).Results[0]
        names = [reference.BrowseName.Name for reference in page.References]
        while page.ContinuationPoint:
            point, wanted = page.ContinuationPoint, {"ReleaseContinuationPoints": False}
            page = (await client.ask("BrowseNext", ContinuationPoints=[point], **wanted)).Parameters.Results[0]
            assert len(page.References) <= 4
            names += [reference.BrowseName.Name for reference in page.References]
        assert [name for name in names if name.startswith("V")][:3] == ["V00001", "V00002", "V00003"]
        assert len(names) >= VOLUME
        again = (await client.ask("BrowseNext", ContinuationPoints=[point], **wanted)).Parameters.Results[0]
        assert again.StatusCode.name == "BadContinuationPointInvalid"


async def test_items_subscriptions_and_sessions_have_limits(simulator: OpcuaSimulator) -> None:
    await simulator.limit(items_per_subscription=2, subscriptions_per_session=1, sessions=1)
    async with raw_client(simulator) as client:
        subscription = (await client.subscribe()).SubscriptionId
        results = await client.monitor(subscription, *[COUNTER] * 3)
        assert [result.StatusCode.name for result in results] == ["Good", "Good", "BadTooManyMonitoredItems"]
        assert await refused(client, "CreateSubscription") == "BadTooManySubscriptions"
        with pytest.raises(ua.uaerrors.BadTooManySessions):
            async with raw_client(simulator):
                pass
        assert await one(client, standard("Server_ServerCapabilities_MaxSessions")) == 1


async def history(client: RawClient, start: datetime, end: datetime, **wishes: Any) -> Any:
    """Read the counter's raw history."""
    details = ua.ReadRawModifiedDetails(False, start, end, wishes.pop("count", 0), False)
    wanted = ua.HistoryReadValueId(NodeId=client.node(COUNTER), ContinuationPoint=wishes.pop("point", None))
    answer = await client.ask(
        "HistoryRead", HistoryReadDetails=details, NodesToRead=[wanted], ReleaseContinuationPoints=False
    )
    return answer.Results[0]


async def test_history_has_each_value_of_the_time_when_no_client_was_there(simulator: OpcuaSimulator) -> None:
    await simulator.step()
    first, began = simulator.robot.ticks, datetime.now(UTC) - timedelta(milliseconds=1)
    await simulator.burst(10)
    ended = datetime.now(UTC) + timedelta(seconds=1)
    async with raw_client(simulator) as client:
        result = await history(client, began, ended)
        found = [value.Value.Value for value in result.HistoryData.DataValues]
        assert [count for count in found if count > first] == list(range(first + 1, first + 11))
        page = await history(client, began, ended, count=4)
        assert len(page.HistoryData.DataValues) == 4
        rest = await history(client, began, ended, count=100, point=page.ContinuationPoint)
        paged = [value.Value.Value for value in page.HistoryData.DataValues + rest.HistoryData.DataValues]
        assert paged[-10:] == list(range(first + 1, first + 11))
        back = await history(client, ended, began, count=2)
        assert [value.Value.Value for value in back.HistoryData.DataValues] == [first + 10, first + 9]
        assert (await history(client, ended, ended + timedelta(1))).StatusCode.name == "GoodNoData"
        assert (await history(client, began, ended, point=b"?")).StatusCode.name == "BadContinuationPointInvalid"


async def test_history_can_be_off_and_the_node_tells(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        node = client.client.get_node(client.node(COUNTER))
        assert ua.AccessLevel.HistoryRead in await node.get_access_level()
        await simulator.history(on=False)
        result = await history(client, NOON, datetime.now(UTC))
        assert result.StatusCode.name == "BadHistoryOperationUnsupported"
        assert ua.AccessLevel.HistoryRead not in await node.get_access_level()


async def test_service_level_and_state_are_what_the_command_says(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        await simulator.service_level(100)
        await simulator.server_state("NoConfiguration")
        assert await one(client, standard("Server_ServiceLevel")) == 100
        assert await one(client, standard("Server_ServerStatus_State")) == ua.ServerState.NoConfiguration


async def test_a_wrong_clock_moves_all_timestamps_and_local_time_those_of_values(simulator: OpcuaSimulator) -> None:
    simulator._clock, kept = (lambda: NOON), simulator._clock
    try:
        async with raw_client(simulator) as client:
            await simulator.clock_error(offset_s=-90)
            value = (await client.read(client.node(COUNTER)))[0]
            assert (value.SourceTimestamp, value.ServerTimestamp) == (NOON - timedelta(seconds=90),) * 2
            assert await one(client, standard("Server_ServerStatus_CurrentTime")) == NOON - timedelta(seconds=90)
            await simulator.clock_error(zone="Europe/Oslo")
            value = (await client.read(client.node(COUNTER)))[0]
            assert (value.SourceTimestamp, value.ServerTimestamp) == (NOON + timedelta(hours=2), NOON)
            with pytest.raises(ValueError, match="'Oslo' is not a time zone"):
                await simulator.clock_error(zone="Oslo")
    finally:
        simulator._clock = kept


async def test_an_enumeration_a_structure_an_array_and_a_matrix_tell_their_types(simulator: OpcuaSimulator) -> None:
    for _ in range(10):
        await simulator.step()
    async with raw_client(simulator) as client:
        mode, pose, speeds, frame = (client.node(shaped.path) for shaped in SHAPED)
        kind = await client.client.get_node(mode).read_data_type()
        names = (await client.client.get_node(kind).read_data_type_definition()).Fields
        assert names[await one(client, mode)].Name == simulator.robot.state
        kind = await client.client.get_node(pose).read_data_type()
        definition = await client.client.get_node(kind).read_data_type_definition()
        raw = await one(client, pose)
        assert raw.TypeId == definition.DefaultEncodingId
        assert [field.Name for field in definition.Fields] == ["X", "Y", "Closed", "Program"]
        assert raw.Body.endswith(simulator.robot.state.encode())
        assert await one(client, speeds) == [axis.speed for axis in simulator.robot.axes]
        assert (await client.read(frame))[0].Value.Dimensions == [2, 3]
        assert await one(client, frame) == SHAPED[3].read(simulator.robot)


async def test_the_volume_has_as_many_variables_as_asked_for_and_all_change_at_once(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        subscription = (await client.subscribe()).SubscriptionId
        await client.monitor(subscription, *[volume_path(number + 1) for number in range(VOLUME)])
        await client.publish()
        await simulator.step_volume()
        changed = values(await client.publish())
        assert [value.Value.Value for value in changed] == [simulator.volume.value] * VOLUME
        assert (await client.read(client.node(volume_path(VOLUME + 1))))[0].StatusCode.name == "BadNodeIdUnknown"


async def test_namespaces_before_the_robots_move_its_index(simulator: OpcuaSimulator) -> None:
    await simulator.reorder_namespaces(["urn:came:first"])
    async with raw_client(simulator) as client:
        assert await client.client.get_namespace_array() == [
            "http://opcfoundation.org/UA/", "urn:edge-gateway:simulators:robot-1", "urn:came:first", NAMESPACE,
        ]  # fmt: skip
        assert await one(client, client.node(COUNTER)) == simulator.robot.ticks
        assert simulator.report()["sessions"] == 1
