"""Buffer to broker, and acknowledgements back: one session after the other, under the supervisor."""

import asyncio
import contextlib
import secrets
from typing import Final

import orjson

from gateway.errors import PublishError
from gateway.model import Meta, MqttState
from gateway.publisher.connection import Connection
from gateway.publisher.feed import Feed, Outlet
from gateway.publisher.lessons import Lessons
from gateway.publisher.mqtt import ACK_TIMEOUT_S, MqttSession
from gateway.publisher.pace import Pace
from gateway.publisher.preference import FIRST_LOOK_S, Preference
from gateway.publisher.trials import Suspects
from gateway.publisher.way import Way, ways

RETRY_REFUSED_S: Final = 5.0
"""How long a topic is held back after the broker has refused it for the first time."""


class Publisher:
    """Sends what is on disk, live data first and the backlog beside it, and deletes what the broker acknowledged."""

    def __init__(
        self,
        feed: Feed,
        *,
        ack_timeout: float = ACK_TIMEOUT_S,
        retry_refused: float = RETRY_REFUSED_S,
        first_look: float = FIRST_LOOK_S,
    ) -> None:
        self._feed = feed
        self._ack_timeout = ack_timeout
        self._retry_refused = retry_refused
        self._connection: Connection | None = None
        self._preference = Preference(ways(feed.section), first_look)
        self._pace = Pace(feed.section.max_messages_per_second, feed.section.max_bytes_per_second)
        self._suspects = Suspects()
        self._lessons = Lessons(self._pace.quota, feed.component)
        for outlet in feed.outlets.values():
            self._follow(outlet)
        feed.component.listeners.append(self.look_again)

    def use(self, meta: Meta) -> None:
        """A device's samples are taken under this meta from now on; it is retained before the next of them is sent."""
        self._feed.outlets[meta.device].meta = meta
        if self._connection is not None:
            self._connection.announcements.meta_changed(meta)

    @property
    def boundary(self) -> int | None:
        """The last row that the present session sends as history; None without a session."""
        return None if self._connection is None else self._connection.boundary

    def look_again(self) -> None:
        """Something may have changed that health tells; the health message goes out if its `status` has."""
        if self._connection is not None:
            self._connection.announcements.look_again()

    async def run_session(self) -> None:
        """Connect and publish until the session ends. Raises PublishError.

        Where there are several brokers, it is the next one's turn, and the session ends, too, when a better one is
        back. When cancelled, it says `offline` and disconnects cleanly, within two seconds.
        """
        name = secrets.token_hex(4)
        way = self._preference.next()
        self._feed.component.address = way.address
        async with self._open(way, name) as session:
            self._preference.serves(way)
            self._feed.component.forget_refusals()
            self._feed.component.become(MqttState.CONNECTED)
            self._connection = Connection(
                self._feed, session, self._pace, self._suspects, name, retry_refused=self._retry_refused
            )
            loop = asyncio.get_running_loop()
            began = loop.time()
            try:
                await self._serve(self._connection, way)
            except PublishError as error:
                now = loop.time()
                self._lessons.learn(error, lasted=now - began, sent=session.sent, now=now)
                raise
            finally:
                self._connection = None

    async def _serve(self, connection: Connection, way: Way) -> None:
        """Let a connection publish until its session ends, or a better broker is back."""
        if not self._preference.better_than(way):
            await connection.run()  # which ends by an exception
        try:
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(connection.run(), name="mqtt: serve")
                better = await self._preference.until_back(way)
                serving.cancel()  # politely
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        text = f"{better.address} can be reached again, and is preferred to {way.address}"
        raise PublishError(text, state=MqttState.CONNECTING)

    async def drain(self, timeout: float) -> None:
        """Wait until all that is on disk has been acknowledged, but for what the broker refuses; at most so long."""
        if self._connection is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._connection.drained()

    def _open(self, way: Way, name: str) -> MqttSession:
        will = orjson.dumps({"state": "offline", "session": name, "reason": "lost"})
        section, topics = self._feed.section, self._feed.topics
        client_id = section.client_id or self._feed.gateway
        return MqttSession(way, client_id=client_id, will=(topics.status, will), ack_timeout=self._ack_timeout)

    def _follow(self, outlet: Outlet) -> None:
        def changed() -> None:
            if self._connection is not None:
                self._connection.announcements.device_changed(outlet.device)

        outlet.component.listeners.append(changed)
