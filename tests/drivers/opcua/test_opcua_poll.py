"""`mode: poll` against a server of another make."""

import asyncio
import base64
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncua
import pytest
from opcua_peer import BOUND_S, NAMESPACE, SHARED, Peer, failure, section

from gateway.drivers.base import Shared
from gateway.drivers.opcua.device import resolve
from gateway.drivers.opcua.limits import CHUNK, Limits, Service
from gateway.drivers.opcua.session import Session
from gateway.errors import DeviceError
from gateway.model import DeviceState, Sample

ua: Any = asyncua.ua
THEN = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
THEN_MS = 1767355200123


async def read(peer: Peer, tags: list[Any], **keys: Any) -> tuple[Sample, ...]:
    async with asyncio.timeout(BOUND_S), section(peer, tags, **keys).open(SHARED) as driver:
        assert not driver.subscribes
        assert driver.address == f"127.0.0.1:{peer.wire.port}"
        return await driver.read(tuple(range(len(tags))))


def shown(samples: tuple[Sample, ...]) -> tuple[dict[int, Any], dict[str, str]]:
    """Give all values by their columns, and all qualities."""
    values = {column: value for sample in samples for column, value in zip(sample.columns, sample.values, strict=True)}
    return values, {name: quality for sample in samples for name, quality in sample.quality.items()}


async def test_values_come_with_the_servers_own_time(peer: Peer) -> None:
    await peer.add(speed=0.0, state="", running=False)
    for name, value in (("speed", 1.5), ("state", "moving")):
        await peer.write(name, value, ts=THEN)
    await peer.write("running", True, ts=THEN + timedelta(milliseconds=1))
    first, second = await read(peer, ["speed", "state", "running"])
    assert (first.ts, first.columns, first.values, first.readings) == (THEN_MS, (0, 1), (1.5, "moving"), 2)
    assert (second.ts, second.columns, second.values, second.readings) == (THEN_MS + 1, (2,), (True,), 1)
    assert first.rx is not None
    assert first.rx > first.ts


@pytest.mark.parametrize("clock", ["server", "gateway"])
async def test_the_configured_clock_stamps_the_samples(peer: Peer, clock: str) -> None:
    await peer.add(speed=0.0)
    await peer.write("speed", 1.5, ts=THEN)
    (sample,) = await read(peer, ["speed"], timestamp=clock)
    assert sample.ts > THEN_MS
    assert (sample.rx is None) is (clock == "gateway")


async def test_a_vanished_node_costs_no_other(peer: Peer) -> None:
    await peer.add(speed=1.5)
    tags = ["gone", "speed", {"name": "elsewhere", "node": "nsu=urn:not:there;i=1"}]
    samples = await read(peer, tags)
    assert shown(samples) == ({1: 1.5}, {"gone": "bad:BadNodeIdUnknown", "elsewhere": "bad:BadNodeIdUnknown"})
    assert sum(sample.readings for sample in samples) == 3


async def test_status_codes_become_qualities_by_their_names(peer: Peer) -> None:
    await peer.add(good=1, doubtful=2, failed=3, odd=4.0)
    await peer.write("doubtful", 2, status=ua.StatusCodes.UncertainLastUsableValue)
    await peer.write("failed", 3, status=ua.StatusCodes.BadSensorFailure)
    await peer.write("odd", float("nan"))
    values, quality = shown(await read(peer, ["good", "doubtful", "failed", "odd"]))
    assert values == {0: 1, 1: 2}
    assert quality == {
        "doubtful": "uncertain:UncertainLastUsableValue",
        "failed": "bad:BadSensorFailure",
        "odd": "bad:not-a-number",
    }


