"""What can be wrong with single nodes of the simulated robot, and with the clock that stamps them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from simulators.opcua_faults import status_code
from simulators.opcua_space import RobotSpace
from simulators.opcua_status import Level, ServerStatus, State
from simulators.robot import VARIABLES, Robot, Value, Variable


class RobotNodes(ABC):
    """A robot's values as its server shows them: the robot's own, but for what a test wants otherwise."""

    def __init__(self, robot: Robot, clock: Callable[[], datetime]) -> None:
        self.robot = robot
        self.statuses: dict[str, str] = {}
        self.says = ServerStatus()
        self._clock = clock
        self._nan: set[str] = set()

    @property
    @abstractmethod
    def space(self) -> RobotSpace | None:
        """The address space, if there is one."""

    async def publish(self) -> None:
        """Write the robot's values to their nodes, all with one source timestamp."""
        if self.space is None:
            return
        now = self._clock()
        source, server = self.says.source_time(now), self.says.server_time(now)
        for variable in VARIABLES:
            status = self.statuses.get(variable.path, "Good")
            await self.space.write(variable, self._shown(variable), status, source, server)
        await self.space.write_shaped(self.robot, source, server)
        await self.says.show(self.space.server, now)

    async def status(self, node: str, status: str = "Good") -> None:
        """Give a node a status code by its name, such as BadSensorFailure or UncertainLastUsableValue.

        Raises:
            ValueError: no such node, or no such status code.
        """
        _known(node)
        status_code(status)
        self.statuses[node] = status
        await self.publish()

    async def nan(self, node: str, on: bool = True) -> None:
        """Make a Float or Double node NaN, or end it.

        Raises:
            ValueError: no such node, or it is not a Float or Double.
        """
        if _known(node).type not in ("Float", "Double"):
            raise ValueError(f"{node} is not a Float or Double")
        self._nan = self._nan | {node} if on else self._nan - {node}
        await self.publish()

    async def remove(self, node: str) -> None:
        """Delete a node, as the download of a new PLC program does; subscribers first see BadNodeIdUnknown.

        Raises:
            ValueError: no such node.
        """
        variable = _known(node)
        if self.space is not None:
            now = self._clock()
            await self.space.remove(variable, self.says.source_time(now), self.says.server_time(now))

    async def restore(self, node: str) -> None:
        """Make a removed node again. Subscriptions to the old one stay dead.

        Raises:
            ValueError: no such node.
        """
        variable = _known(node)
        if self.space is not None:
            await self.space.add(variable)
            await self.publish()

    async def clock_error(self, offset_s: float = 0.0, zone: str | None = None) -> None:
        """Let all timestamps be wrong by so many seconds, and those of values be local time, such as Europe/Oslo.

        Raises:
            ValueError: no such time zone.
        """
        try:
            if zone is not None:
                ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{zone!r} is not a time zone; write for example Europe/Oslo") from error
        self.says.offset_s, self.says.zone = offset_s, zone
        await self.publish()

    async def service_level(self, level: Level) -> None:
        """Set the ServiceLevel: 0 maintenance, 1 no data, 2 to 199 degraded, up to 255 healthy."""
        self.says.level = level
        await self.publish()

    async def server_state(self, state: State = "Running", seconds_till_shutdown: Level = 0) -> None:
        """Set what ServerStatus tells; nothing else changes."""
        self.says.state, self.says.seconds_till_shutdown = state, seconds_till_shutdown
        await self.publish()

    async def behave(self) -> None:
        """Show all nodes, good and in time."""
        self.statuses.clear()
        self._nan = set()
        self.says.clear()
        for variable in VARIABLES:
            await self.restore(variable.path)
        await self.publish()

    @property
    def node_commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        nodes = (self.status, self.nan, self.remove, self.restore)
        server = (self.clock_error, self.service_level, self.server_state)
        return {command.__name__: command for command in nodes + server}

    def _shown(self, variable: Variable) -> Value:
        return math.nan if variable.path in self._nan else variable.read(self.robot)


def _known(path: str) -> Variable:
    for variable in VARIABLES:
        if variable.path == path:
            return variable
    raise ValueError(f"the robot has no node {path!r}; it has {', '.join(variable.path for variable in VARIABLES)}")
