"""`mode: subscribe` against a server of another make."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncua
import pytest
from opcua_peer import BOUND_S, NAMESPACE, SHARED, Peer, failure, section

from gateway.drivers.base import Notification
from gateway.drivers.opcua.device import open_device
from gateway.model import DeviceState

ua: Any = asyncua.ua
THEN = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
FAST = {"mode": "subscribe", "interval": "100ms"}


async def take(changes: AsyncIterator[Notification]) -> Notification:
    async with asyncio.timeout(BOUND_S):
        return await anext(changes)


async def values_of(changes: AsyncIterator[Notification], column: int, until: Any) -> list[Any]:
    """Collect a tag's values until one equals `until`."""
    found: list[Any] = []
    while until not in found:
        for sample in (await take(changes)).samples:
            found += [value for at, value in zip(sample.columns, sample.values, strict=True) if at == column]
    return found


async def test_each_change_within_a_publishing_interval_is_a_sample_of_its_own(peer: Peer) -> None:
    await peer.add(count=0)
    async with section(peer, [{"name": "count", "node": f"nsu={NAMESPACE};s=count", "queue": 10}], **FAST).open(
        SHARED
    ) as driver:
        assert driver.subscribes
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        for number in range(1, 6):
            await peer.write("count", number, ts=THEN + timedelta(milliseconds=number))
        samples = (await take(changes)).samples
        assert [(sample.ts, sample.columns, sample.values) for sample in samples] == [
            (1767355200000 + number, (0,), (number,)) for number in range(1, 6)
        ]
        assert all(sample.rx is not None for sample in samples)


async def test_two_changes_within_a_millisecond_are_both_kept_in_order(peer: Peer) -> None:
    await peer.add(count=0)
    async with section(peer, ["count"], **FAST).open(SHARED) as driver:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        for number in range(1, 4):
            await peer.write("count", number, ts=THEN)
        samples = (await take(changes)).samples
        assert [(sample.ts, sample.values) for sample in samples] == [
            (1767355200000, (number,)) for number in (1, 2, 3)
        ]


async def test_nothing_is_acknowledged_before_it_is_said_to_be_on_disk(peer: Peer) -> None:
    """P1, towards the PLC: seen in the PublishRequests on the wire, and in what the server still keeps."""
    await peer.add(count=0)
    async with section(peer, ["count"], **FAST).open(SHARED) as driver:
        changes = driver.changes()
        receipts = []
        for number in range(1, 6):
            await peer.write("count", number)
            receipts.append((await take(changes)).receipt)
        assert peer.wire.acknowledged == []
        (subscription,) = peer.subscriptions
        assert list(subscription._not_acknowledged_results) == [receipt.sequence for receipt in receipts]
        driver.acknowledge(receipts[0])
        driver.acknowledge(receipts[2])
        await peer.write("count", 6)
        await take(changes)
        await peer.write("count", 7)
        await take(changes)
        assert peer.wire.acknowledged == [receipts[0].sequence, receipts[2].sequence]
        kept = subscription._not_acknowledged_results
        assert receipts[0].sequence not in kept
        assert receipts[1].sequence in kept
        assert receipts[2].sequence not in kept


async def test_a_refused_item_is_named_once_and_the_rest_runs(peer: Peer) -> None:
    await peer.add(count=0)
    tags = ["gone", "count", {"name": "elsewhere", "node": "nsu=urn:not:there;i=1"}]
    async with section(peer, tags, **FAST).open(SHARED) as driver:
        changes = driver.changes()
        first = await take(changes)
        (sample,) = first.samples
        assert sample.quality == {"gone": "bad:BadNodeIdUnknown", "elsewhere": "bad:BadNodeIdUnknown"}
        assert (sample.columns, sample.readings, sample.rx) == ((), 2, None)
        driver.acknowledge(first.receipt)
        assert await values_of(changes, 1, until=0) == [0]
        await peer.write("count", 1)
        assert (await take(changes)).samples[0].values == (1,)


