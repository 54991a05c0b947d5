"""The clients of the local endpoint: only so many at once, and none that dawdles."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

MAX_CLIENTS: Final = 64
PATIENCE_S: Final = 20.0
MAX_LINE_BYTES: Final = 4096
"""Of the request line, and of each header."""

_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    b'{"error": "Too many clients at once. Try again in a minute."}\n'
)

log = logging.getLogger(__name__)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record tells of a bug here; a request that is not HTTP is its sender's, and could flood the log."""
    return record.exc_info is None or not isinstance(record.exc_info[1], HttpProcessingError)


log.addFilter(_is_ours)


class Clients:
    """The open connections, each with the moment at which it is cut off.

    A connection has `patience` seconds to bring its next request and to take the answer, however slowly its bytes go.
    """

    def __init__(self, answer: Answer, *, limit: int = MAX_CLIENTS, patience: float = PATIENCE_S) -> None:
        self._answer = answer
        self._limit = limit
        self._patience = patience
        self._deadlines: dict[web.RequestHandler, float] = {}
        self.server = web.Server(
            self._heard,
            access_log=None,
            keepalive_timeout=patience,
            logger=log,
            max_field_size=MAX_LINE_BYTES,
            max_line_size=MAX_LINE_BYTES,
        )

    def accept(self) -> asyncio.Protocol:
        """Give the protocol for a new connection: HTTP, or a short refusal where there are too many."""
        return self.server() if len(self.server.connections) < self._limit else _Refusal()

    async def _heard(self, request: web.BaseRequest) -> web.StreamResponse:
        self._deadlines[request.protocol] = asyncio.get_running_loop().time() + self._patience
        return await self._answer(request)

    def cut_off_the_slow(self) -> None:
        """End the connections whose time is over; to be called again and again."""
        now = asyncio.get_running_loop().time()
        known = self._deadlines
        self._deadlines = {each: known.get(each, now + self._patience) for each in self.server.connections}
        for connection, deadline in self._deadlines.items():
            if now > deadline and connection.transport is not None:
                connection.transport.abort()


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 -- what a stream protocol always gets
        transport.write(_BUSY)
        transport.close()
