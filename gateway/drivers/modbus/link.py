"""The way to one Modbus TCP endpoint, shared by all units behind it: whoever asks waits for his turn."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.drivers.base import Shared
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.connection import Answer, Connection
from gateway.drivers.modbus.section import ModbusDevice
from gateway.errors import DeviceError
from gateway.hosts import join


class ModbusLink:
    """One connection at most, opened when a request needs it, with one request in flight; first come, first served.

    `users` counts the devices that hold the link.
    """

    def __init__(self, host: str, port: int) -> None:
        self.users = 0
        self._host = host
        self._port = port
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._rested_at = 0.0

    def __repr__(self) -> str:
        state = "open" if self._connection is not None and self._connection.is_usable else "closed"
        return f"<ModbusLink {join(self._host, self._port)}, {state}, {self.users} users>"

    async def connect(self, timeout: float) -> None:
        """Open the connection unless it is open. Raises DeviceError (`connection-lost`) if it cannot be.

        `timeout` is what the endpoint may take, in seconds, not counting those who were first.
        """
        async with self._turn:
            await self._connected(timeout)

    async def read(
        self, unit: int, table: Table, start: int, count: int, *, timeout: float, delay: float = 0.0
    ) -> Answer:
        """Read `count` registers or coils of a unit from `start` on, `delay` seconds or more after the last answer.

        `timeout` is what the unit may take, in seconds, once it is asked; an exception response is an answer.
        Raises TimeoutError if nothing came (the connection stays, unless nothing came the time before either),
        WrongAnswer if something else came, and DeviceError (`connection-lost`) if there is no connection or it ended.
        """
        async with self._turn:
            await self._rest(delay)
            connection = await self._connected(timeout)
            try:
                return await connection.read(unit, table, start, count, timeout)
            except DeviceError:
                if not connection.has_answered or connection is not self._connection:
                    raise
                # A PLC may close a connection that it served well, as idle, just while the next request is under way.
                connection = await self._connected(timeout)
                return await connection.read(unit, table, start, count, timeout)
            finally:
                self._rested_at = asyncio.get_running_loop().time()

    def expect(self, unit: int, at: float) -> None:
        """Note when a unit's next poll is due."""

    def cycle(self, unit: int, busy_s: float, interval_s: float) -> None:
        """Note how long a poll kept the line busy."""

    def rest(self, unit: int) -> None:
        """Note that a unit's poll is over."""

    @property
    def load(self) -> float:
        """The share of the line's time that its units need."""
        return 0.0

    def close(self) -> None:
        """Close the connection, if there is one; a request in flight fails."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _rest(self, delay: float) -> None:
        remaining = self._rested_at + delay - asyncio.get_running_loop().time()
        if delay and remaining > 0:
            await asyncio.sleep(remaining)

    async def _connected(self, timeout: float) -> Connection:
        if self._connection is None or not self._connection.is_usable:
            self.close()
            self._connection = await Connection.open(self._host, self._port, timeout)
        return self._connection


@contextmanager
def shared_link(shared: Shared, section: ModbusDevice) -> Iterator[ModbusLink]:
    """Join the link to a device's line or endpoint, or make it; the last to leave closes it."""
    key = section.link_key
    host, port = section.endpoints[0]  # type: ignore[attr-defined]
    link: ModbusLink = shared.links.setdefault(key, ModbusLink(host, port))
    link.users += 1
    try:
        yield link
    finally:
        link.users -= 1
        if not link.users:
            del shared.links[key]
            link.close()
