"""The event loop: asyncio's own, but for name look-ups that nobody need wait for."""

import asyncio
import contextlib
import socket
import threading
from typing import Any


class Loop(asyncio.SelectorEventLoop):
    """asyncio's selector loop; names are looked up in daemon threads, one a question that is open.

    asyncio uses its thread pool, which the program's end waits for: without a name server a look-up takes up to a
    minute (resolv.conf(5)), but SIGTERM must end the gateway within seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asked: dict[tuple[Any, ...], asyncio.Future[list[tuple[Any, ...]]]] = {}

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 -- the name that asyncio gave it
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, ...]]:
        """Look a name up. Raises OSError (socket.gaierror) if there is no such name, or nobody to ask."""
        question = (host, port, family, type, proto, flags)
        asked = self._asked.get(question)
        if asked is None:
            asked = self.create_future()
            threading.Thread(target=self._look_up, args=(question, asked), name="look up", daemon=True).start()
            self._asked[question] = asked
            asked.add_done_callback(lambda answered: self._forget(question, answered))
        # Whoever gives up leaves the question to the others, and to himself when he comes back.
        return await asyncio.shield(asked)

    def _look_up(self, question: tuple[Any, ...], asked: asyncio.Future[list[tuple[Any, ...]]]) -> None:
        addresses, failed = None, None
        try:
            addresses = socket.getaddrinfo(*question)
        except OSError as error:
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            self.call_soon_threadsafe(_settle, asked, addresses, failed)

    def _forget(self, question: tuple[Any, ...], answered: asyncio.Future[list[tuple[Any, ...]]]) -> None:
        del self._asked[question]
        if not answered.cancelled():
            answered.exception()  # retrieved, though perhaps nobody waits for it any more


def _settle(
    asked: asyncio.Future[list[tuple[Any, ...]]], addresses: list[tuple[Any, ...]] | None, error: OSError | None
) -> None:
    if asked.done():
        return
    if error is not None:
        asked.set_exception(error)
    else:
        asked.set_result(addresses or [])
