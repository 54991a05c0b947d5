"""No change of more than the configured deadband is held back, though the server and the gateway both have one."""

import asyncio
import struct
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import asyncua
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opcua_peer import BOUND_S, NAMESPACE, Peer
from opcua_peer import section as peer_section

from gateway.conversion import conversion_of
from gateway.drivers.base import Shared
from gateway.drivers.opcua.facts import Fact
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.subscription import deadbands
from gateway.drivers.opcua.types.float32 import shortest
from gateway.model import Sample
from gateway.shaping import Shaper

ua: Any = asyncua.ua
SBYTE, UINT16, INT32, UINT32, INT64, FLOAT, DOUBLE = 2, 5, 6, 7, 8, 10, 11
SIZES = {SBYTE: "b", UINT16: "H", INT32: "i", UINT32: "I", INT64: "q"}
SAMPLING_S = 1.0


def device(**keys: Any) -> OpcuaDevice:
    plain = {"policy": "None", "insecure": True}
    tag = {"name": "level", "node": "i=5000", **keys}
    given_keys = {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://h", "heartbeat": "30s"}
    return OpcuaDevice.model_validate({**given_keys, "security": plain, "tags": [tag]})


def connection(section: OpcuaDevice, kind: int, rank: int = -1) -> Any:
    """Make as much of a connection as says what the server may hold back."""
    fact = Fact(ua.NodeId(kind), rank)
    types = SimpleNamespace(type_of=lambda node: node.Identifier)
    return SimpleNamespace(
        server=SimpleNamespace(product="PLC 1.0"),
        section=section,
        nodes=["i=5000"],
        memory={},
        facts=SimpleNamespace(of=lambda _: fact),
        definitions=types,
    )


class Server:
    """A monitored item with a deadband: it compares with the value that it pushed last (OPC 10000-4 7.22.2).

    It calculates in the type of the value itself, as servers written in C do: what overflows, overflows.
    """

    def __init__(self, kind: int, distance: float | None) -> None:
        self.kind = kind
        self.distance = distance
        self.pushed: Any = None

    def samples(self, value: Any) -> bool:
        """Look at the value; whether it is pushed."""
        is_news = self.pushed is None or value != self.pushed
        if is_news and self.pushed is not None and self.distance is not None:
            is_news = self._difference(value) > self.distance
        if is_news:
            self.pushed = value
        return is_news

    def _difference(self, value: Any) -> Any:
        larger, smaller = max(value, self.pushed), min(value, self.pushed)
        if self.kind == FLOAT:
            return single(larger - smaller)
        if self.kind == DOUBLE:
            return larger - smaller
        bits = 8 * struct.calcsize("<" + SIZES[self.kind])
        wrapped = (larger - smaller) % 2**bits
        is_signed = SIZES[self.kind].islower() and bits >= 32  # less than an int is promoted to one
        return wrapped - 2**bits if is_signed and wrapped >= 2 ** (bits - 1) else wrapped


def single(number: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def bounds(kind: int) -> tuple[float, float]:
    if kind in (FLOAT, DOUBLE):
        return -1e30, 1e30
    bits = 8 * struct.calcsize("<" + SIZES[kind])
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if SIZES[kind].islower() else (0, 2**bits - 1)


def moved(kind: int, value: Any, move: float | str, deadband: float) -> Any:
    """Give the raw value that comes next: some part of the deadband away, or at an end of its type."""
    low, high = bounds(kind)
    if isinstance(move, str):
        return kind_of(kind)(low if move == "low" else high)
    wanted = min(max(value + move * deadband, low), high)
    return single(wanted) if kind == FLOAT else wanted if kind == DOUBLE else round(wanted)


def kind_of(kind: int) -> type:
    return float if kind in (FLOAT, DOUBLE) else int


DEADBANDS = st.sampled_from([0.5, 2, 10, 23, 100, "25%", "2%", 0])
TAGS = st.one_of(
    st.fixed_dictionaries({"deadband": DEADBANDS, "range": st.just([-50, 50]), **more})
    for more in (
        {},
        {"scale": st.sampled_from([-0.1, 0.01, -3, 100]), "offset": st.sampled_from([0, -7, 0.3])},
        {"max": st.sampled_from([3, 20])},
    )
)
MOVES = st.one_of(
    st.sampled_from([-1.0, -0.97, -0.92, -0.1, -0.06, 0.0, 0.06, 0.1, 0.92, 0.97, 1.0]),
    st.sampled_from([-1.0, -0.97, -0.92, -0.1, -0.06, 0.0, 0.06, 0.1, 0.92, 0.97, 1.0]),
    st.sampled_from([-5.0, 5.0, "low", "high"]),
)
EVENTS = st.sampled_from(["", "", "", "", "late", "read", "forget"])
STEPS = st.lists(st.tuples(MOVES, EVENTS), min_size=1, max_size=40)
KINDS = st.sampled_from([SBYTE, UINT16, INT32, UINT32, INT64, FLOAT, FLOAT, DOUBLE, DOUBLE])


@given(KINDS, TAGS, st.sampled_from([0, 3, 20]), STEPS)
@example(DOUBLE, {"deadband": 10}, 0, [(0.0, ""), (0.97, ""), (0.06, "")])
@example(INT32, {"deadband": 100}, 0, [("low", ""), ("high", "")])
@example(DOUBLE, {"deadband": 10, "max": 20}, 20, [(0.0, ""), (0.06, "")])
@settings(max_examples=200)
def test_the_consumer_knows_each_value_as_exactly_as_the_deadband_says_after_every_sampling(
    kind: int, keys: Any, start: int, steps: Any
) -> None:
    section = device(**keys)
    tag = section.tags[0]
    link = connection(section, kind)
    server = Server(kind, deadbands.distances(link, [0]).get(0))
    shaper = Shaper(section, deadbands.held_back(link))
    shaper.follows = True
    convert = conversion_of(tag)
    allowed = tag.deadband if isinstance(tag.deadband, Decimal) else tag.deadband.share * 100  # type: ignore[union-attr]
    distance = float(allowed / abs(tag.scale or 1)) or 1.0
    told: Any = None
    raw: Any = kind_of(kind)(start)
    waiting: list[Any] = []

    def give(value: Any, now: float) -> None:
        nonlocal told
        out = shaper.shape(Sample.good(1, (0,), (value,)), now)
        if out is not None:
            told = out.values[0] if out.values else out.quality["level"]

    for number, (move, event) in enumerate(steps):
        raw = moved(kind, raw, move, distance)
        now = number * SAMPLING_S
        value = shortest(raw) if kind == FLOAT else raw
        if server.samples(raw):
            waiting.append(value)
        if event == "late":  # the next publishing brings it
            continue
        for each in waiting:
            give(each, now)
        waiting.clear()
        if event == "forget":
            shaper.clear()
        if event in ("read", "forget") or shaper.stale(now):
            give(value, now)
        meant, quality = convert(value)
        if quality or isinstance(told, str):
            assert told == (quality or meant)
        else:
            assert abs(Decimal(repr(told)) - Decimal(repr(meant))) <= allowed * (1 + Decimal("1e-8"))


@pytest.mark.parametrize(
    ("kind", "deadband", "distance"),
    [
        (DOUBLE, 2, 0.2),
        (FLOAT, 2, 0.2),
        (UINT16, 25, 2.0),
        (UINT32, 10, 1.0),
        (UINT16, 9, None),
        (INT32, 100, None),
        (INT64, 100, None),
        (9, 100, None),
        (1, 2, None),
        (12, 2, None),
    ],
)
def test_the_server_holds_back_only_what_it_can_calculate(kind: int, deadband: float, distance: float | None) -> None:
    assert deadbands.distances(connection(device(deadband=deadband), kind), [0]).get(0) == distance


@pytest.mark.parametrize(("kind", "rank"), [(DOUBLE, 1), (DOUBLE, -2)])
def test_an_array_is_left_to_the_gateway(kind: int, rank: int) -> None:
    assert deadbands.distances(connection(device(deadband=2), kind, rank), [0]) == {}


def test_what_a_server_refused_is_the_gateways_whole() -> None:
    link = connection(device(deadband=2), DOUBLE)
    deadbands.remember_refusal(link, 0)
    assert deadbands.held_back(link) == {}


async def test_a_slow_drift_is_told_also_by_a_server_that_compares_each_value_with_the_one_before(peer: Peer) -> None:
    await peer.add(level=0.0)
    tag = {"name": "level", "node": f"nsu={NAMESPACE};s=level", "deadband": 1, "sampling": "10ms", "queue": 100}
    told: list[float] = []
    section = peer_section(peer, [tag], mode="subscribe", interval="50ms")
    async with asyncio.timeout(BOUND_S), section.open(Shared("hall-3")) as driver:
        shaper = Shaper(driver.section, driver.held_back)
        shaper.follows = True
        changes = driver.changes()
        for step in range(26):
            await peer.write("level", step * 0.05)
        async for notification in changes:
            shaped = [shaper.shape(raw, 0.0) for raw in notification.samples]
            told += [value for sample in shaped if sample is not None for value in sample.values]
            if told and told[-1] > 1:
                break
        await changes.aclose()
    assert told == [0.0, pytest.approx(1.05)]
