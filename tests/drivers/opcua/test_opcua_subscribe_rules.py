"""The rules of subscriptions that need no server: numbers, groups, retries, deadbands, receipts."""

from typing import Any

import pytest

from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.subscription import wishes
from gateway.drivers.opcua.subscription.groups import by_interval
from gateway.drivers.opcua.subscription.memory import Memory
from gateway.drivers.opcua.subscription.publishing import Receipt
from gateway.drivers.opcua.subscription.retries import Retries
from gateway.drivers.opcua.subscription.revised import Revisions
from gateway.drivers.opcua.subscription.sequence import NUMBERS, Sequence, after, ahead


def device(*tags: dict[str, Any], **keys: Any) -> OpcuaDevice:
    named = [{"name": f"t{number}", "node": f"i={number}", **tag} for number, tag in enumerate(tags)]
    plain = {"policy": "None", "insecure": True}
    return OpcuaDevice.model_validate(
        {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://h", "security": plain, "tags": named, **keys}
    )


def test_sequence_numbers_go_on_at_one_after_the_last() -> None:
    assert after(NUMBERS) == 1
    assert ahead(1, NUMBERS) == 1
    assert ahead(NUMBERS, 1) == -1
    sequence = Sequence(NUMBERS)
    assert sequence.missing(2) == 2
    sequence.take(NUMBERS)
    assert sequence.next == 1


def test_a_message_that_was_passed_on_is_old_and_one_that_was_given_up_is_not() -> None:
    sequence = Sequence()
    sequence.take(1)
    assert sequence.is_old(1)
    sequence.give_up(2)
    sequence.next = 3
    assert not sequence.is_old(2)
    sequence.take(2)
    assert (sequence.is_old(2), sequence.next) == (True, 3)


def test_tags_of_about_the_same_pace_share_a_subscription() -> None:
    tags = [{"interval": "1s"}, {"interval": "10s"}, {"interval": "1500ms"}, {}, {"interval": "12s"}]
    assert by_interval(device(*tags, interval="1s"), range(5)) == [(1.0, [0, 3, 2]), (10.0, [1, 4])]


def test_a_dead_subscription_is_found_within_five_seconds_by_default() -> None:
    section = device({})
    asked = wishes.subscription(section, 1.0)
    assert asked.RequestedMaxKeepAliveCount == 1
    assert wishes.MISSED_KEEP_ALIVES * wishes.keep_alive_s(section) <= 5.0
    assert asked.RequestedLifetimeCount >= 3 * asked.RequestedMaxKeepAliveCount


@pytest.mark.parametrize(
    ("tag", "distance"),
    [
        ({}, None),
        ({"deadband": 0}, None),
        ({"deadband": 2}, 0.2),
        ({"deadband": "2%", "range": [-50, 50]}, 0.2),
        ({"deadband": "0%", "range": [-50, 50]}, None),
        ({"deadband": 2, "scale": 10}, None),
        ({"deadband": 2, "offset": 1}, None),
    ],
)
def test_the_server_gets_a_tenth_of_a_deadband_that_means_the_same_there(tag: Any, distance: float | None) -> None:
    assert wishes.deadband(device(tag).tags[0]) == distance


def pauses(*, quick: bool, count: int) -> list[float]:
    """How long it takes from one try to the next."""
    retries, now, found = Retries(), 0.0, []
    retries.wait(0, "BadNodeIdUnknown", now, quick=quick)
    for _ in range(count):
        found.append(retries.next - now)
        now = retries.next
        assert retries.take(now) == [0]
    return found


def test_a_refused_item_is_tried_after_ten_seconds_and_then_slower_up_to_five_minutes() -> None:
    found = pauses(quick=False, count=8)
    for pause, most in zip(found, [10, 20, 40, 80, 160, 300, 300, 300], strict=True):
        assert 0.8 * most <= pause <= most


def test_a_node_that_vanished_is_tried_within_four_seconds_for_a_minute_and_then_slower() -> None:
    found = pauses(quick=True, count=30)
    assert max(found[:17]) <= 4.0
    assert sum(found[:17]) >= 45.0
    assert found[-1] >= 240.0


def test_of_many_that_wait_some_are_tried_and_the_others_once_one_of_them_came_good() -> None:
    retries = Retries()
    for column in range(250):
        retries.wait(column, "BadNodeIdUnknown", 0.0)
    tried = retries.take(20.0)
    assert len(tried) == 100
    assert retries.take(20.0) == []
    retries.good(tried)
    retries.hurry(20.0)
    assert len(retries.take(20.0)) == 100


def test_only_a_new_status_is_news() -> None:
    retries = Retries()
    assert retries.wait(0, "BadNodeIdUnknown", 0.0)
    assert not retries.wait(0, "BadNodeIdUnknown", 1.0)
    assert retries.wait(0, "BadUserAccessDenied", 2.0)


def test_what_is_not_known_to_be_on_disk_is_not_settled() -> None:
    memory = Memory()
    memory.unsettled.add(Receipt(1, 7))
    memory.acknowledgements.append(Receipt(1, 5))
    memory.settle([Receipt(1, 5), Receipt(1, 6), Receipt(1, 7)])
    assert memory.acknowledgements == [Receipt(1, 5), Receipt(1, 6)]
    memory.acknowledge(Receipt(1, 7))
    assert memory.acknowledgements[-1] == Receipt(1, 7)
    assert memory.unsettled == set()


def test_three_deaths_within_ten_minutes_make_a_device_polled_for_an_hour() -> None:
    memory = Memory()
    for now in (0.0, 500.0, 1000.0):
        memory.died(now)
        assert memory.why_poll(now) == ""
    memory.died(1001.0)
    assert "gave nothing" in memory.why_poll(1001.0)
    assert memory.why_poll(1001.0 + 3600.0) == ""


def test_a_longer_queue_than_asked_for_is_no_revision_and_the_summary_is_bounded() -> None:
    revisions = Revisions()
    revisions.note("a", {"sampling_s": 0.1, "queue": 10}, {"sampling_s": 0.1, "queue": 100})
    assert revisions.summary == []
    for number in range(20):
        revisions.note(f"t{number}", {"sampling_s": 0.1, "queue": 10}, {"sampling_s": 1.0 + number, "queue": 10})
    assert len(revisions.summary) == 5
    assert revisions.summary[0] == {"tags": 1, "first": "t0", "asked": {"sampling_s": 0.1}, "got": {"sampling_s": 1.0}}
