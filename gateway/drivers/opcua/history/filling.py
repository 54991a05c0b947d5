"""Reading back, behind the live data: a few nodes a request, a pause between requests, the next once all is on disk."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from asyncua import ua

from gateway.drivers.base import Notification
from gateway.drivers.opcua.faults import CONNECTION_LOST, device_errors
from gateway.drivers.opcua.history.merging import Merge, Track, grouped
from gateway.drivers.opcua.history.seams import Hole, holes_of, milliseconds
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.drivers.opcua.messages import Kept, history_response
from gateway.drivers.opcua.types.values import DataValue, status_name
from gateway.errors import DeviceError
from gateway.model import Bookmark, Gap, Sample

if TYPE_CHECKING:
    from gateway.drivers.opcua.connection import Connection

INCOMPLETE: Final = "history-incomplete"
"""The reason of a gap: between `from` and `to`, the server's history has nothing of `tags`; `status` says why."""
_NODES: Final = 10
_VALUES: Final = 200
"""Of each node: an answer of 2000 values is taken apart in a few ms, in which nothing else runs."""
_MOST_VALUES: Final = 10_000
_SETTLE_S: Final = 1.0
"""After a hole has opened: live data first, and historians write what they have just been given."""
_PAUSE_S: Final = 0.1
_LOOK_S: Final = 10.0
_RETRY_S: Final = (5.0, 15.0, 60.0, 300.0)
_NO_DATA: Final = "no-data"
_EMPTY: Final = frozenset({"BadNoData", "BadBoundNotFound"})
"""Statuses of a node that has nothing in the asked range; it may have something of another hole."""
_LATER: Final = frozenset(
    {
        CONNECTION_LOST,
        "BadTimeout",
        "BadNoContinuationPoints",
        "BadContinuationPointInvalid",
        "BadResourceUnavailable",
        "BadOutOfMemory",
        "BadTooManyOperations",
        "BadServerTooBusy",
        "BadTcpServerTooBusy",
        "BadNoCommunication",
        "BadCommunicationError",
        "BadRequestTimeout",
        "BadRequestInterrupted",
        "BadInternalError",
    }
)
"""What may pass: it is tried again, some times. Any other refusal holds for the rest of the connection."""


def fill_holes(connection: "Connection") -> AsyncIterator[Notification]:
    """Give what the server kept of each hole, for as long as the connection lasts. A server's refusal is a gap."""
    return _Filling(connection).run()


