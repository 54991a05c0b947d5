"""A Modbus endpoint that takes Modbus TCP's frames as UDP datagrams: one request in each, one answer in each."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from simulators.modbus_endpoint import Endpoint
from simulators.modbus_framing import FramingError
from simulators.modbus_server import HOST
from simulators.modbus_units import Unit


class ModbusUdpSimulator(Endpoint):
    """Serves units on a loopback port. Port 0 takes a free one, and keeps it over `stop` and `start`."""

    def __init__(self, units: Sequence[Unit], *, host: str = HOST, port: int = 0) -> None:
        super().__init__(units)
        self.host = host
        self.port = port
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def where(self) -> dict[str, Any]:
        """Host and port."""
        return {"host": self.host, "port": self.port}

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=(self.host, self.port)
        )
        self.port = self._transport.get_extra_info("sockname")[1]

    async def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        await asyncio.sleep(0)  # the socket is closed in the loop's next turn


class _Datagrams(asyncio.DatagramProtocol):
    """What comes in, from whomever."""

    def __init__(self, simulator: ModbusUdpSimulator) -> None:
        self._simulator = simulator
        self._transport: asyncio.DatagramTransport | None = None
        self._clients: dict[Any, _Client] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # asyncio types it as any transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self._transport is None:
            return
        if addr not in self._clients:
            self._clients[addr] = _Client(self._transport, addr)
            self._simulator.connections += 1
        try:
            request = self._simulator.framing.take(bytearray(data))
        except FramingError:
            return  # nothing to be answered
        if request is not None:
            self._simulator.take(request, self._clients[addr])


class _Client:
    """One address from which requests come."""

    def __init__(self, transport: asyncio.DatagramTransport, address: Any) -> None:
        self.due = 0
        self._transport = transport
        self._address = address

    @property
    def is_gone(self) -> bool:
        return self._transport.is_closing()

    def send(self, octets: bytes) -> None:
        self._transport.sendto(octets, self._address)

    def close(self) -> None:
        """There is no connection."""
