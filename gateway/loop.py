"""The event loop: asyncio's own, but for name look-ups that nobody need wait for."""

import asyncio
import contextlib
import socket
import threading
from typing import Any


class Loop(asyncio.SelectorEventLoop):
    """asyncio's selector loop; each name is looked up in a daemon thread of its own.

    asyncio uses its thread pool, which the program's end waits for: without a name server a look-up takes up to a
    minute (resolv.conf(5)), but SIGTERM must end the gateway within seconds.
    """

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
        found: asyncio.Future[list[tuple[Any, ...]]] = self.create_future()

        def settle(addresses: list[tuple[Any, ...]] | None, error: OSError | None) -> None:
            if found.done():  # cancelled: nobody wants the answer any more
                return
            if error is not None:
                found.set_exception(error)
            else:
                found.set_result(addresses or [])

        def look_up() -> None:
            addresses, failed = None, None
            try:
                addresses = socket.getaddrinfo(host, port, family, type, proto, flags)
            except OSError as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                self.call_soon_threadsafe(settle, addresses, failed)

        threading.Thread(target=look_up, name=f"look up {host!r}", daemon=True).start()
        return await found
