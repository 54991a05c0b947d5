"""The publish loop that all subscriptions of a session share: requests out, answers in, in the order they came.

The library's own loop acknowledges a notification as soon as it has handed it on, and keeps one request
outstanding. This one keeps several, and acknowledges what it was told to, never more (OPC 10000-4 sections 5.14.1
and 5.14.5).
"""

import asyncio
from typing import Final, NamedTuple

from asyncua import ua
from asyncua.common.utils import Buffer

from gateway.drivers.opcua.faults import device_errors
from gateway.drivers.opcua.messages import Published, publish_response
from gateway.drivers.opcua.session import Session
from gateway.errors import DeviceError

_OUTSTANDING: Final = 3
"""PublishRequests that wait at the server: it can always send, also while an answer or a request is on its way."""
_MOST_OUTSTANDING: Final = 10


class Receipt(NamedTuple):
    """Names a notification: what an acknowledgement needs."""

    subscription: int
    sequence: int


class Publishing:
    """Keeps PublishRequests at the server. `acknowledgements` are taken along by the next that goes out."""

    def __init__(self, session: Session, acknowledgements: list[Receipt]) -> None:
        self.acknowledgements = acknowledgements
        self._session = session
        self._answers: asyncio.Queue[asyncio.Future[Buffer]] = asyncio.Queue()
        self._outstanding = 0
        self._most = _MOST_OUTSTANDING

    def request(self, subscriptions: int) -> None:
        """Top up the requests that wait at the server: one for each subscription, and never just one."""
        window = min(self._most, max(_OUTSTANDING, subscriptions + 1)) if subscriptions else 0
        while self._outstanding < window:
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements = [
                ua.SubscriptionAcknowledgement(*receipt) for receipt in self.acknowledgements
            ]
            answered = self._session.post(request)
            self.acknowledgements.clear()
            self._outstanding += 1
            answered.add_done_callback(self._arrived)

    @property
    def has_answers(self) -> bool:
        """Whether an answer waits to be taken."""
        return not self._answers.empty()

    async def next(self, until: float) -> Published | None:
        """Give the next message; None at that monotonic time, or where the server answered without a message.

        Raises DeviceError where the link or the session is lost, or no subscription is left.
        """
        try:
            async with asyncio.timeout_at(None if self.has_answers else until):
                answered = await self._answers.get()
        except TimeoutError:
            return None
        self._outstanding -= 1
        try:
            body = self._session.collect(answered)
        except DeviceError as error:
            if error.reason == "BadTooManyPublishRequests" and self._most > 1:
                self._most = min(self._most, self._outstanding + 1) - 1 or 1
                return None
            if error.reason == "BadTimeout":
                return None
            raise
        with device_errors(self._session.address):
            return publish_response(body)

    def _arrived(self, answered: "asyncio.Future[Buffer]") -> None:
        if not answered.cancelled():
            answered.exception()  # marks it as seen: nobody may be waiting any more
        self._answers.put_nowait(answered)
