"""The robot's OPC UA server: its variables under an own namespace, behind a relay that can fail like a network."""

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Self

from pydantic import Field

from simulators.certificates import own_certificate
from simulators.modbus_faults import Seconds
from simulators.opcua_faults import ServiceFaults
from simulators.opcua_history import History
from simulators.opcua_limits import Limits, lowering
from simulators.opcua_nodes import RobotNodes
from simulators.opcua_space import APPLICATION_URI, Behaviour, RobotSpace, Users
from simulators.opcua_volume import Volume
from simulators.relay import Relay
from simulators.robot import Robot

USER = "gateway"
PASSWORD = "gateway-secret"  # noqa: S105 -- the simulator's well-known default
VOLUME_STEPS = 10
"""So many steps of the robot are one of the volume: thousands of variables cost a server real time."""
Times = Annotated[int, Field(ge=1, le=100_000)]


def utc_now() -> datetime:
    """The time in UTC, whole milliseconds."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


class OpcuaSimulator(RobotNodes):
    """Serves a robot: `async with OpcuaSimulator() as simulator: simulator.endpoint, simulator.certificate_path`.

    Clients may be anonymous or `user` with `password`; endpoints are None and Basic256Sha256 SignAndEncrypt; any
    client certificate is accepted. Port 0 takes a free one and keeps it over `stop` and `start`. Without `pki_dir`
    the certificate lives in a temporary folder. Values change only when `step` or `publish` is called; `clock`
    gives their source timestamps. `namespaces_before` are registered first, and so move the robot's namespace index.
    `volume` is a number of further variables, `history` whether raw values can be read back.

    `faults` says what its services do wrong, `report` counts what clients have asked for; a write or a call is never
    accepted.
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
        volume: int = 0,
        history: bool = False,
    ) -> None:
        super().__init__(robot or Robot(), clock)
        self.namespaces_before = list(namespaces_before)
        self.faults = ServiceFaults()
        self.limits = Limits()
        self.kept = History(self.limits, on=history)
        self.volume = Volume(volume)
        self.limit = lowering(self.limits, self._announce)
        self._users = Users(user, password)
        self._temporary = TemporaryDirectory(prefix="simulated-robot-")
        self._pki_dir = pki_dir or Path(self._temporary.name)
        self._identity = own_certificate(self._pki_dir, APPLICATION_URI)
        self._relay = Relay(("127.0.0.1", 0), port=port)
        self._space: RobotSpace | None = None

    @property
    def space(self) -> RobotSpace | None:
        """The address space, if there is one."""
        return self._space

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
        return len(self._space.core.sessions) if self._space is not None else 0

    @property
    def writes(self) -> int:
        """How many Write requests came."""
        return self.faults.requests["Write"]

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
            behaviour = Behaviour(self.faults, self.limits, self.kept, self.volume)
            self._space = await RobotSpace.build(self._users, behaviour, self.namespaces_before)
        if not self._relay.is_open:
            inner_port = await self._space.server.listen(*self._identity)
            self.says.started = self._clock()
            await self.publish()
            self._relay.target = ("127.0.0.1", inner_port)
        try:
            await self._relay.start()
        except OSError:
            await self._dismantle()
            raise

    async def stop(self) -> None:
        """Close the port, reset all connections, and forget all sessions and subscriptions, as at a loss of power."""
        await self._relay.stop()
        if self._space is not None:
            await self._space.server.hang_up()

    async def shut_down(self, seconds: Seconds = 0.0) -> None:
        """Say that the server ends, let clients read that for some seconds, and end sessions and connections.

        ServerStatus tells Shutdown and counts SecondsTillShutdown down (OPC 10000-5 section 12.10); PublishRequests
        that wait are answered with BadShutdown.
        """
        for left in range(round(seconds), 0, -1):
            await self.server_state("Shutdown", left)
            await asyncio.sleep(1)
        await self.server_state("Shutdown", 0)
        if self._space is not None:
            await self._space.core.shut_down()
            await self._space.server.hang_up()
            await self._relay.end(within_s=1.0)
        await self.stop()
        self.says.state = "Running"

    async def restart(self, graceful: bool = False, down_s: Seconds = 0.0, announced_s: Seconds = 0.0) -> None:
        """Stop, killed or with an announcement, and start again with the same nodes after some seconds."""
        await (self.shut_down(announced_s) if graceful else self.stop())
        await asyncio.sleep(down_s)
        await self.start()

    async def renew_certificate(self) -> None:
        """Restart with another key and certificate, which replace the old ones in the folder."""
        await self.stop()
        for path in self._identity:
            path.unlink()
        self._identity = own_certificate(self._pki_dir, APPLICATION_URI)
        await self.start()

    async def rebuild(self) -> None:
        """Stop, and start on the same port with a new address space, for a change of `namespaces_before`."""
        await self._dismantle()
        await self.start()

    async def reorder_namespaces(self, before: list[str]) -> None:
        """Restart with other namespaces before the robot's, which moves its index."""
        self.namespaces_before = before
        await self.rebuild()

    async def step(self, dt: float = 0.1) -> None:
        """Move the robot on by `dt` seconds and publish."""
        self.robot.step(dt)
        await self.stepped()

    async def stepped(self) -> None:
        """Publish a step that the robot has taken, and now and then one of the volume."""
        await self.publish()
        if self.volume.count and self.robot.ticks % VOLUME_STEPS == 0:
            await self.step_volume()

    async def step_volume(self) -> None:
        """Give all variables of the volume their next number."""
        if self._space is not None:
            now = self._clock()
            source = self.says.source_time(now)
            await self.volume.write(self._space.server, source, self.says.server_time(now))

    async def burst(self, steps: Times) -> None:
        """Take many steps at once, faster than any client is told: queues that are too small overflow."""
        for _ in range(steps):
            await self.step(0.001)

    async def history(self, on: bool = True) -> None:
        """Keep raw values and let clients read them; off, it is BadHistoryOperationUnsupported."""
        self.kept.on = on
        if self._space is not None:
            await self._space.tell_of_history()

    async def forget_subscriptions(self, count: Times | None = None, silently: bool = True) -> None:
        """Delete subscriptions, the oldest first, and say nothing: PublishRequests stay unanswered.

        Not silently, those of a session that has lost its last one are answered with BadNoSubscription.
        """
        if self._space is not None:
            await self._space.core.forget_subscriptions(count, silently)

    async def drop_sessions(self, silently: bool = False) -> None:
        """End all sessions; connections stay open. PublishRequests get BadSessionClosed, or, silently, nothing."""
        if self._space is not None:
            await self._space.core.drop_sessions(silently)

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
        """Reset all connections; sessions and subscriptions live on, and the port stays open."""
        await self._relay.cut()

    async def clear(self) -> None:
        """Behave again: let through, no delay, no limits, all services, all nodes there and good. History stays."""
        self.resume()
        self.delay(0.0)
        self.faults.clear()
        await self.limit()
        await self.behave()

    def report(self) -> dict[str, Any]:
        """The server's own account, to hold against what a client says it saw."""
        found = [] if self._space is None else list(self._space.core.subscription_service.clients.values())
        there: dict[str, Any] = {
            "connections": self.connections,
            "sessions": self.sessions,
            "subscriptions": len(found),
        }
        items = sum(len(one.monitored_item_srv._monitored_items) for one in found)
        ticks = {"ticks": self.robot.ticks, "volume": self.volume.value}
        index, lives = (self._space.index, self._space.core.lives) if self._space is not None else (0, [])
        there |= {"session_lives": lives, "history_values": dict(self.kept.given)}
        link = {"namespace index": index, "held": self._relay.held, "late": self._relay.late}
        told = self.faults.report()
        return {**there, "items": items, **ticks, **told, "suffered": told["suffered"] | link}

    @property
    def commands(self) -> dict[str, Callable[..., Any]]:
        """What the control channel may call."""
        power = (self.stop, self.start, self.restart, self.shut_down, self.renew_certificate, self.reorder_namespaces)
        link = (self.freeze, self.resume, self.delay, self.cut)
        server = (self.limit, self.history, self.forget_subscriptions, self.drop_sessions)
        rest = (self.burst, self.step_volume, self.clear, self.report)
        own = {command.__name__: command for command in power + link + server + rest}
        return own | self.node_commands | self.faults.commands

    async def _announce(self, announced: bool) -> None:
        if self._space is not None:
            await self._space.announce(announced)

    async def _dismantle(self) -> None:
        await self.stop()
        space, self._space = self._space, None
        if space is not None:
            await space.server.stop()
