"""The daemon's end of the control socket: who may connect, how many at once, and how long a line may be."""

import asyncio
import contextlib
import errno
import logging
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

from gateway.control.desk import Visit
from gateway.control.messages import (
    FULL,
    LONGEST_REQUEST,
    LONGEST_RESPONSE,
    TOO_LARGE,
    WRONG_REQUEST,
    WrongRequest,
    failure,
    parse,
    write,
)
from gateway.files import reason

log = logging.getLogger(__name__)

MODE: Final = 0o660
GROUP: Final = "edge-gateway"
MOST_CLIENTS: Final = 8
IDLE_S: Final = 600.0
"""After so long without a request a client is sent away: it may have hung."""


@asynccontextmanager
async def serve(path: Path, visit: Callable[[], Visit], *, expected: bool = True) -> AsyncIterator[bool]:
    """Answer on the socket for as long as the context is open; gives whether it could be opened.

    A gateway without it works all the same, so that what prevents it is a sentence in the log: a warning, unless
    nobody `expected` the socket and its folder is not there.
    """
    try:
        listening = listen(path)
    except OSError as error:
        is_unexpected = not expected and error.errno == errno.ENOENT
        log.log(
            logging.INFO if is_unexpected else logging.WARNING,
            "no control socket at %s: %s; commands will connect to PLCs by themselves",
            path, "its folder does not exist" if error.errno == errno.ENOENT else reason(error),
        )  # fmt: skip
        yield False
        return
    clients = _Clients(visit)
    server = await asyncio.start_unix_server(clients.serve, sock=listening, limit=LONGEST_REQUEST)
    inode = _inode(path)
    try:
        yield True
    finally:
        server.close()
        await clients.end()
        if _inode(path) == inode:
            path.unlink(missing_ok=True)  # noqa: ASYNC240 -- in /run, which is memory


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def listen(path: Path) -> socket.socket:
    """Take the socket: one that a gateway left behind is replaced, never one at which another answers.

    Raises OSError.
    """
    if _is_left_behind(path):
        path.unlink()
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        taken.bind(str(path))
        path.chmod(MODE)
        with contextlib.suppress(LookupError, PermissionError):
            shutil.chown(path, group=GROUP)
    except OSError:
        taken.close()
        raise
    return taken


def _is_left_behind(path: Path) -> bool:
    """Whether there is a socket at which nobody answers. Raises OSError (EADDRINUSE) if somebody does."""
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.settimeout(1.0)
        try:
            trial.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
    raise OSError(errno.EADDRINUSE, "another gateway answers there")


class _Clients:
    """Those who are connected: each is answered line by line."""

    def __init__(self, visit: Callable[[], Visit]) -> None:
        self._visit = visit
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client until it leaves, says something too long, or says nothing for too long."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            if len(self._tasks) > MOST_CLIENTS:
                text = f"{MOST_CLIENTS} commands are at work already"
                await _say(writer, failure(FULL, text, "Wait until one of them is done."))
                return
            with self._visit() as visit:
                while line := await _line(reader, writer):
                    try:
                        request = parse(line)
                    except WrongRequest as wrong:
                        await _say(writer, failure(WRONG_REQUEST, str(wrong)))
                    else:
                        await _say(writer, dict(await visit.answer(request)))
        except (ConnectionError, TimeoutError):
            pass  # it has left, or hangs: nobody is there to be told
        except asyncio.CancelledError:
            if not task.cancelling():
                raise
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def end(self) -> None:
        """Send everybody away."""
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Give the next line; nothing at the end. Raises TimeoutError."""
    try:
        async with asyncio.timeout(IDLE_S):
            line = await reader.readline()
    except ValueError:  # what `readline` makes of a line over the limit
        await _say(writer, failure(TOO_LARGE, f"a request has {LONGEST_REQUEST} bytes at most"))
        return b""
    return line if line.endswith(b"\n") else b""


async def _say(writer: asyncio.StreamWriter, message: dict[str, object]) -> None:
    line = write(message)
    if len(line) > LONGEST_RESPONSE:
        line = write(failure(TOO_LARGE, "the answer is too large", "Ask for fewer tags."))
    writer.write(line)
    await writer.drain()