async def test_a_structure_that_the_server_does_not_define_is_a_mismatch_and_costs_no_other(peer: Peer) -> None:
    await peer.add(limits=ua.Variant(ua.Range(0.0, 1.0), ua.VariantType.ExtensionObject), speed=1.5)
    nobody_knows = ua.ExtensionObject(ua.NodeId(4711, peer.index), b"any")
    await peer.write("limits", ua.Variant(nobody_knows, ua.VariantType.ExtensionObject))
    assert shown(await read(peer, ["limits", "speed"])) == ({1: 1.5}, {"limits": "bad:type-mismatch"})


async def test_reads_keep_within_the_servers_limit(peer: Peer) -> None:
    names = [f"n{number}" for number in range(25)]
    await peer.add(**{name: number for number, name in enumerate(names)})
    await peer.limit(reads=10)
    values, _ = shown(await read(peer, names))
    assert values == dict(enumerate(range(25)))
    sizes = [ua.ua_binary.struct_from_binary(ua.ReadRequest, ua.utils.Buffer(body)) for body in reads(peer)]
    assert [len(request.Parameters.NodesToRead) for request in sizes][-3:] == [10, 10, 5]
    assert max(len(request.Parameters.NodesToRead) for request in sizes[2:]) == 10


def reads(peer: Peer) -> list[bytes]:
    return [body for number, body in peer.wire.requests if number == ua.ObjectIds.ReadRequest_Encoding_DefaultBinary]


