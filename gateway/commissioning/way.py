"""The way of a command to a PLC: over the running gateway's own link where it has one, else a link of its own."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from gateway.control.client import Daemon, RemoteLine, reach
from gateway.control.messages import name_of
from gateway.drivers.base import Shared
from gateway.drivers.modbus.device import Line
from gateway.drivers.modbus.link import shared_link
from gateway.drivers.modbus.section import ModbusDevice


class NamingLine(Line, Protocol):
    """A line over which a unit can be asked for its identification, too."""

    async def identify(self, unit: int, *, timeout: float, delay: float = 0.0) -> Mapping[int, str] | int:
        """Ask with 43/14; gives the exception code of a unit that refuses."""


@dataclass(frozen=True, slots=True)
class Way:
    """An open way. `gateway` is the id of the running gateway that it goes through; None for a link of its own."""

    line: NamingLine
    gateway: str | None
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say which way it is, for a person."""
        if self.gateway is None:
            return "over a connection of its own"
        others = ", ".join(self.devices)
        return f"through the running gateway {self.gateway}, in the queue of the link that it reads {others} over"


@asynccontextmanager
async def way_to(section: ModbusDevice, socket: Path | None) -> AsyncIterator[Way]:
    """Open the way to a device; `socket` is where a gateway may listen, None to connect past it.

    Raises GatewayError if there is a gateway that this user may not ask, DeviceError if the device is not reached.
    """
    if socket is not None:
        async with reach(socket) as daemon:
            found = _link_of(section, daemon.devices) if daemon is not None else None
            if daemon is not None and found is not None:
                yield _remote(daemon, found)
                return
    with shared_link(Shared("command"), section) as link:
        yield Way(link, None)


def _remote(daemon: Daemon, link: str) -> Way:
    names = tuple(str(device["name"]) for device in daemon.devices if device["link"] == link)
    return Way(RemoteLine(daemon, link), daemon.gateway, names)


def _link_of(section: ModbusDevice, devices: list[Mapping[str, Any]]) -> str | None:
    """Name the gateway's link to the same line or endpoint, whatever else it is configured with."""
    links = [str(device["link"]) for device in devices if device.get("link")]
    if name_of(section.link_key) in links:
        return name_of(section.link_key)
    return next((link for link in links if _places(section) & _places_of(json.loads(link))), None)


def _places(section: ModbusDevice) -> set[tuple[str, ...]]:
    return _places_of(json.loads(name_of(section.link_key)))


def _places_of(key: list[Any]) -> set[tuple[str, ...]]:
    """Give the protocol with each endpoint of a link, or with its port under whatever name."""
    protocol, where = key[0], key[1]
    if isinstance(where, str):
        return {(protocol, os.path.realpath(where))}
    return {(protocol, str(host).lower(), str(port)) for host, port in where}
