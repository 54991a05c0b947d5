"""The MQTT session against a broker scripted byte by byte, for what no real broker does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from gateway.config.mqtt import MqttSection
from gateway.errors import PublishError
from gateway.publisher.mqtt import MqttSession
from gateway.publisher.reasons import PublishRefusedError
from gateway.publisher.way import ways

CONNACK = b"\x20\x03\x00\x00\x00"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def scripted(script: Script, **options: float) -> AsyncIterator[MqttSession]:
    """A session, not yet entered, to a broker that does as the script says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await script(reader, writer)
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        mqtt = MqttSection.model_validate({"host": "127.0.0.1", "port": port, "tls": {"insecure_plaintext": True}})
        yield MqttSession(ways(mqtt)[0], client_id="hall-3", will=("factory/hall-3/status", b"{}"), **options)


async def packet(reader: asyncio.StreamReader) -> bytes:
    """Read one packet; gives its fixed header's first byte and its body (MQTT 5.0 section 2.1)."""
    kind, length, shift = await reader.readexactly(1), 0, 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return kind + await reader.readexactly(length)


def packet_id(publish: bytes) -> bytes:
    """The packet id of a PUBLISH."""
    topic = int.from_bytes(publish[1:3], "big")
    return publish[3 + topic : 5 + topic]


async def test_a_puback_that_does_not_come_ends_the_session() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)

    async with scripted(script, ack_timeout=0.2) as session, asyncio.timeout(30):
        async with session:
            acknowledged = session.send("t/data", b"{}")
            with pytest.raises(PublishError, match="has not acknowledged a message for"):
                await session.watch()
        with pytest.raises(PublishError):
            await acknowledged


async def test_a_puback_that_nobody_waits_for_or_that_comes_twice_is_ignored() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        first = packet_id(await packet(reader))
        writer.write(b"\x40\x02\xff\xff" + 2 * (b"\x40\x02" + first))
        second = packet_id(await packet(reader))
        writer.write(b"\x40\x03" + first + b"\x87" + b"\x40\x03" + second + b"\x10")

    async with scripted(script) as session, session, asyncio.timeout(30):
        assert await session.send("t/data", b"1") == 0
        assert await session.send("t/data", b"2") == 0x10
        assert session.unacknowledged == 0


async def test_a_refusal_carries_the_brokers_reason() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        sent = packet_id(await packet(reader))
        writer.write(b"\x40\x0c" + sent + b"\x97\x08\x1f\x00\x05quota")

    async with scripted(script) as session, session, asyncio.timeout(30):
        with pytest.raises(PublishRefusedError, match=r"the broker refused t/data: quota \(0x97\)"):
            await session.send("t/data", b"{}")


async def test_a_lost_connection_fails_what_is_under_way_at_once() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK)
        await packet(reader)
        writer.close()

    async with scripted(script) as session, session, asyncio.timeout(30):
        sent = [session.send("t/data", b"{}") for _ in range(5)]
        with pytest.raises(PublishError, match="closed the connection"):
            await session.watch()
        for acknowledged in sent:
            with pytest.raises(PublishError):
                await acknowledged
        with pytest.raises(PublishError):
            session.send("t/data", b"{}")


async def test_what_the_broker_grants_is_read_from_its_connack() -> None:
    properties = b"\x21\x00\x07" + b"\x27\x00\x01\x00\x00" + b"\x25\x00"

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20" + bytes([3 + len(properties)]) + b"\x00\x00" + bytes([len(properties)]) + properties)

    async with scripted(script) as session, session:
        grants = session.grants
    assert (grants.receive_maximum, grants.maximum_packet, grants.retain) == (7, 65536, False)


async def test_a_broker_without_qos_1_is_refused() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(b"\x20\x05\x00\x00\x02\x24\x00")

    async with scripted(script) as session:
        with pytest.raises(PublishError, match="QoS 0 only"):
            await session.__aenter__()


async def test_the_broker_says_why_it_ends_the_session() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(CONNACK + b"\xe0\x01\x8e")

    async with scripted(script) as session, session, asyncio.timeout(30):
        with pytest.raises(PublishError, match="another client took over the session") as error:
            await session.watch()
    assert "mqtt.client_id" in error.value.do
    assert error.value.retry_after_s >= 60


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 64])
async def test_a_peer_that_is_no_broker_is_told_apart(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.write(answer)

    async with scripted(script, connect_timeout=0.5) as session:
        with pytest.raises(PublishError):
            await session.__aenter__()


async def test_a_connection_that_is_closed_before_the_connack_fails_at_once() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await packet(reader)
        writer.close()

    async with scripted(script, connect_timeout=60.0) as session, asyncio.timeout(30):
        with pytest.raises(PublishError, match="closed the connection"):
            await session.__aenter__()
