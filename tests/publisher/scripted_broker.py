"""A broker for what no real one does on demand: it answers each publish, and ends sessions, as a test says."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from gateway.config.mqtt import MqttSection

CONNACK = b"\x20\x03\x00\x00\x00"


@dataclass(frozen=True)
class Published:
    """A publish as it came, in which session (from 1), and when on the monotonic clock."""

    topic: str
    payload: bytes
    session: int
    at: float


class Kick(Exception):  # noqa: N818 -- no error: what a script may do
    """End the session, with a DISCONNECT of this reason code, or without a word."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


Answer = Callable[[Published], int | None]


class ScriptedBroker:
    """Speaks MQTT 5 in clear to one gateway at a time. `answer` gives the reason code of a publish's PUBACK, or None.

    It may raise `Kick`. `published` holds all that came and was not kicked, `accepted` what was answered by a success.
    """

    def __init__(self, answer: Answer = lambda _: 0, *, connack: bytes = CONNACK, answers_pings: bool = True) -> None:
        self.published: list[Published] = []
        self.accepted: list[Published] = []
        self.sessions: list[float] = []
        self.pings: list[float] = []
        self._answer = answer
        self._connack = connack
        self._answers_pings = answers_pings
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def section(self, **keys: Any) -> MqttSection:
        """The `mqtt` section that leads here."""
        port = self._server.sockets[0].getsockname()[1]
        given = {"host": "127.0.0.1", "port": port, "tls": {"insecure_plaintext": True}} | keys
        return MqttSection.model_validate(given)

    def on(self, suffix: str) -> list[Published]:
        """What was accepted on topics that end so."""
        return [one for one in self.accepted if one.topic.endswith(suffix)]

    async def until(self, enough: Callable[[], object], within: float = 30.0) -> None:
        """Wait until something has come."""
        async with asyncio.timeout(within):
            while not enough():
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await self._session(reader, writer)
        except Kick as kick:
            if kick.code is not None:
                writer.write(bytes([0xE0, 1, kick.code]))
        finally:
            writer.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            kind, body = await _packet(reader)
            match kind >> 4:
                case 1:
                    self.sessions.append(time.monotonic())
                    writer.write(self._connack)
                case 3:
                    self._take(body, writer)
                case 8:
                    writer.write(b"\x90\x05" + body[:2] + b"\x00\x01\x01")
                case 12:
                    self.pings.append(time.monotonic())
                    writer.write(b"\xd0\x00" if self._answers_pings else b"")
                case 14:
                    return
            self._pulse()

    def _take(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        end = 2 + int.from_bytes(body[:2], "big")
        topic, identity, rest = body[2:end].decode(), body[end : end + 2], body[end + 2 :]
        one = Published(topic, rest[1 + rest[0] :], len(self.sessions), time.monotonic())
        code = self._answer(one)
        self.published.append(one)
        if code is None:
            return
        if code < 0x80:
            self.accepted.append(one)
        writer.write(b"\x40\x03" + identity + bytes([code]))

    def _pulse(self) -> None:
        self._changed.set()
        self._changed.clear()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one packet (MQTT 5.0 section 2.1); properties under 128 bytes are all that the gateway sends."""
    (kind,) = await reader.readexactly(1)
    length = shift = 0
    while True:
        (byte,) = await reader.readexactly(1)
        length |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return kind, await reader.readexactly(length)
