"""What goes on while a session lasts: two lanes of data, announcements, acknowledgements, and their end."""

import asyncio
import contextlib
from typing import Final, NoReturn

from gateway.buffer.stored import FIRST, Stored
from gateway.config.mqtt import MqttSection
from gateway.errors import PublishError, StorageError
from gateway.model import MqttState
from gateway.publisher.announcements import Announcements
from gateway.publisher.component import too_much
from gateway.publisher.delivery import Delivery
from gateway.publisher.feed import Feed
from gateway.publisher.holds import Holds
from gateway.publisher.lanes import Lane
from gateway.publisher.mqtt import MqttSession
from gateway.publisher.pace import Pace
from gateway.publisher.payload import Message
from gateway.publisher.payload.json import messages
from gateway.publisher.reasons import PacketRefusedError, PublishRefusedError
from gateway.publisher.trials import Suspects, Trials
from gateway.publisher.window import Priority, Window

_LINE_BUSY_S: Final = 0.5
_SMALLEST_AIM: Final = 2048
_ALONE_S: Final = 300.0
"""How long messages go one by one at most, after the broker ended the session for one of several."""


class Connection:
    """One session at work. What was stored before it began is history: its own lane, and marked so."""

    def __init__(
        self, feed: Feed, session: MqttSession, pace: Pace, suspects: Suspects, name: str, *, retry_refused: float
    ) -> None:
        self._feed = feed
        self._session = session
        self.boundary, self._past = feed.rows.last_id, feed.rows.past
        grants, section = session.grants, feed.section
        self._pace, self._suspects = pace, suspects
        self._places = min(section.max_inflight, grants.receive_maximum)
        self._window = Window(1 if suspects.alone else self._places, self._observe, pace.admit)
        self._holds = Holds(self._retry, first=retry_refused)
        self._trials = Trials(suspects, self._holds, self._retry, self._refused)
        self._delivery = Delivery(
            session, self._window, feed.rows, self._holds, feed.component, self._trials, suspects, self._exceeded
        )
        self.announcements = Announcements(feed, session, self._window, name)
        self._backlog = self._lane(Priority.BACKLOG, after=FIRST, upto=self.boundary, patience=0.0)
        self._live = self._lane(Priority.LIVE, after=self.boundary, upto=None, patience=section.flush_interval)

    async def run(self) -> NoReturn:
        """Publish until the session ends. Raises PublishError. When cancelled, it leaves politely."""
        try:
            await self._work()
        except asyncio.CancelledError:
            await self._part()
            raise
        except ExceptionGroup as group:
            cause = _cause(group)
            if isinstance(cause, PacketRefusedError):
                self._suspects.blame(self._delivery.under_way)
            raise cause from group
        finally:
            self._holds.close()
            await self._delivery.close()
        raise AssertionError("a session ends by an exception")

    async def _part(self) -> None:
        await self._delivery.close()
        await self.announcements.farewell()

    async def drained(self) -> None:
        """Wait until all that is on disk now has been acknowledged, but for what the broker refuses."""
        newest = self._feed.rows.last_id
        self._live.hurry(True)
        try:
            await self._backlog.sent_to(self.boundary)
            await self._live.sent_to(newest)
            await self._window.until_empty()
        finally:
            self._live.hurry(False)

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._session.watch(), name="mqtt: watch")
            group.create_task(self._delivery.run(), name="mqtt: acknowledge")
            group.create_task(self._delivery.hurry(), name="mqtt: hurry")
            await self.announcements.greet()
            group.create_task(self.announcements.listen(), name="mqtt: listen")
            group.create_task(self.announcements.run(), name="mqtt: announce")
            group.create_task(self._live.run(), name="mqtt: live")
            group.create_task(self._backlog.run(), name="mqtt: backlog")
            group.create_task(self._watch_buffer(), name="mqtt: new rows")
            group.create_task(self._watch_past(), name="mqtt: rows from before")
            group.create_task(self._widen(), name="mqtt: widen")
            await self._retire()

    def _lane(self, priority: Priority, *, after: int, upto: int | None, patience: float) -> Lane:
        def pack(rows: list[Stored]) -> list[Message]:
            return messages(
                rows,
                gateway=self._feed.gateway,
                historical=priority is Priority.BACKLOG,
                max_bytes=self._feed.section.max_message_bytes,
                max_packet=self._session.grants.maximum_packet,
                aim=_aim(self._feed.section),
                compression=self._feed.section.compression,
                most=self._suspects.most,
            )

        return Lane(
            priority,
            self._feed.rows,
            self._holds,
            self._delivery,
            self._suspects,
            pack=pack,
            explain=self.announcements.explain,
            after=after,
            upto=upto,
            patience=patience,
        )

    async def _watch_buffer(self) -> None:
        seen = self.boundary
        while True:
            await self._feed.rows.wait(seen)
            seen = self._feed.rows.last_id
            self._live.wake()

    async def _watch_past(self) -> None:
        seen = self._past
        while True:
            await self._feed.rows.wait_for_past(seen)
            seen = self._feed.rows.past
            self._backlog.rewind()

    async def _retire(self) -> None:
        """Clear what is retained about devices that are gone, once their backlog is out."""
        if not self._feed.retired:
            return
        await self._backlog.sent_to(self.boundary)
        await self._delivery.until_settled(self.boundary)
        used = {outlet.topic for outlet in self._feed.outlets.values()}
        for topic in [topic for topic in self._feed.retired if topic not in self._holds.topics]:
            with contextlib.suppress(PublishRefusedError):
                if topic not in used:
                    await self.announcements.clear(topic)
                await self._feed.rows.retire_topic(topic)
                del self._feed.retired[topic]

    def _retry(self) -> None:
        self._backlog.rewind()
        self._live.rewind()

    def _refused(self, topic: str, error: PublishRefusedError) -> None:
        self._feed.component.refuse(topic, str(error))

    def _exceeded(self) -> None:
        self._pace.quota.exceeded(asyncio.get_running_loop().time())
        self._feed.component.alarm(too_much("the broker refuses messages for its quota", self._pace.quota))
        self._retry()

    def _observe(self, in_use: int) -> None:
        self._feed.component.inflight = in_use

    async def _widen(self) -> None:
        """Let more than one message go once no sample is suspected any more, or it shows no more: it was dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ALONE_S):
                while self._suspects.alone:
                    await self._delivery.until_some_settled()
        self._suspects.alone = False
        self._window.resize(self._places)


def _aim(section: MqttSection) -> int:
    """Say how large messages should become: on a slow line a large one would keep live data waiting."""
    if section.max_bytes_per_second is None:
        return section.max_message_bytes
    return min(section.max_message_bytes, max(_SMALLEST_AIM, int(section.max_bytes_per_second * _LINE_BUSY_S)))


def _cause(group: ExceptionGroup[Exception]) -> Exception:
    """Give the exception that ended a session: a bug before an error, since the other tasks' errors may follow it."""
    errors = list(_flat(group))
    bug = next((error for error in errors if not isinstance(error, PublishError | StorageError)), None)
    error = bug or errors[0]
    if isinstance(error, StorageError):
        return PublishError(f"the buffer cannot be read: {error}", state=MqttState.CONNECTING, do=error.do)
    return error


def _flat(group: ExceptionGroup[Exception]) -> list[Exception]:
    return [
        leaf for error in group.exceptions for leaf in (_flat(error) if isinstance(error, ExceptionGroup) else [error])
    ]
