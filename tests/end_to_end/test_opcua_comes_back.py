"""Faults of an OPC UA server that need more than a new connection: nodes that return, polling, and history."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.broker import require_mosquitto
from tests.end_to_end.opcua_line import PROMISE_S, SLACK_S, VICTIM, Line, lost, opcua_line

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

COUNTER = "Robot.Counter"
RETRY_S = 90.0
"""How soon an item that the server refuses is tried again, at the latest."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    require_mosquitto()
    async with opcua_line(tmp_path_factory.mktemp("line")) as line:
        yield line


@pytest_asyncio.fixture(loop_scope="module")
async def line(shared: Line) -> AsyncIterator[Line]:
    await shared.begin()
    yield shared
    await shared.order("clear")
    await shared.order("cut")  # what a fault has left behind at the server goes with its sessions


async def test_a_node_that_vanishes_is_bad_and_comes_back_by_itself(line: Line) -> None:
    await line.order("remove", node=COUNTER)
    await line.consumer.until(lambda _: "bad:BadNodeIdUnknown" in line.qualities(VICTIM, "counter"))
    await line.flows(VICTIM, within=PROMISE_S + SLACK_S, tag="axis1_position")
    await line.order("restore", node=COUNTER)
    took = await line.flows(VICTIM, within=RETRY_S)
    print(f"a node that came back: data {took:.1f} s later")
    await line.finish()
    assert lost(line.book(VICTIM)) == []


async def test_an_item_that_was_refused_is_tried_again_without_a_new_connection(line: Line) -> None:
    await line.order("refuse_items", nodes=[COUNTER], status="BadNotReadable")
    await line.order("restart")
    await line.consumer.until(lambda _: "bad:BadNotReadable" in line.qualities(VICTIM, "counter"))
    await line.order("accept_items", nodes=[COUNTER])
    took = await line.flows(VICTIM, within=RETRY_S)
    print(f"an item that was refused: data {took:.1f} s later")
    await line.finish()
    assert lost(line.book(VICTIM)) == []


async def test_a_server_without_subscriptions_is_polled(line: Line) -> None:
    await line.order("refuse_services", services=["CreateSubscription"])
    await line.order("restart")
    took = await line.flows(VICTIM, within=PROMISE_S + SLACK_S)
    print(f"without subscriptions: data {took:.1f} s later")
    polled = await line.gateway.until(lambda now: now["devices"][VICTIM]["connection"].get("mode") == "poll")
    assert polled["devices"][VICTIM]["connection"]["why"]
    await line.order("accept_services", services=["CreateSubscription"])
    await line.order("cut")
    await line.finish()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kept(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    """A line whose victim keeps history."""
    require_mosquitto()
    async with opcua_line(tmp_path_factory.mktemp("kept"), history=True) as line:
        yield line


async def test_the_hole_of_an_outage_is_filled_from_history(kept: Line) -> None:
    await kept.begin()
    await kept.order("restart", down_s=4)
    took = await kept.flows(VICTIM, within=PROMISE_S + SLACK_S)
    print(f"with history: data {took:.1f} s after the outage")
    await kept.consumer.until(lambda _: not lost(kept.book(VICTIM), explained=False))
    await kept.finish()
    counts = [sample["values"]["counter"] for sample in _counted(kept)]
    assert len(counts) == len(set(counts)), "a count came twice: live and from history"
    assert sum(sample.get("origin") == "history" for sample in _counted(kept)) >= 30


async def test_history_that_is_switched_off_costs_a_hole_that_is_told_and_once_on_again_fills_the_next(
    kept: Line,
) -> None:
    await kept.begin()
    await kept.order("history", on=False)
    await kept.order("restart", down_s=2)
    await kept.flows(VICTIM, within=PROMISE_S + SLACK_S)
    await kept.finish()
    assert lost(kept.book(VICTIM), explained=False), "without history the outage leaves a hole"
    assert lost(kept.book(VICTIM)) == []
    assert not any(sample.get("origin") == "history" for sample in _counted(kept))
    await kept.order("history", on=True)
    await kept.begin()
    await kept.order("restart", down_s=2)
    await kept.consumer.until(lambda _: any(sample.get("origin") == "history" for sample in _counted(kept)))
    await kept.consumer.until(lambda _: not lost(kept.book(VICTIM), explained=False))
    await kept.finish()


def _counted(line: Line) -> list[dict[str, Any]]:
    """The victim's samples that hold a count."""
    return [sample for sample in line.book(VICTIM).samples.values() if "counter" in sample.get("values", {})]
