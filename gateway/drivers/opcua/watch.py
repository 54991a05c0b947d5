"""What a server says of its own health, asked as the session's liveness read (OPC 10000-5 sections 6.3.1, 12.10)."""

import asyncio
import time
from enum import IntEnum
from typing import Any, Final, NoReturn

from asyncua import ua
from asyncua.ua.object_ids import ObjectIds

from gateway.drivers.opcua.faults import CONNECTION_LOST
from gateway.drivers.opcua.limits import Limits
from gateway.drivers.opcua.session import Session, standard_node
from gateway.drivers.opcua.survey import read_basics
from gateway.errors import DeviceError

LOOK_S: Final = 5.0
"""Pause between two looks; the answer may take as long."""
_SILENT: Final = frozenset({"Failed", "NoConfiguration", "Suspended"})
"""States in which a server has no data to give (OPC 10000-5 section 12.6)."""
_SILENT_S: Final = 5.0
LOOK: Final = tuple(
    standard_node(number)
    for number in (
        ObjectIds.Server_ServerStatus_State,
        ObjectIds.Server_ServiceLevel,
        ObjectIds.Server_ServerStatus_CurrentTime,
        ObjectIds.Server_ServerStatus_SecondsTillShutdown,
    )
)


class Rank(IntEnum):
    """How far a server recommends itself (the sub-ranges of ServiceLevel, OPC 10000-4 section 6.6.2.4.2)."""

    MAINTENANCE = 0
    NO_DATA = 1
    DEGRADED = 2
    HEALTHY = 3


def rank_of(level: int | None) -> Rank:
    """Give the rank of a ServiceLevel; a server that tells none is taken as healthy."""
    if level is None or level >= 200:
        return Rank.HEALTHY
    return Rank(min(level, 2))


class Watch:
    """What the server last said of itself."""

    def __init__(self, session: Session, limits: Limits) -> None:
        self._session = session
        self._limits = limits
        self.state = "Running"
        self.service_level: int | None = None
        self.clock_offset_s: float | None = None
        self.shutdown_in_s: int | None = None

    @property
    def details(self) -> dict[str, Any]:
        """For health; what the server does not tell is left out."""
        found = {
            "server_state": self.state,
            "service_level": self.service_level,
            "clock_offset_s": self.clock_offset_s,
            "shutdown_in_s": self.shutdown_in_s,
        }
        return {name: value for name, value in found.items() if value is not None}

    async def look(self) -> None:
        """Ask once. Raises DeviceError when the link is dead."""
        begun = time.time()
        patience_s = max(LOOK_S, self._session.setup_timeout)
        state, level, clock, shutdown = await read_basics(self._session, self._limits, LOOK, patience_s)
        middle = (begun + time.time()) / 2
        self.state = _named(state)
        self.service_level = level if isinstance(level, int) else None
        self.clock_offset_s = round(clock / 1000 - middle, 3) if isinstance(clock, int) else None
        self.shutdown_in_s = shutdown if isinstance(shutdown, int) and self.state == "Shutdown" else None

    def judge(self) -> None:
        """Raise DeviceError if the server says that it has no data to give."""
        if self.state in _SILENT:
            raise DeviceError(
                f"{self._session.address} says that it is not running: {self.state}",
                reason="BadServerHalted",
                do="Start the server at the PLC, or load its configuration.",
                retry_after_s=_SILENT_S,
            )

    async def keep_looking(self) -> NoReturn:
        """Ask for ever: the server ends a session in which it hears nothing, and a PLC without power closes nothing."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(LOOK_S, self._session.lifetime_s / 3))
            begun = loop.time()
            try:
                await self.look()
            except DeviceError as error:
                if error.reason != CONNECTION_LOST or self._session.heard <= begun:
                    raise  # else a slow server, that answers others meanwhile, is no dead one
            self.judge()


def _named(state: object) -> str:
    """Give the name of a ServerState; a server that tells none, or an unknown one, is taken as running."""
    try:
        return ua.ServerState(state).name if isinstance(state, int) else "Running"
    except ValueError:
        return "Running"