async def test_a_value_that_is_too_large_by_itself_is_bad_and_costs_no_other_nor_the_size_of_requests(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await peer.add(a=1.5, huge=0.0, b=2.5)
    ask = Session.ask

    async def refusing(session: Session, request: Any, timeout: float | None = None) -> Any:
        nodes = [each.NodeId.Identifier for each in getattr(request.Parameters, "NodesToRead", ())]
        if "huge" in nodes and request.Parameters.NodesToRead[0].AttributeId == ua.AttributeIds.Value:
            raise DeviceError("too large", reason="BadResponseTooLarge")
        return await ask(session, request, timeout)

    async with asyncio.timeout(BOUND_S), section(peer, ["a", "huge", "b"]).open(Shared("hall-3")) as driver:
        monkeypatch.setattr(Session, "ask", refusing)
        for _ in range(2):
            samples = await driver.read((0, 1, 2))
            assert sorted(value for sample in samples for value in sample.values) == [1.5, 2.5]
            assert {**samples[0].quality, **samples[-1].quality} == {"huge": "bad:BadResponseTooLarge"}
        assert "max_nodes_per_read" not in driver.details.get("limits", {})


def test_one_alone_that_is_refused_says_nothing_of_many() -> None:
    limits = Limits()
    assert not limits.refused(Service.READ, 1)
    assert limits.of(Service.READ) == CHUNK
    apart = limits.apart()
    assert apart.refused(Service.READ, 4)
    assert (apart.of(Service.READ), limits.of(Service.READ)) == (2, CHUNK)


async def test_only_the_columns_that_are_due_are_asked_for(peer: Peer) -> None:
    await peer.add(a=1, b=2, c=3)
    async with asyncio.timeout(BOUND_S), section(peer, ["a", "b", "c"]).open(SHARED) as driver:
        assert shown(await driver.read((0, 2)))[0] == {0: 1, 2: 3}
        assert shown(await driver.read((1,)))[0] == {1: 2}


def test_every_form_of_a_node_id_is_understood() -> None:
    guid = "12345678-9abc-def0-1234-56789abcdef0"
    assert resolve(f"ns=1;g={guid}", []) == ua.NodeId(uuid.UUID(guid), 1)
    assert resolve("ns=1;b=AP8=", []) == ua.NodeId(b"\x00\xff", 1)
    assert resolve("ns=1;b=0xAB", []) == ua.NodeId(base64.b64decode("0xAB"), 1)
    assert resolve("ns=1;b=A", []) is None
    assert resolve("s=plain", []) == ua.NodeId("plain", 0)
    assert resolve("s=with=equals;and=semicolons", []) == ua.NodeId("with=equals;and=semicolons", 0)


def test_a_namespace_is_found_by_its_uri() -> None:
    assert resolve(f"nsu={NAMESPACE};s=Axis;1=x", ["", "urn:a", NAMESPACE]) == ua.NodeId("Axis;1=x", 2)
    assert resolve("nsu=urn:a%3Bb;i=7", ["", "urn:a;b"]) == ua.NodeId(7, 1)
    assert resolve("nsu=urn:a%20b;i=7", ["", "urn:a%20b"]) == ua.NodeId(7, 1)
    assert resolve("nsu=urn:other;i=7", ["", "urn:a"]) is None
    assert resolve("ns=3;i=70000", []) == ua.NodeId(70000, 3)
    assert resolve("i=2258", []) == ua.NodeId(2258, 0)


async def test_a_server_that_stops_is_a_lost_connection_and_is_found_again(peer: Peer) -> None:
    await peer.add(speed=1.5)
    device = section(peer, ["speed"])

    async def read_from_a_stopped_server(driver: Any) -> None:
        await peer.stop()
        await driver.read((0,))

    error = await failure(device, read_from_a_stopped_server)
    assert (error.reason, error.state) == ("connection-lost", DeviceState.UNREACHABLE)
    assert "refuses the connection" in str(await failure(device))
    await peer.start()
    assert shown(await read(peer, ["speed"]))[0] == {0: 1.5}


async def test_a_silent_server_is_a_lost_connection_within_the_timeout(peer: Peer) -> None:
    await peer.add(speed=1.5)

    async def read_from_a_frozen_server(driver: Any) -> None:
        peer.wire.freeze()
        await driver.read((0,))

    error = await failure(section(peer, ["speed"], timeout="200ms"), read_from_a_frozen_server)
    peer.wire.resume()
    assert error.reason == "connection-lost"
    assert "does not answer" in str(error)


async def test_a_link_that_breaks_between_two_polls_is_noticed_at_the_next(peer: Peer) -> None:
    await peer.add(speed=1.5)

    async def read_over_a_cut_link(driver: Any) -> None:
        await peer.wire.cut()
        await driver.read((0,))

    assert (await failure(section(peer, ["speed"]), read_over_a_cut_link)).reason == "connection-lost"


async def test_a_dead_link_ends_the_device_even_while_no_poll_is_due(peer: Peer) -> None:
    """A PLC that lost its power closes no connection: who waits for the next poll in an hour is told before."""
    await peer.add(speed=1.5)
    peer.expire_sessions_after(0.6, 0.6)

    async def wait_for_ever(driver: Any) -> None:
        peer.wire.freeze()
        await asyncio.Event().wait()

    error = await failure(section(peer, ["speed"]), wait_for_ever)
    peer.wire.resume()
    assert (error.reason, error.state) == ("connection-lost", DeviceState.UNREACHABLE)


async def test_a_session_in_which_nothing_is_due_is_kept_from_expiring(peer: Peer) -> None:
    await peer.add(speed=1.5)
    peer.expire_sessions_after(0.6, 0.6)
    async with asyncio.timeout(BOUND_S), section(peer, ["speed"]).open(SHARED) as driver:
        await peer.wire.seen("Read", 6)
        assert shown(await driver.read((0,)))[0] == {0: 1.5}


async def test_nothing_is_written_and_nothing_is_called(peer: Peer) -> None:
    """P10, seen on the wire: the services that a poll and a subscription ask for."""
    await peer.add(speed=1.5)
    await read(peer, ["speed"])
    async with asyncio.timeout(BOUND_S), section(peer, ["speed"], mode="subscribe").open(SHARED) as driver:
        await anext(driver.changes())
        await driver.read((0,))
    session = {"GetEndpoints", "CreateSession", "ActivateSession", "CloseSession"}
    assert peer.wire.services == session | {"Read", "Browse", "CreateSubscription", "CreateMonitoredItems", "Publish"}