async def test_status_changes_are_notified_with_their_names(peer: Peer) -> None:
    await peer.add(count=0)
    async with section(peer, ["count"], **FAST).open(SHARED) as driver:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        await peer.write("count", 1, status=ua.StatusCodes.BadSensorFailure)
        sample = (await take(changes)).samples[0]
        assert (sample.columns, sample.quality, sample.readings) == ((), {"count": "bad:BadSensorFailure"}, 1)
        await peer.write("count", 2, status=ua.StatusCodes.UncertainSubNormal)
        sample = (await take(changes)).samples[0]
        assert (sample.values, sample.quality) == ((2,), {"count": "uncertain:UncertainSubNormal"})


async def test_a_full_queue_at_the_server_is_told_as_a_gap(peer: Peer) -> None:
    await peer.add(count=0, calm=0)
    async with section(peer, ["calm", "count"], **FAST).open(SHARED) as driver:
        changes = driver.changes()
        await values_of(changes, 1, until=0)
        await peer.write("count", 1, status=0x480)  # good, with info type DataValue and the overflow bit
        notification = await take(changes)
        assert notification.samples[0].values == (1,)
        (gap,) = notification.gaps
        assert (gap.reason, gap.fields["tags"]) == ("source-overflow", ["count"])


async def test_a_hole_in_the_sequence_numbers_is_told_as_a_gap(peer: Peer) -> None:
    await peer.add(count=0)
    async with section(peer, ["count"], **FAST).open(SHARED) as driver:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        (subscription,) = peer.subscriptions
        subscription._notification_seq += 2  # as if two messages had been sent and never came
        await peer.write("count", 1)
        notification = await take(changes)
        assert notification.samples[0].values == (1,)
        (gap,) = notification.gaps
        assert (gap.reason, gap.fields["count"]) == ("notifications-lost", 2)
        await peer.write("count", 2)
        assert (await take(changes)).gaps == ()


async def test_items_are_made_within_the_servers_limit(peer: Peer) -> None:
    names = [f"n{number}" for number in range(25)]
    await peer.add(**{name: number for number, name in enumerate(names)})
    await peer.limit(items=10)
    async with section(peer, names, **FAST).open(SHARED) as driver:
        changes = driver.changes()
        found: dict[int, Any] = {}
        while len(found) < 25:
            for sample in (await take(changes)).samples:
                found.update(zip(sample.columns, sample.values, strict=True))
        assert found == dict(enumerate(range(25)))
    calls = [n for n, _ in peer.wire.requests if n == ua.ObjectIds.CreateMonitoredItemsRequest_Encoding_DefaultBinary]
    assert len(calls) == 3


async def test_sampling_and_queue_are_what_the_tag_says(peer: Peer) -> None:
    await peer.add(count=0, other=0)
    tags = [
        {"name": "count", "node": f"nsu={NAMESPACE};s=count", "sampling": "20ms", "queue": 7},
        {"name": "other", "node": f"nsu={NAMESPACE};s=other", "sampling": "5ms"},
    ]
    async with section(peer, tags, **FAST).open(SHARED):
        kind = ua.ObjectIds.CreateMonitoredItemsRequest_Encoding_DefaultBinary
        (body,) = (body for number, body in peer.wire.requests if number == kind)
        request = ua.ua_binary.struct_from_binary(ua.CreateMonitoredItemsRequest, ua.utils.Buffer(body))
        asked = [item.RequestedParameters for item in request.Parameters.ItemsToCreate]
        assert [(item.SamplingInterval, item.QueueSize) for item in asked] == [(20.0, 7), (5.0, 40)]
        assert request.Parameters.TimestampsToReturn == ua.TimestampsToReturn.Both


async def test_nodes_can_be_read_while_the_subscription_runs(peer: Peer) -> None:
    await peer.add(count=0)
    async with section(peer, ["count"], **FAST).open(SHARED) as driver:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        waiting = asyncio.ensure_future(take(changes))
        async with asyncio.timeout(BOUND_S):
            assert (await driver.read((0,)))[0].values == (0,)
        await peer.write("count", 1)
        assert (await waiting).samples[0].values == (1,)


