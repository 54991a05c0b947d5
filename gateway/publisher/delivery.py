"""Data messages on their way in one session: from a place in the window to the commit of their rows' deletion."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final, Protocol

from gateway.buffer.dead_letters import Letter
from gateway.buffer.stored import Stored
from gateway.errors import StorageError
from gateway.publisher.component import BrokerComponent
from gateway.publisher.holds import Holds
from gateway.publisher.mqtt import MqttSession
from gateway.publisher.payload import Message
from gateway.publisher.payload.json import octets
from gateway.publisher.reasons import NO_MATCHING_SUBSCRIBERS, PublishRefusedError
from gateway.publisher.trials import Suspects, Trials
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

    def set_aside(self, row: int, letters: Sequence[Letter]) -> None:
        """Take out a row that the broker has, but for these letters; a gap record tells of them."""

    async def acknowledge(self, ids: Collection[int], *, soon: bool = False) -> None:
        """Delete rows; returns when that is on disk. Once called, it is done even if nobody waits any more."""

    async def wait(self, after: int) -> None:
        """Return when a row with id > `after` is on disk."""

    async def retire_topic(self, topic: str) -> None:
        """Forget a topic whose retained messages were cleared."""


class _Parts:
    """How many messages of a row are still to be settled, whether one came back, and what is never to be sent."""

    __slots__ = ("left", "letters", "refused")

    def __init__(self) -> None:
        self.left = 0
        self.refused = False
        self.letters: list[Letter] = []


class Delivery:
    """Keeps the promise that a row is deleted only when the broker has acknowledged every message that holds of it.

    A row of which a message was refused goes back to the buffer, to be tried again as `trials` finds; a sample that is
    refused for itself is set aside. `exceeded` is called where the broker refuses a message because of its quota.
    """

    def __init__(
        self,
        session: MqttSession,
        window: Window,
        rows: Rows,
        holds: Holds,
        component: BrokerComponent,
        trials: Trials,
        suspects: Suspects,
        exceeded: Callable[[], None],
    ) -> None:
        self._session = session
        self._window = window
        self._buffer = rows
        self._holds = holds
        self._component = component
        self._trials = trials
        self._suspects = suspects
        self._exceeded = exceeded
        self._open: dict[int, _Parts] = {}
        self._under_way: dict[int, Message] = {}
        self._delivered: list[int] = []
        self._places = 0
        self._some_delivered = asyncio.Event()
        self._riding = asyncio.Event()
        self._settled = asyncio.Event()

    def expect(self, messages: Iterable[Message]) -> None:
        """Note the messages that rows were packed into, before the first of them is sent."""
        for message in messages:
            for row in message.rows:
                self._open.setdefault(row, _Parts()).left += 1

    async def send(self, message: Message, priority: Priority) -> None:
        """Publish a message as soon as there is a place; what becomes of it is settled when its PUBACK comes."""
        await self._window.acquire(priority, octets(message.topic, message.payload))
        if message.topic in self._holds.topics:
            self._window.release()
            self._settle(message, delivered=False)
            return
        acknowledged = self._session.send(f"{message.topic}/data", message.payload, coding=message.coding)
        self._trials.sent(message.topic)
        self._under_way[id(message)] = message
        acknowledged.add_done_callback(lambda puback: self._on_puback(message, puback))

    @property
    def under_way(self) -> Sequence[Message]:
        """The messages that the broker has not answered."""
        return tuple(self._under_way.values())

    def refuse(self, message: Message, error: PublishRefusedError) -> None:
        """Take back a message whose meta the broker does not want, and hold its topic back."""
        self._component.refuse(message.topic, str(error))
        self._holds.hold(message.topic)
        self._settle(message, delivered=False)

    def give_up(self, message: Message, error: PublishRefusedError) -> None:
        """Set a sample aside that is not even to be sent, so that it does not block the rest."""
        self._set_aside(message, error)

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

    async def until_some_settled(self) -> None:
        """Wait until the next message is settled."""
        await self._settled.wait()

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
        if error is None or isinstance(error, PublishRefusedError):
            del self._under_way[id(message)]
        if error is None:
            self._component.acknowledged(matched=puback.result() != NO_MATCHING_SUBSCRIBERS)
            self._component.accept(message.topic)
            self._holds.accept(message.topic)
            self._settle(message, delivered=True, places=1)
            self._trials.taken(message)
        elif isinstance(error, PublishRefusedError):
            self._component.rejected += 1
            self._window.release()
            self._on_refusal(message, error)

    def _on_refusal(self, message: Message, error: PublishRefusedError) -> None:
        if error.of_quota:
            self._settle(message, delivered=False)
            self._trials.back(message.topic)
            self._exceeded()
        elif self._trials.is_hopeless(message):
            self._set_aside(message, error)
            self._trials.set_aside(message)
        else:
            self._settle(message, delivered=False)
            self._trials.refused(message, error)

    def _set_aside(self, message: Message, error: PublishRefusedError) -> None:
        (row,), letter = message.rows, message.letter
        if letter is not None and row in self._open:
            self._open[row].letters.append(replace(letter, why=str(error)))
        self._settle(message, delivered=True)

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
                    continue
                self._suspects.left(row)
                if parts.letters:
                    self._buffer.set_aside(row, parts.letters)
                    self._component.put_aside(len(parts.letters), parts.letters[-1].why)
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
