"""What the tests of history share: a server that keeps history, and a gateway that is started, stopped and killed."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncua
from asyncua.server.history import HistoryDict, HistoryManager
from opcua_peer import BOUND_S, NAMESPACE, Peer, section

from gateway.drivers.opcua.section import OpcuaDevice
from gateway.model import Gap, Sample
from tests.poller_line import Line, line

ua: Any = asyncua.ua
BEGIN = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def at(number: float) -> datetime:
    """Give the time at which value `number` is born: one each 10 ms."""
    return BEGIN + timedelta(milliseconds=10 * number)


class Archive(HistoryManager):
    """The history of another make, which can be told to refuse, and says what it was asked."""

    def __init__(self, iserver: Any) -> None:
        super().__init__(iserver)
        self.refusals: dict[str, int] = {}
        self.asked: list[list[str]] = []
        self.released = 0

    @property
    def dictionary(self) -> HistoryDict:
        return cast("HistoryDict", self.storage)

    async def read_history(self, params: Any) -> Any:
        self.asked.append([wanted.NodeId.Identifier for wanted in params.NodesToRead])
        if params.ReleaseContinuationPoints:
            self.released += len(params.NodesToRead)
            return [ua.HistoryReadResult() for _ in params.NodesToRead]
        results = await super().read_history(params)
        for wanted, result in zip(params.NodesToRead, results, strict=True):
            if status := self.refusals.get(wanted.NodeId.Identifier):
                result.StatusCode = ua.StatusCode(status)
                result.HistoryData, result.ContinuationPoint = ua.HistoryData(), None
        return results


class Plc:
    """A PLC that keeps what its variables were, whoever listens."""

    def __init__(self, peer: Peer, archive: Archive) -> None:
        self.peer = peer
        self.archive = archive

    async def add(self, *names: str) -> None:
        for name in names:
            await self.peer.add(**{name: 0})
            self.archive.dictionary._datachanges[ua.NodeId(name, self.peer.index)] = []
            await self.set(name, 0)

    def keep(self, name: str, number: int, ts: datetime | None = None, status: int = 0) -> None:
        """Let history have a value that the variable may never have shown."""
        value = ua.DataValue(
            ua.Variant(number), ua.StatusCode(status), SourceTimestamp=ts or at(number), ServerTimestamp=at(number)
        )
        self.archive.dictionary._datachanges[ua.NodeId(name, self.peer.index)].append(value)

    async def set(self, name: str, number: int, ts: datetime | None = None) -> None:
        self.keep(name, number, ts)
        await self.peer.write(name, number, ts=ts or at(number))

    async def run(self, name: str, numbers: Iterable[int]) -> None:
        for number in numbers:
            await self.set(name, number)


@asynccontextmanager
async def archived(peer: Peer, response: int = 10_000) -> AsyncIterator[Plc]:
    """Give the peer a history, of which one response holds so many values."""
    before = peer.server.iserver.history_manager
    archive = peer.server.iserver.history_manager = Archive(peer.server.iserver)
    archive.set_storage(HistoryDict(max_history_data_response_size=response))
    yield Plc(peer, archive)
    peer.server.iserver.history_manager = before


def device(peer: Peer, *names: str, mode: str = "subscribe", **keys: Any) -> OpcuaDevice:
    tags = [{"name": name, "node": f"nsu={NAMESPACE};s={name}", "queue": 1000} for name in names]
    return section(peer, tags, **{"mode": mode, "interval": "50ms", "history": True, **keys})


@asynccontextmanager
async def gateway(folder: Path, device: OpcuaDevice) -> AsyncIterator[Line]:
    """Run a gateway for the device, from the buffer that the folder has."""
    async with line(folder, cast("Any", device)) as on:
        yield on


def killed(folder: Path, after: Path) -> Path:
    """Give what the disk has of a running gateway at this moment, as a kill would leave it."""
    after.mkdir()
    for file in sorted(folder.glob("buffer.db*"), reverse=True):
        if not file.name.endswith("-shm"):
            shutil.copy(file, after / file.name)
    return after


async def until(on: Line, fits: Callable[[list[Sample | Gap]], bool]) -> list[Sample | Gap]:
    """Wait until what is on disk fits."""
    rows: list[Sample | Gap] = []
    async with asyncio.timeout(BOUND_S):
        while not fits(rows := await on.stored("plc")):
            await asyncio.sleep(0.01)
    return rows


def numbers(rows: Iterable[Sample | Gap], origin: str | None = "any", column: int = 0) -> list[Any]:
    """Give the values of a column, in the order in which they were stored; of one origin."""
    return [
        sample.values[sample.columns.index(column)]
        for sample in rows
        if isinstance(sample, Sample) and column in sample.columns and origin in ("any", sample.origin)
    ]


def incomplete(rows: Iterable[Sample | Gap]) -> list[dict[str, Any]]:
    return [dict(row.fields) for row in rows if isinstance(row, Gap) and row.reason == "history-incomplete"]


def has(*wanted: int, column: int = 0) -> Callable[[list[Sample | Gap]], bool]:
    """Fit once all of these are there."""
    return lambda rows: set(wanted) <= set(numbers(rows, column=column))


def history_marks(on: Line) -> list[str]:
    """Give the names of the bookmarks that tell of history; a subscription has others."""
    return sorted(name for name in on.buffer.bookmarks("plc") if name.startswith(("at:", "hole:", "read:")))