async def test_a_slow_consumer_leaves_the_values_in_the_servers_queue_and_loses_none(peer: Peer) -> None:
    await peer.add(count=0)
    tags = [{"name": "count", "node": f"nsu={NAMESPACE};s=count", "queue": 1000}]
    async with section(peer, tags, **FAST).open(SHARED) as driver:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        (subscription,) = peer.subscriptions
        for number in range(1, 101):
            await peer.write("count", number)
            if number % 10 == 0:
                await subscription.publish_results()
        assert await values_of(changes, 0, until=100) == list(range(1, 101))


async def test_a_server_that_stops_ends_the_changes_and_a_new_session_goes_on(peer: Peer) -> None:
    await peer.add(count=0)
    device = section(peer, ["count"], **FAST)

    async def follow_a_server_that_stops(driver: Any) -> None:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        await peer.stop()
        await take(changes)

    error = await failure(device, follow_a_server_that_stops)
    assert (error.reason, error.state) == ("connection-lost", DeviceState.UNREACHABLE)
    await peer.start()
    await peer.write("count", 5)
    async with device.open(SHARED) as driver:
        assert await values_of(driver.changes(), 0, until=5) == [5]


async def test_a_server_that_falls_silent_is_noticed_within_three_keep_alives(peer: Peer) -> None:
    await peer.add(count=0)

    async def follow_a_server_that_freezes(driver: Any) -> None:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        peer.wire.freeze()
        await take(changes)

    error = await failure(section(peer, ["count"], timeout="200ms", **FAST), follow_a_server_that_freezes)
    peer.wire.resume()
    assert error.reason == "connection-lost"
    assert "has not spoken on its subscription" in str(error)


async def test_keep_alives_keep_a_quiet_subscription_from_being_taken_for_dead(peer: Peer) -> None:
    """Silence of four keep-alive intervals: more than after which a server counts as dead."""
    await peer.add(count=0)
    async with section(peer, ["count"], timeout="100ms", **FAST).open(SHARED) as driver:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        waiting = asyncio.ensure_future(take(changes))
        (subscription,) = peer.subscriptions
        keep_alive_s = subscription.data.RevisedMaxKeepAliveCount * subscription.data.RevisedPublishingInterval / 1000
        done, _ = await asyncio.wait([waiting], timeout=4 * keep_alive_s)
        assert not done
        await peer.write("count", 1)
        assert (await waiting).samples[0].values == (1,)


@pytest.mark.parametrize("status", ["BadTimeout", "GoodSubscriptionTransferred"])
async def test_a_subscription_that_the_server_ended_is_an_error_that_says_so(peer: Peer, status: str) -> None:
    await peer.add(count=0)

    async def follow_until_it_ends(driver: Any) -> None:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        (subscription,) = peer.subscriptions
        await subscription.enqueue_statuschange(ua.StatusCode(getattr(ua.StatusCodes, status)))
        subscription._startup = True  # publishes at once
        await take(changes)

    error = await failure(section(peer, ["count"], **FAST), follow_until_it_ends)
    assert f"ended the subscription: {status}" in str(error)
    assert error.reason == status


async def test_closing_leaves_no_subscription_at_the_server(peer: Peer) -> None:
    await peer.add(count=0)
    async with section(peer, ["count"], **FAST).open(SHARED) as driver:
        await values_of(driver.changes(), 0, until=0)
        assert len(peer.subscriptions) == 1
    assert peer.subscriptions == []


async def test_the_channels_keys_are_renewed_while_values_come(peer: Peer) -> None:
    await peer.add(count=0)
    async with open_device(section(peer, ["count"], **FAST), SHARED, channel_s=1.0) as driver:
        changes = driver.changes()
        await values_of(changes, 0, until=0)
        token = driver._session._protocol._connection.security_token.TokenId  # type: ignore[attr-defined]
        for number in range(1, 31):
            await peer.write("count", number)
            assert await values_of(changes, 0, until=number) == [number]
        assert driver._session._protocol._connection.security_token.TokenId > token + 1  # type: ignore[attr-defined]
