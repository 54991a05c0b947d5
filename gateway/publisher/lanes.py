"""The two lanes of data: what is read now, and beside it the backlog, oldest first."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.buffer.stored import Stored
from gateway.model import Gap, Meta
from gateway.publisher.delivery import Delivery, Rows
from gateway.publisher.holds import Holds
from gateway.publisher.payload import Message
from gateway.publisher.reasons import PublishRefusedError
from gateway.publisher.trials import Suspects
from gateway.publisher.window import Priority

FULL_READINGS: Final = 5000
"""About as many readings as fill a message: no row waits for more."""


class Lane:
    """Takes rows with `after` < id <= `upto`, packs them, and sends the messages.

    `explain` publishes the meta that a message needs before it; `pack` makes messages of rows. `patience` is how
    long a row may wait, in seconds, for others to fill its message.
    """

    def __init__(
        self,
        priority: Priority,
        rows: Rows,
        holds: Holds,
        delivery: Delivery,
        suspects: Suspects,
        *,
        pack: Callable[[list[Stored]], list[Message]],
        explain: Callable[[Meta], Awaitable[None]],
        after: int,
        upto: int | None = None,
        patience: float = 0.0,
    ) -> None:
        self._priority = priority
        self._buffer = rows
        self._holds = holds
        self._delivery = delivery
        self._suspects = suspects
        self._pack = pack
        self._explain = explain
        self._start = self._cursor = after
        self._upto = upto
        self._patience = patience
        self._rewound = False
        self._hurries = False
        self._more = asyncio.Event()
        self._sent_to = after - 1
        self._pause = asyncio.Event()

    def wake(self) -> None:
        """There may be rows that were not there before."""
        self._more.set()

    def rewind(self) -> None:
        """There may be rows again that were passed over: those of a topic that was held back."""
        self._rewound = True
        self._more.set()

    def hurry(self, hurries: bool) -> None:
        """Wait no longer for rows that fill a message; or do so again."""
        self._hurries = hurries
        self._more.set()

    async def run(self) -> None:
        """Send for ever. Raises PublishError when the session is over."""
        while True:
            rows = await self._next()
            try:
                messages = self._pack(rows)
            except BaseException:
                self._buffer.release([row.id for row in rows])
                raise
            self._delivery.expect(messages)
            for message in messages:
                await self._send(message)

    async def sent_to(self, row: int) -> None:
        """Wait until everything up to a row's id has been sent, or waits because its topic is held back."""
        while self._sent_to < row:
            await self._pause.wait()

    async def _send(self, message: Message) -> None:
        if not message.fits or self._suspects.is_condemned(message):
            topic = f"{message.topic}/data"
            too_large = PublishRefusedError.too_large(topic, len(message.payload))
            self._delivery.give_up(message, PublishRefusedError.deadly(topic) if message.fits else too_large)
            return
        try:
            await self._explain(message.meta)
        except PublishRefusedError as error:
            self._delivery.refuse(message, error)
        else:
            await self._delivery.send(message, self._priority)

    async def _next(self) -> list[Stored]:
        rows = await self._take()
        while not rows:
            await self._more.wait()
            rows = await self._take()
        if self._patience:
            try:
                async with asyncio.timeout(self._patience):
                    await self._fill(rows)
            except TimeoutError:
                pass
            except BaseException:
                self._buffer.release([row.id for row in rows])
                raise
        return rows

    async def _fill(self, rows: list[Stored]) -> None:
        while sum(row.readings for row in rows) < FULL_READINGS and not any(map(_is_urgent, rows)):
            if self._hurries:
                return
            await self._more.wait()
            rows += await self._take()
            rows.sort(key=lambda row: row.id)  # what was refused meanwhile is taken again, and is older

    async def _take(self) -> list[Stored]:
        self._more.clear()
        if self._rewound:
            self._cursor, self._rewound = self._start, False
        newest = self._buffer.last_id if self._upto is None else self._upto
        rows = await self._buffer.take(
            self._cursor, self._upto, readings=FULL_READINGS, skip_topics=frozenset(self._holds.topics)
        )
        if rows:
            self._cursor = rows[-1].id
        else:
            # Past what is held back, too: it is looked for again only once its time has come (`rewind`).
            self._cursor = max(self._cursor, newest)
            self._sent_to = newest
            self._pause.set()
            self._pause.clear()
        return rows


def _is_urgent(row: Stored) -> bool:
    return any(isinstance(sample, Gap) or sample.quality for sample in row.samples)
