"""A command's end of the control socket, and the daemon's link as a line that a Modbus driver can use."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.control.messages import LONGEST_RESPONSE, TIMEOUT, WRONG_ANSWER, write
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.connection import Answer, WrongAnswer
from gateway.errors import DeviceError, GatewayError

_PATIENCE_S: Final = 120.0
"""How long the daemon may take beyond a request's own time-out: others are before us in the link's queue."""


class Daemon:
    """The running gateway, at the other end of the socket; one question at a time."""

    def __init__(self, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()
        self.gateway = ""
        self.devices: list[Mapping[str, Any]] = []

    async def greet(self) -> None:
        """Learn who it is. Raises GatewayError if it is no gateway."""
        answer = await self.ask({"do": "hello"})
        if not answer["ok"]:
            raise GatewayError(str(answer.get("text", "")), do=str(answer.get("do", "")))
        self.gateway, self.devices = answer["gateway"], answer["devices"]

    async def ask(self, request: Mapping[str, Any], patience: float = _PATIENCE_S) -> dict[str, Any]:
        """Ask, and give the response, whatever it says. Raises GatewayError if there is none."""
        async with self._turn:
            try:
                self._writer.write(write(dict(request)))
                async with asyncio.timeout(patience):
                    line = await self._reader.readline()
                document = orjson.loads(line)
            except (OSError, ValueError) as error:
                raise self._gone() from error
        if not isinstance(document, dict) or not isinstance(document.get("ok"), bool):
            raise self._gone()
        return document

    def _gone(self) -> GatewayError:
        return GatewayError(
            f"the gateway at {self._path} does not answer",
            do="See whether it still runs (systemctl status edge-gateway).",
        )


@asynccontextmanager
async def reach(path: Path) -> AsyncIterator[Daemon | None]:
    """Connect to the gateway that listens at a socket; None if none does.

    Raises GatewayError if this user may not ask it, or what listens is no gateway.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(path), limit=LONGEST_RESPONSE)
    except PermissionError as error:
        raise GatewayError(
            f"a gateway may be running, and this user may not use its socket {path}",
            do="Use sudo, join the group edge-gateway, or give --direct to connect past it.",
        ) from error
    except OSError:
        yield None
        return
    try:
        daemon = Daemon(path, reader, writer)
        await daemon.greet()
        yield daemon
    finally:
        writer.transport.abort()


class RemoteLine:
    """A link of the daemon's, as a line: what is asked waits in the link's queue, among what the daemon asks."""

    def __init__(self, daemon: Daemon, link: str) -> None:
        self._daemon = daemon
        self._link = link

    async def connect(self, timeout: float) -> None:
        """Open the link unless it is open. Raises DeviceError."""
        await self._ask({"do": "connect", "timeout": timeout}, timeout)

    async def read(
        self, unit: int, table: Table, start: int, count: int, *, timeout: float, delay: float = 0.0
    ) -> Answer:
        """Read registers or coils; raises as a link of one's own does."""
        what = {"unit": unit, "table": table, "start": start, "count": count, "timeout": timeout, "delay": delay}
        answer = await self._ask({"do": "read", **what}, timeout + delay)
        return Answer(answer["ts"], bytes.fromhex(answer["payload"]), answer["refusal"], answer["took"])

    async def identify(self, unit: int, *, timeout: float, delay: float = 0.0) -> Mapping[int, str] | int:
        """Read a unit's identification, or give the exception code with which it refuses."""
        answer = await self._ask({"do": "identify", "unit": unit, "timeout": timeout, "delay": delay}, timeout + delay)
        if "refusal" in answer:
            return int(answer["refusal"])
        return {int(number): str(text) for number, text in answer["objects"].items()}

    def expect(self, unit: int, at: float) -> None:
        """Do nothing: the daemon knows its own polls."""

    def cycle(self, unit: int, busy_s: float, interval_s: float) -> None:
        """Do nothing: one read is no cycle."""

    def rest(self, unit: int) -> None:
        """Do nothing: the daemon closes what is to be closed when we leave."""

    @property
    def load(self) -> float:
        """Nothing is known of the line's load here."""
        return 0.0

    async def _ask(self, request: dict[str, Any], takes: float) -> dict[str, Any]:
        answer = await self._daemon.ask({**request, "link": self._link}, takes + _PATIENCE_S)
        if answer["ok"]:
            return answer
        code, text = str(answer.get("code")), str(answer.get("text"))
        if code == TIMEOUT:
            raise TimeoutError(text)
        if code == WRONG_ANSWER:
            raise WrongAnswer(text)
        raise DeviceError(text, reason=code, do=str(answer.get("do", "")))
