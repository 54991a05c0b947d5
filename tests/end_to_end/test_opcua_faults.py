"""Each fault of an OPC UA server that users of other gateways report: data flows again by itself, no loss is untold.

The robot's counter goes up by one ten times a second, whether anybody listens or not: a count that did not come must
lie where a gap or a bad quality is; one that the server still held must not be missing at all. The robot and the press
beside it must not notice anything, and the gateway's descriptors must be at their old count.

What leaves other gateways connected and without data, how it is found, and after how many seconds data flowed again
(measured on a machine seven times as busy as it has cores; most of it is the pause before the next attempt):

| state | found by | s |
|---|---|---|
| the server was killed and is back | the connection ends | 4.3 |
| the session is gone, told, and not told | BadSessionIdInvalid; no keep-alive | 1.2, 8.5 |
| the subscription is gone, told, and not told | BadNoSubscription; no keep-alive | 4.9, 8.2 |
| publishing stops for 6 s, and for 20 s | nothing to find; no keep-alive | 2.7, 0.9 |
| the link is half open | no keep-alive; a connection that does not open | 0.7 |
| Read is not answered | the look at the server's state | 0.6 |
| namespaces are in another order | names resolved again at each connect | 2.4 |
| limits are lower than before, told | limits read again at each connect | 3.4 |
| sessions are refused | tried again in growing pauses | 3.5 |
| the server is not Running | the look at the server's state | 5.5 |
| the server's certificate is new | `certificate-error` until a person trusts it | 1.7 |
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.broker import require_mosquitto
from tests.end_to_end.opcua_line import (
    KEEP_ALIVE_S,
    PROMISE_S,
    QUEUE,
    SLACK_S,
    TIMEOUT_S,
    VICTIM,
    Line,
    lost,
    opcua_line,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

SILENT_S = 3 * KEEP_ALIVE_S + TIMEOUT_S
"""How soon a server that says nothing is found out."""
COUNTER = "Robot.Counter"
Order = tuple[str, dict[str, Any]]
Health = dict[str, Any]
Seen = Callable[[Health], bool]


def order(do: str, **arguments: Any) -> Order:
    return do, arguments


@dataclass(frozen=True)
class Fault:
    """Orders to the victim that begin a fault and, after a while, end it; data flows within so many seconds of that.

    `met` is the counter at the victim that proves that the gateway met the fault, so many `times`; `seen` is what
    health must show before the fault ends. With `kept` the server holds what it sampled: nothing may be missing.
    """

    name: str
    begin: tuple[Order, ...]
    lasts_s: float = 0.0
    end: tuple[Order, ...] = ()
    within_s: float = PROMISE_S
    met: str = "connection"
    times: int = 1
    seen: Seen | None = None
    kept: bool = False

    def __str__(self) -> str:
        return self.name


def is_away(victim: Health) -> bool:
    return bool(victim["state"] != "ok")


FEW = {"nodes_per_read": 5, "items_per_call": 4, "nodes_per_browse": 2, "nodes_per_history_read": 2, "sessions": 3}
NO_SESSION = {"services": ["CreateSession"], "status": "BadTooManySessions"}
FAULTS = (
    Fault(
        "a graceful restart",
        (order("restart", graceful=True, announced_s=1, down_s=1),),
        met="ended session",
    ),
    Fault("a server that is killed", (order("restart", down_s=2),), met="ended session"),
    Fault("a link that is reset", (order("cut"),), kept=True),
    Fault("a link that is frozen", (order("freeze"),), 3.0, (order("resume"),), met="held", kept=True),
    Fault(
        "a link that is frozen until it is given up",
        (order("freeze"),),
        end=(order("resume"),),
        within_s=2 * PROMISE_S,
        seen=is_away,
        kept=True,
    ),
    Fault(
        "namespaces in another order",
        (order("reorder_namespaces", before=["urn:new:program"]),),
        met="namespace index",
    ),
    Fault(
        "a subscription that is forgotten",
        (order("forget_subscriptions"),),
        within_s=SILENT_S,
        met="forgotten subscription",
    ),
    Fault(
        "a subscription that is forgotten, and told so",
        (order("forget_subscriptions", silently=False),),
        met="forgotten subscription",
    ),
    Fault(
        "publishing that stops for a while",
        (order("stop_publishing"),),
        6.0,
        (order("resume_publishing"),),
        met="unpublished",
        kept=True,
    ),
    Fault(
        "publishing that stops for ever",
        (order("stop_publishing"),),
        20.0,
        (order("resume_publishing"),),
    ),
    Fault("a queue that overflows", (order("burst", steps=2 * QUEUE),), met="overflow"),
    Fault("a session that is closed", (order("drop_sessions"),), met="ended session"),
    Fault(
        "a session that is closed silently",
        (order("drop_sessions", silently=True),),
        within_s=SILENT_S,
        met="ended session",
    ),
    Fault("slow answers", (order("delay", s=0.7),), 4.0, (order("delay", s=0),), met="late", kept=True),
    Fault(
        "slow reads",
        (order("slow_services", services=["Read"], s=0.8),),
        8.0,
        (order("clear"),),
        met="slow Read",
        kept=True,
    ),
    Fault(
        "reads without an answer",
        (order("mute_services", services=["Read"]),),
        8.0,
        (order("clear"),),
        met="unanswered Read",
        kept=True,
    ),
    Fault("lower limits, told", (order("limit", **FEW), order("restart")), met="asked CreateMonitoredItems", times=3),
    Fault(
        "lower limits, not told",
        (order("limit", **FEW, announced=False), order("restart")),
        met="asked CreateMonitoredItems",
        times=3,
    ),
    Fault(
        "connecting refused",
        (order("refuse_services", **NO_SESSION), order("cut")),
        3.0,
        (order("accept_services", services=["CreateSession"]),),
        met="refused CreateSession",
        kept=True,
    ),
    Fault(
        "another state",
        (order("server_state", state="Suspended"),),
        end=(order("server_state"),),
        seen=is_away,
        kept=True,
    ),
    Fault(
        "a clock that is off",
        (order("clock_error", offset_s=3600),),
        end=(order("clock_error"),),
        met="asked Read",
        seen=lambda victim: abs(victim["connection"].get("clock_offset_s", 0.0) - 3600) < 5,
        kept=True,
    ),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Line]:
    """One line for all faults: each finds the gateway as the one before has left it."""
    require_mosquitto()
    async with opcua_line(tmp_path_factory.mktemp("line")) as line:
        yield line


@pytest_asyncio.fixture(loop_scope="module")
async def line(shared: Line) -> AsyncIterator[Line]:
    await shared.begin()
    yield shared
    shared.trust()
    await shared.order("clear")
    await shared.order("cut")  # what a fault has left behind at the server goes with its sessions


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_data_flows_again_by_itself_and_no_loss_is_untold(line: Line, fault: Fault) -> None:
    for do, arguments in fault.begin:
        await line.order(do, **arguments)
    await asyncio.sleep(fault.lasts_s)  # the length of the fault
    if (seen := fault.seen) is not None:
        await line.gateway.until(lambda now: seen(now["devices"][VICTIM]))
    elif fault.end:
        await line.meets(fault.met)
    for do, arguments in fault.end:
        await line.order(do, **arguments)
    took = await line.flows(VICTIM, within=fault.within_s + SLACK_S)
    await line.finish()
    met = (await line.suffered()).get(fault.met, 0)
    missing = lost(line.book(VICTIM), explained=False)
    print(f"{fault}: data {took:.1f} s after it ended, {met} x {fault.met}, {len(missing)} values missing")
    assert met >= fault.times, "nobody met the fault"
    assert lost(line.book(VICTIM), explained=not fault.kept) == []


async def test_a_new_certificate_is_trusted_by_a_person_and_then_data_flows(line: Line) -> None:
    await line.order("renew_certificate")
    refused = await line.gateway.until(lambda now: now["devices"][VICTIM]["state"] == "certificate-error")
    assert "certs" in next(reason["do"] for reason in refused["reasons"] if reason.get("device") == VICTIM)
    line.trust()
    took = await line.flows(VICTIM, within=PROMISE_S + SLACK_S)
    print(f"a new certificate: data {took:.1f} s after it was trusted")
    await line.finish()
    assert lost(line.book(VICTIM)) == []


async def test_a_refused_item_is_bad_and_costs_no_other(line: Line) -> None:
    await line.order("refuse_items", nodes=[COUNTER], status="BadNotReadable")
    await line.order("restart")
    await line.flows(VICTIM, within=PROMISE_S + SLACK_S, tag="axis1_position")
    await line.consumer.until(lambda _: "bad:BadNotReadable" in line.qualities(VICTIM, "counter"))
    await line.order("accept_items", nodes=[COUNTER])
    await line.order("restart")
    await line.finish()
    assert lost(line.book(VICTIM)) == []


async def test_a_queue_that_overflows_is_told_by_a_gap_of_the_source(line: Line) -> None:
    await line.order("burst", steps=2 * QUEUE)
    await line.consumer.until(lambda _: "source-overflow" in {gap["reason"] for gap in line.book(VICTIM).gaps})
    await line.finish()
