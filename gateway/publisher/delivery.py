"""Data messages on their way in one session: from a place in the window to the commit of their rows' deletion."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

from gateway.buffer.stored import Stored
from gateway.errors import StorageError
from gateway.publisher.component import BrokerComponent
from gateway.publisher.holds import Holds
from gateway.publisher.mqtt import MqttSession
from gateway.publisher.payload import Message
from gateway.publisher.payload.json import octets
from gateway.publisher.reasons import NO_MATCHING_SUBSCRIBERS, PublishRefusedError
from gateway.publisher.window import Priority, Window

_LAST_COMMIT_S: Final = 0.5

log = logging.getLogger(__name__)


class Rows(Protocol):
    """What the publisher needs of the buffer."""

    @property
    def last_id(self) -> int:
        """Id of the newest row on disk."""

    @property
    def past(self) -> int:
        """How often rows from before came in, which come before all others."""

    async def wait_for_past(self, seen: int) -> None:
        """Return when `past` is more than `seen`."""

    async def take(
        self, after: int, upto: int | None = None, *, readings: int = 5000, skip_topics: Collection[str] = ()
    ) -> list[Stored]:
        """Give rows that are not in flight, ascending; they are in flight then."""

    def release(self, ids: Iterable[int]) -> None:
        """Let `take` give these rows again."""

    async def reject(self, ids: Collection[int]) -> None:
        """Drop rows, with a gap record: the broker can never take them."""

    async def acknowledge(self, ids: Collection[int], *, soon: bool = False) -> None:
        """Delete rows; returns when that is on disk. Once called, it is done even if nobody waits any more."""

    async def wait(self, after: int) -> None:
        """Return when a row with id > `after` is on disk."""

    async def retire_topic(self, topic: str) -> None:
        """Forget a topic whose retained messages were cleared."""


class _Parts:
    """How many messages of a row are still to be acknowledged, and whether one was refused."""

    __slots__ = ("left", "refused", "total")

    def __init__(self) -> None:
        self.total = self.left = 0
        self.refused = False


class Delivery:
    """Keeps the promise that a row is deleted only when the broker has acknowledged every message that holds of it.

    A row of which a message was refused goes back to the buffer, and its topic is held back; `exceeded` is called
    instead where the broker refuses a message because of its quota.
    """

    def __init__(
        self,
        session: MqttSession,
        window: Window,
        rows: Rows,
        holds: Holds,
        component: BrokerComponent,
        exceeded: Callable[[], None],
    ) -> None:
        self._session = session
        self._window = window
        self._buffer = rows
        self._holds = holds
        self._component = component
        self._exceeded = exceeded
        self._open: dict[int, _Parts] = {}
        self._delivered: list[int] = []
        self._places = 0
        self._some_delivered = asyncio.Event()
        self._riding = asyncio.Event()
        self._settled = asyncio.Event()

    def expect(self, messages: Iterable[Message]) -> None:
        """Note the messages that rows were packed into, before the first of them is sent."""
        for message in messages:
            for row in message.rows:
                parts = self._open.setdefault(row, _Parts())
                parts.total, parts.left = parts.total + 1, parts.left + 1

    async def send(self, message: Message, priority: Priority) -> None:
        """Publish a message as soon as there is a place; what becomes of it is settled when its PUBACK comes."""
        await self._window.acquire(priority, octets(message.topic, message.payload))
        if message.topic in self._holds.topics:
            self._window.release()
            self._settle(message, delivered=False)
            return
        acknowledged = self._session.send(f"{message.topic}/data", message.payload, coding=message.coding)
        acknowledged.add_done_callback(lambda puback: self._on_puback(message, puback))

    def refuse(self, message: Message, error: PublishRefusedError) -> None:
        """Take back a message that the broker does not want, and hold its topic back."""
        self._component.refuse(message.topic, str(error))
        self._holds.hold(message.topic)
        self._settle(message, delivered=False)

    async def give_up(self, message: Message) -> None:
        """Drop a sample that is larger than any message the broker takes, so that it does not block the rest.

        Where other samples of its row came before it in messages of their own, the row waits, and so does its topic.
        """
        error = PublishRefusedError.too_large(f"{message.topic}/data", len(message.payload))
        (row,) = message.rows
        if self._open[row].total > 1:
            self.refuse(message, error)
            return
        log.warning("mqtt: given up, a gap record tells of it: %s", error)
        self._component.rejected += 1
        await self._buffer.reject([row])
        del self._open[row]
        self._settled.set()
        self._settled.clear()

    async def run(self) -> None:
        """Acknowledge to the buffer what the broker has acknowledged, in groups."""
        while True:
            await self._some_delivered.wait()
            self._some_delivered.clear()
            rows, self._delivered = self._delivered, []
            places, self._places = self._places, 0
            # With few places left it asks for a commit at once, else the deletion rides on the next one.
            self._riding.set()
            await self._buffer.acknowledge(rows, soon=self._window.is_tight)
            self._riding.clear()
            self._window.release(places)

    async def hurry(self) -> None:
        """Ask for a commit when places become scarce while a deletion waits for one."""
        while True:
            await self._riding.wait()
            await self._window.until_tight()
            await self._buffer.acknowledge((), soon=True)

    async def until_settled(self, upto: int) -> None:
        """Wait until no row with id <= `upto` is on its way."""
        while any(row <= upto for row in self._open):
            await self._settled.wait()

    async def close(self) -> None:
        """Delete what was acknowledged, and give the rest back to the buffer. The session is over."""
        delivered, self._delivered = self._delivered, []
        if delivered:
            with contextlib.suppress(TimeoutError, StorageError):
                async with asyncio.timeout(_LAST_COMMIT_S):
                    await self._buffer.acknowledge(delivered, soon=True)
        self._buffer.release(list(self._open))
        self._open.clear()

    def _on_puback(self, message: Message, puback: asyncio.Future[int]) -> None:
        error = puback.exception()
        if error is None:
            self._component.acknowledged(matched=puback.result() != NO_MATCHING_SUBSCRIBERS)
            self._component.accept(message.topic)
            self._holds.accept(message.topic)
            self._settle(message, delivered=True, places=1)
        elif isinstance(error, PublishRefusedError):
            self._component.rejected += 1
            self._window.release()
            if error.of_quota:
                self._settle(message, delivered=False)
                self._exceeded()
                return
            self.refuse(message, error)

    def _settle(self, message: Message, *, delivered: bool, places: int = 0) -> None:
        done: list[int] = []
        for row in message.rows:
            parts = self._open.get(row)
            if parts is None:  # given back meanwhile: the session is over
                continue
            parts.left -= 1
            parts.refused |= not delivered
            if not parts.left:
                del self._open[row]
                if parts.refused:
                    self._buffer.release([row])
                else:
                    done.append(row)
        self._settled.set()
        self._settled.clear()
        if done:
            self._delivered += done
            self._places += places
            self._some_delivered.set()
        else:
            # A row that needs more messages than the window has places must not wait for itself.
            self._window.release(places)
