"""The robot's OPC UA server: its variables under an own namespace, behind a relay that can fail like a network."""

import math
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from simulators.certificates import own_certificate
from simulators.modbus_faults import Seconds
from simulators.opcua_space import APPLICATION_URI, RobotSpace, Users, status_code
from simulators.relay import Relay
from simulators.robot import VARIABLES, Robot, Value, Variable

USER = "gateway"
PASSWORD = "gateway-secret"  # noqa: S105 -- the simulator's well-known default


def utc_now() -> datetime:
    """The time in UTC, whole milliseconds."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class OpcuaSimulator:
    """Serves a robot: `async with OpcuaSimulator() as simulator: simulator.endpoint, simulator.certificate_path`.

    Clients may be anonymous or `user` with `password`; endpoints are None and Basic256Sha256 SignAndEncrypt; any
    client certificate is accepted. Port 0 takes a free one and keeps it over `stop` and `start`. Without `pki_dir`
    the certificate lives in a temporary folder. Values change only when `step` or `publish` is called; `clock`
    gives their source timestamps. `namespaces_before` are registered first, and so move the robot's namespace index.

    `reads` and `writes` count the requests of clients for either service; a write is never accepted.
    """

    def __init__(
        self,
        robot: Robot | None = None,
        *,
        port: int = 0,
        pki_dir: Path | None = None,
        user: str = USER,
        password: str = PASSWORD,
        clock: Callable[[], datetime] = utc_now,
        namespaces_before: Iterable[str] = (),
    ) -> None:
        self.robot = robot or Robot()
        self.namespaces_before = list(namespaces_before)
        self.statuses: dict[str, str] = {}
        self.reads = 0
        self.writes = 0
        self._users = Users(user, password)
        self._clock = clock
        self._temporary = TemporaryDirectory(prefix="simulated-robot-")
        self._identity = own_certificate(pki_dir or Path(self._temporary.name), APPLICATION_URI)
        self._relay = Relay(("127.0.0.1", 0), port=port)
        self._space: RobotSpace | None = None
        self._nan: set[str] = set()

    @property
    def endpoint(self) -> str:
        """The URL that clients connect to."""
        return f"opc.tcp://127.0.0.1:{self._relay.port}"

    @property
    def port(self) -> int:
        """The TCP port that clients connect to."""
        return self._relay.port

    @property
    def certificate_path(self) -> Path:
        """The server's certificate, DER, for a client's folder of trusted ones."""
        return self._identity[0]

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._relay.connections

    @property
    def sessions(self) -> int:
        """How many sessions of clients live; `cut` leaves those with subscriptions, `stop` none."""
        return self._space.sessions if self._space is not None else 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._dismantle()
        self._temporary.cleanup()

    async def start(self) -> None:
        """Listen, after building the address space if there is none, which takes some two seconds.

        Raises:
            OSError: the port is taken.
        """
        if self._space is None:
            self._space = await RobotSpace.build(self._users, self._identity, self.namespaces_before, self._requested)
            await self.publish()
        self._relay.target = ("127.0.0.1", self._space.inner_port)
        try:
            await self._relay.start()
        except OSError:
            await self._dismantle()
            raise

    async def stop(self) -> None:
        """Close the port and all connections, and forget all sessions and subscriptions, as at a loss of power."""
        await self._relay.stop()
        if self._space is not None:
            await self._space.forget_sessions()

    async def restart(self) -> None:
        """Stop, and start again at once with the same nodes."""
        await self.stop()
        await self.start()

    async def rebuild(self) -> None:
        """Stop, and start on the same port with a new address space, for a change of `namespaces_before`."""
        await self._dismantle()
        await self.start()

    async def step(self, dt: float = 0.1) -> None:
        """Move the robot on by `dt` seconds and publish."""
        self.robot.step(dt)
        await self.publish()

    async def publish(self) -> None:
        """Write the robot's values to their nodes, all with one source timestamp."""
        if self._space is None:
            return
        now = self._clock()
        for variable in VARIABLES:
            status = self.statuses.get(variable.path, "Good")
            await self._space.write(variable, self._shown(variable), status, now)
        await self._space.write_time(now)

    def freeze(self) -> None:
        """Let nothing through in either direction; connections stay open."""
        self._relay.freeze()

    def resume(self) -> None:
        """Let through again, first what was held."""
        self._relay.resume()

    def delay(self, s: Seconds) -> None:
        """Hold all that the server sends for `s` seconds; 0 ends it."""
        self._relay.delay_s = s

    async def cut(self) -> None:
        """Cut all connections; sessions and subscriptions live on, and the port stays open."""
        await self._relay.cut()

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
        if self._space is not None:
            await self._space.remove(variable, self._clock())

    async def restore(self, node: str) -> None:
        """Make a removed node again. Subscriptions to the old one stay dead.

        Raises:
            ValueError: no such node.
        """
        variable = _known(node)
        if self._space is not None:
            await self._space.add(variable)
            await self.publish()

    async def clear(self) -> None:
        """Behave again: let through, no delay, all nodes there and good."""
        self.resume()
        self.delay(0.0)
        self.statuses.clear()
        self._nan = set()
        for variable in VARIABLES:
            await self.restore(variable.path)
        await self.publish()

    def report(self) -> dict[str, Any]:
        """The server's own account, to hold against what a client says it saw."""
        served = {"connections": self.connections, "reads": self.reads, "writes": self.writes}
        return {**served, "sessions": self.sessions, "ticks": self.robot.ticks}

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        own = (self.stop, self.start, self.restart, self.freeze, self.resume, self.delay, self.cut)
        nodes = (self.status, self.nan, self.remove, self.restore, self.clear, self.report)
        return {command.__name__: command for command in own + nodes}

    def _shown(self, variable: Variable) -> Value:
        return math.nan if variable.path in self._nan else variable.read(self.robot)

    def _requested(self, service: str) -> None:
        if service == "read":
            self.reads += 1
        else:
            self.writes += 1

    async def _dismantle(self) -> None:
        await self._relay.stop()
        space, self._space = self._space, None
        if space is not None:
            await space.close()


def _known(path: str) -> Variable:
    for variable in VARIABLES:
        if variable.path == path:
            return variable
    raise ValueError(f"the robot has no node {path!r}; it has {', '.join(variable.path for variable in VARIABLES)}")
