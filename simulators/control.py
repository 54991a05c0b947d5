"""The control channel: one JSON object a line in, one a line out, on a loopback port."""

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import ValidationError, validate_call

Commands = Mapping[str, Callable[..., Any]]
"""What may be asked of one device, by name. Methods of the simulators; their annotations say what they take."""


class ControlError(Exception):
    """The order cannot be carried out; the message says what to write instead."""


class Control:
    """Takes orders for devices: `{"device": "press-1", "do": "delay", "s": 2}`.

    The answer is `{"ok": true, "result": …}` or `{"ok": false, "error": "…"}`. `{"do": "help"}` lists what there is.
    """

    def __init__(self, devices: Mapping[str, Commands], *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.devices = devices
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._server is not None:
            self._server.close()
        talks = list(self._talks)
        for talk in talks:
            talk.cancel()
        if talks:
            await asyncio.wait(talks)

    async def carry_out(self, order: Mapping[str, Any]) -> Any:
        """Do what an order says and give its result.

        Raises:
            ControlError: no such device or command, or wrong arguments.
        """
        arguments = {**order}
        device, do = str(arguments.pop("device", "")), str(arguments.pop("do", ""))
        if do == "help" and not device:
            return {name: sorted(commands) for name, commands in self.devices.items()}
        if device not in self.devices:
            raise ControlError(f"no device {device!r}; there are {', '.join(self.devices)}")
        command = self.devices[device].get(do)
        if command is None:
            raise ControlError(f"{device} cannot {do!r}; it can {', '.join(self.devices[device])}")
        try:
            result = validate_call(command)(**arguments)
            return await result if inspect.isawaitable(result) else result
        except ValidationError as error:
            raise ControlError(f"{do}: {_first_sentence(error)}") from error
        except (ValueError, OSError) as error:
            raise ControlError(f"{do}: {error}") from error

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None  # noqa: S101 -- asyncio runs this in a task of its own
        self._talks.add(talk)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._reply(line)).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError, asyncio.CancelledError):
            pass  # who asked has gone, sends a line without end, or the simulators end: asyncio would log each
        finally:
            self._talks.discard(talk)
            writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, "result": await self.carry_out(_parse(line))}
        except ControlError as error:
            return {"ok": False, "error": str(error)}


async def send(port: int, order: Mapping[str, Any], host: str = "127.0.0.1") -> Any:
    """Send one order to running simulators and give its result.

    Raises:
        ControlError: they refuse the order, or nobody listens on the port.
    """
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise ControlError(f"no simulators take orders on {host}:{port}; start `python -m simulators` first") from error
    try:
        writer.write(json.dumps(order).encode() + b"\n")
        line = await reader.readline()
    finally:
        writer.close()
    if not line:
        raise ControlError("the simulators ended before they answered")
    reply = json.loads(line)
    if not reply["ok"]:
        raise ControlError(reply["error"])
    return reply["result"]


def _parse(line: bytes) -> dict[str, Any]:
    try:
        order = json.loads(line)
    except ValueError as error:
        raise ControlError(f"not JSON: {error}") from error
    if not isinstance(order, dict):
        raise ControlError('write an object such as {"device": "press-1", "do": "freeze"}')
    return order


def _first_sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}"
