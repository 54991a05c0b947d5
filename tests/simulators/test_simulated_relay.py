"""The relay passes octets on, holds them, and cuts."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from simulators import Relay

LIMIT_S = 20.0


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(100):
        writer.write(chunk)
    writer.close()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Relay(server.sockets[0].getsockname()) as relay:
        yield relay


async def ask(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], octets: bytes) -> bytes:
    reader, writer = stream
    writer.write(octets)
    async with asyncio.timeout(LIMIT_S):
        return await reader.readexactly(len(octets))


async def test_octets_go_there_and_back(relay: Relay) -> None:
    stream = await asyncio.open_connection("127.0.0.1", relay.port)
    assert await ask(stream, b"hello") == b"hello"
    assert relay.connections == 1


async def test_frozen_octets_arrive_after_resume(relay: Relay) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    assert await ask((reader, writer), b"1") == b"1"
    relay.freeze()
    writer.write(b"2")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.readexactly(1)
    relay.resume()
    async with asyncio.timeout(LIMIT_S):
        assert await reader.readexactly(1) == b"2"


async def test_a_stop_ends_connections_even_while_frozen_and_a_start_takes_the_same_port(relay: Relay) -> None:
    stream = await asyncio.open_connection("127.0.0.1", relay.port)
    assert await ask(stream, b"1") == b"1"
    port = relay.port
    relay.freeze()
    stream[1].write(b"2")
    async with asyncio.timeout(LIMIT_S):
        await relay.stop()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await stream[0].readexactly(1)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    relay.resume()
    await relay.start()
    assert await ask(await asyncio.open_connection("127.0.0.1", port), b"3") == b"3"


async def test_a_server_that_is_gone_looks_like_a_closed_connection() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()
    server.close()
    await server.wait_closed()
    async with Relay(target) as relay, asyncio.timeout(LIMIT_S):
        reader, _ = await asyncio.open_connection("127.0.0.1", relay.port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
