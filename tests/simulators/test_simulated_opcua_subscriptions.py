"""Subscriptions of the OPC UA simulator: as the standard has them, and lost, stopped or refused on demand."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncua
import pytest
import pytest_asyncio

from simulators import OpcuaSimulator
from tests.simulators.raw_opcua import BOUND_S, RawClient, raw_client, values

ua: Any = asyncua.ua
pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTER = "Robot.Counter"
OVERFLOW = 0x480
SHORT_S = 0.3
"""Long enough for an answer that would come."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[OpcuaSimulator]:
    async with OpcuaSimulator() as simulator:
        yield simulator


@pytest_asyncio.fixture(loop_scope="module")
async def simulator(shared: OpcuaSimulator) -> AsyncIterator[OpcuaSimulator]:
    yield shared
    await shared.clear()
    await shared.restart()


async def following(client: RawClient, queue: int = 100, **wishes: Any) -> int:
    """Subscribe to the counter, and take its first value."""
    subscription: int = (await client.subscribe(**wishes)).SubscriptionId
    await client.monitor(subscription, COUNTER, queue=queue)
    seen = await client.publish()
    while not values(seen):
        seen = await client.publish()
    return subscription


async def test_a_queue_that_overflows_says_so_at_the_oldest_value_that_is_left(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        await following(client, queue=5)
        await simulator.burst(20)
        found = values(await client.publish())
        assert [value.Value.Value for value in found] == list(
            range(simulator.robot.ticks - 4, simulator.robot.ticks + 1)
        )
        assert [value.StatusCode.value for value in found] == [OVERFLOW, 0, 0, 0, 0]
        assert (await client.read(client.node(COUNTER)))[0].StatusCode.value == 0


async def test_a_message_holds_no_more_notifications_than_asked_for(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        await following(client, most=8)
        await simulator.burst(20)
        seen = [await client.publish() for _ in range(3)]
        assert [(len(values(one)), one.MoreNotifications) for one in seen] == [(8, True), (8, True), (4, False)]
        assert [one.NotificationMessage.SequenceNumber for one in seen] == [2, 3, 4]


async def test_republish_gives_a_message_until_it_is_acknowledged(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        subscription = await following(client)
        await simulator.step()
        sent = (await client.publish()).NotificationMessage
        for _ in range(2):
            again = await client.ask(
                "Republish", SubscriptionId=subscription, RetransmitSequenceNumber=sent.SequenceNumber
            )
            assert again.NotificationMessage == sent
        await simulator.step()
        answer = await client.publish((subscription, sent.SequenceNumber), (subscription, 99))
        assert [status.name for status in answer.Results] == ["Good", "BadSequenceNumberUnknown"]
        with pytest.raises(ua.uaerrors.BadMessageNotAvailable):
            await client.ask("Republish", SubscriptionId=subscription, RetransmitSequenceNumber=sent.SequenceNumber)
        with pytest.raises(ua.uaerrors.BadSubscriptionIdInvalid):
            await client.ask("Republish", SubscriptionId=1, RetransmitSequenceNumber=1)
    assert simulator.report()["acks"] >= 2
    assert simulator.report()["republishes"] == 4


async def test_a_transferred_subscription_goes_on_at_the_other_session_with_what_was_not_acknowledged(
    simulator: OpcuaSimulator,
) -> None:
    async with raw_client(simulator) as old, raw_client(simulator) as new:
        subscription = await following(old)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(old.publish(), name="publish")
            await asyncio.sleep(0.05)  # until the server has it
            result = (
                await new.ask("TransferSubscriptions", SubscriptionIds=[subscription], SendInitialValues=False)
            ).Parameters.Results[0]
        assert (result.StatusCode.name, result.AvailableSequenceNumbers) == ("Good", [1])
        told = waiting.result().NotificationMessage.NotificationData[0]
        assert told.Status.name == "GoodSubscriptionTransferred"
        await simulator.step()
        assert [value.Value.Value for value in values(await new.publish())] == [simulator.robot.ticks]
        with pytest.raises(ua.uaerrors.BadNoSubscription):
            await old.publish()
        gone = (await new.ask("TransferSubscriptions", SubscriptionIds=[1])).Parameters.Results[0]
        assert gone.StatusCode.name == "BadSubscriptionIdInvalid"


async def test_what_a_lost_connection_had_asked_for_takes_no_notification_with_it(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as old, raw_client(simulator) as new:
        subscription = await following(old)
        waiting = asyncio.ensure_future(old.publish())
        await asyncio.sleep(0.05)  # until the server has it
        old.client.disconnect_socket()
        await asyncio.wait([waiting])
        waiting.exception()
        await simulator.step()
        result = (
            await new.ask("TransferSubscriptions", SubscriptionIds=[subscription], SendInitialValues=False)
        ).Parameters.Results[0]
        assert result.AvailableSequenceNumbers == [1]
        assert [value.Value.Value for value in values(await new.publish())] == [simulator.robot.ticks]


async def test_a_forgotten_subscription_leaves_publish_requests_unanswered_and_reads_work(
    simulator: OpcuaSimulator,
) -> None:
    async with raw_client(simulator) as client:
        await following(client)
        await simulator.forget_subscriptions()
        with pytest.raises(TimeoutError):
            await client.publish(timeout=SHORT_S)
        assert (await client.read(client.node(COUNTER)))[0].Value.Value == simulator.robot.ticks
        assert simulator.report()["subscriptions"] == 0


async def test_a_forgotten_subscription_may_be_told_by_bad_no_subscription(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        await following(client)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(_refusal(client), name="publish")
            await asyncio.sleep(0.05)  # until the server has it
            await simulator.forget_subscriptions(silently=False)
        assert waiting.result() == "BadNoSubscription"
        assert await _refusal(client) == "BadNoSubscription"


async def test_of_two_subscriptions_one_can_be_forgotten(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        await following(client)
        other = await following(client)
        await simulator.forget_subscriptions(count=1)
        await simulator.step()
        assert (await client.publish()).SubscriptionId == other


async def test_stopped_publishing_sends_not_even_keep_alives_and_resumed_the_queue(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        await following(client, keep_alives=1)
        simulator.faults.stop_publishing()
        await simulator.burst(3)
        with pytest.raises(TimeoutError):
            await client.publish(timeout=SHORT_S)
        assert (await client.read(client.node(COUNTER)))[0].Value.Value == simulator.robot.ticks
        simulator.faults.resume_publishing()
        seen = await client.publish()  # the one before was taken for an answer that nobody waits for any more
        assert seen.SubscriptionId


async def test_chosen_items_are_refused_with_a_chosen_status(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        subscription = (await client.subscribe()).SubscriptionId
        simulator.faults.refuse_items(["Robot.Name"], "BadNotReadable")
        simulator.faults.refuse_filters()
        results = await client.monitor(subscription, COUNTER, "Robot.Name")
        assert [result.StatusCode.name for result in results] == ["Good", "BadNotReadable"]
        results = await client.monitor(subscription, COUNTER, deadband=2.0)
        assert [result.StatusCode.name for result in results] == ["BadMonitoredItemFilterUnsupported"]
        simulator.faults.accept_items(["Robot.Name"])
        results = await client.monitor(subscription, "Robot.Name")
        assert results[0].StatusCode.is_good()


@pytest.mark.parametrize(("percent", "reported"), [(False, [3.0, 6.0, 9.0]), (True, [10.0])])
async def test_a_deadband_counts_from_the_value_that_was_reported_last(
    simulator: OpcuaSimulator, percent: bool, reported: list[float]
) -> None:
    """Of the range, -180 to 180, 2.5 % are 9: the first value that is more than that away is 10."""
    async with raw_client(simulator) as client:
        axis = simulator.robot.axes[0]
        axis.position = 0.0
        await simulator.publish()
        subscription = (await client.subscribe()).SubscriptionId
        await client.monitor(subscription, "Robot.Axis1.Position", deadband=2.5, percent=percent)
        await client.publish()
        for position in range(1, 11):  # no step: the robot would move by itself
            axis.position = float(position)
            await simulator.publish()
        found = [value.Value.Value for value in values(await client.publish())]
        assert found == reported


async def test_a_percent_deadband_needs_a_range(simulator: OpcuaSimulator) -> None:
    async with raw_client(simulator) as client:
        subscription = (await client.subscribe()).SubscriptionId
        (result,) = await client.monitor(subscription, COUNTER, deadband=2.0, percent=True)
        assert result.StatusCode.name == "BadFilterNotAllowed"


async def test_intervals_and_queues_are_revised_to_what_the_server_grants(simulator: OpcuaSimulator) -> None:
    await simulator.limit(sampling_ms=250, publishing_ms=500, queue=2)
    async with raw_client(simulator) as client:
        created = await client.subscribe()
        assert created.RevisedPublishingInterval == 500.0
        (result,) = await client.monitor(created.SubscriptionId, COUNTER)
        assert (result.RevisedSamplingInterval, result.RevisedQueueSize) == (250.0, 2)


async def _refusal(client: RawClient) -> str:
    try:
        await client.publish(timeout=BOUND_S)
    except ua.UaStatusCodeError as error:
        return str(ua.StatusCode(error.code).name)
    return "Good"