class _Filling:
    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._columns = {tag.name: column for column, tag in enumerate(connection.section.tags)}
        self._refused: dict[str, str] = {}
        self._failures = 0
        self._tries: Counter[str] = Counter()
        self._most_nodes = _NODES
        self._most_values = _VALUES

    async def run(self) -> AsyncIterator[Notification]:
        seams = self._connection.seams
        if seams.gone:
            yield Notification((), bookmarks=seams.gone)
        while seams.watched:
            holes = holes_of(self._connection.bookmarks())
            if not holes:
                await self._wait()
            await asyncio.sleep(_SETTLE_S)
            failures = self._failures
            async for notification in self._fill(holes):
                yield notification
            if self._failures > failures:
                await asyncio.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])

    async def _wait(self) -> None:
        """Wait for a hole; one may have opened while the last were filled."""
        opened = self._connection.seams.opened
        try:
            async with asyncio.timeout(_LOOK_S):
                await opened.wait()
        except TimeoutError:
            return
        opened.clear()

    async def _fill(self, holes: Sequence[Hole]) -> AsyncIterator[Notification]:
        for group in grouped([hole for hole in holes if hole.tag not in self._refused], self._most_nodes):
            # What one group was refused, the next need not ask.
            merge = Merge([hole for hole in group if hole.tag not in self._refused])
            try:
                async for notification in self._merged(merge):
                    yield notification
            except DeviceError as error:
                # What went wrong with this request may go right with another; what this server cannot do, it cannot.
                self._failed(error.reason, [hole.tag for hole in (group if error.reason in _LATER else holes)])
                break
        if gaps := self._refusals():
            yield gaps

    async def _merged(self, merge: Merge) -> AsyncIterator[Notification]:
        while tracks := merge.asks():
            await asyncio.sleep(_PAUSE_S)
            most = self._most_values
            kept = await self._ask(tracks, most)
            for track, answer in zip(tracks, kept, strict=True):
                reason = status_name(answer.status)
                if answer.status >> 30 and reason not in _EMPTY:
                    merge.drop(track)
                    self._failed(reason, [track.hole.tag])
                elif not track.add(answer.values, answer.continuation, most):
                    self._crowded(merge, track)
            left_over = [track for track in tracks if track.continuation and not track.more]
            if left_over:
                await self._request(left_over, 0, release=True)
            yield await self._notification(*merge.take())

    def _failed(self, reason: str, tags: Sequence[str]) -> None:
        """Note a refusal of these tags: for good, or for the time being."""
        self._tries.update(tags)
        given_up = [tag for tag in tags if reason not in _LATER or self._tries[tag] > len(_RETRY_S)]
        self._refused |= dict.fromkeys(given_up, reason)
        if len(given_up) < len(tags):
            self._failures += 1
        if reason == "BadNoContinuationPoints":
            self._most_nodes = 1

    def _crowded(self, merge: Merge, track: Track) -> None:
        """A page full of one instant: larger pages are asked for, up to what can be taken apart in one go."""
        if self._most_values < _MOST_VALUES:
            self._most_values *= 2
        else:
            merge.drop(track)
            self._failed("too-many-values", [track.hole.tag])

    async def _ask(self, tracks: Sequence[Track], most: int) -> list[Kept]:
        """Ask anew, or go on at the server's continuation points: one request is either."""
        limits = self._connection.server.limits
        ask = partial(self._request, most=most)
        fresh = [track for track in tracks if not track.continuation]
        going_on = [track for track in tracks if track.continuation]
        answers = dict(zip(fresh, await in_chunks(limits, Service.HISTORY, fresh, ask), strict=True))
        answers |= zip(going_on, await in_chunks(limits, Service.HISTORY, going_on, ask), strict=True)
        return [answers[track] for track in tracks]

    async def _request(self, tracks: Sequence[Track], most: int, *, release: bool = False) -> list[Kept]:
        """Send one HistoryRead for raw values (OPC 10000-11 section 6.5.3). Raises DeviceError."""
        session, nodes = self._connection.session, self._connection.nodes
        parameters = ua.HistoryReadParameters(
            HistoryReadDetails=ua.ReadRawModifiedDetails(
                IsReadModified=False,
                StartTime=_instant(min(track.position for track in tracks)),
                EndTime=_instant(max(track.hole.end for track in tracks) + 9),
                NumValuesPerNode=most,
                ReturnBounds=True,
            ),
            TimestampsToReturn=ua.TimestampsToReturn.Both,
            ReleaseContinuationPoints=release,
        )
        parameters.NodesToRead = [
            ua.HistoryReadValueId(
                NodeId=nodes[self._columns[track.hole.tag]] or ua.NodeId(),
                ContinuationPoint=track.continuation or None,
            )
            for track in tracks
        ]
        body = await session.ask_in_background(ua.HistoryReadRequest(Parameters=parameters), session.setup_timeout)
        with device_errors(session.address):
            return history_response(body)

    async def _notification(
        self,
        values: Sequence[tuple[str, DataValue]],
        marks: dict[str, Bookmark | None],
        missing: Sequence[tuple[str, int, int]],
    ) -> Notification:
        gaps = [_gap([tag], begin, end, _NO_DATA) for tag, begin, end in missing]
        readings = [(self._columns[tag], value) for tag, value in values]
        return Notification(await self._in_samples(readings), tuple(gaps), bookmarks=marks)

    async def _in_samples(self, readings: Sequence[tuple[int, DataValue]]) -> tuple[Sample, ...]:
        samples = await self._connection.samples(readings, time.time_ns() // 1_000_000)
        return tuple(sample._replace(origin="history") for sample in samples)

    def _refusals(self) -> Notification | None:
        """Tell of all holes that the server will not fill, once, and forget them."""
        holes = [hole for hole in holes_of(self._connection.bookmarks()) if hole.tag in self._refused]
        by_status: dict[str, list[Hole]] = {}
        for hole in holes:
            by_status.setdefault(self._refused[hole.tag], []).append(hole)
        gaps = [
            _gap([hole.tag for hole in some], min(h.reached for h in some), max(h.end for h in some), status)
            for status, some in by_status.items()
        ]
        return Notification((), tuple(gaps), bookmarks={hole.bookmark: None for hole in holes}) if gaps else None


def _gap(tags: Sequence[str], begin: int, end: int, status: str) -> Gap:
    fields = {"tags": sorted(set(tags)), "from": milliseconds(begin), "to": milliseconds(end), "status": status}
    return Gap(time.time_ns() // 1_000_000, INCOMPLETE, fields)


def _instant(ticks: int) -> datetime:
    """Give ticks as the library takes them, rounded down to a microsecond."""
    return datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10)
