"""Which of a device's redundant servers is used (non-transparent redundancy, OPC 10000-4 section 6.6.2.4).

There is one session at any time: only a session tells a ServiceLevel, so a server is left before another is looked at.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, Final

from gateway.drivers.base import Shared
from gateway.drivers.opcua.learned import Learned
from gateway.drivers.opcua.limits import Limits
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session, open_session
from gateway.drivers.opcua.watch import Rank, Watch, rank_of
from gateway.errors import DeviceError

_STAY_S: Final = 60.0
"""A server that falls to a lower rank is kept at least so long after the last look at the others."""
_LOOK_AGAIN_S: Final = 600.0
"""While no server is healthy, the others are looked at so often."""
_LOOKED_AT: Final = "redundancy.looked_at"


@contextlib.asynccontextmanager
async def open_best(
    section: OpcuaDevice, shared: Shared, channel_s: float
) -> AsyncIterator[tuple[Session, "ServerWatch"]]:
    """Open a session with the first server that is healthy, else with the best of those that answer.

    Raises DeviceError on entry if none does: the error that asks for the longest pause, so that no login is hurried.
    """
    memory = shared.memory.setdefault(section.name, {})
    ranks: dict[str, Rank] = {}
    errors: list[DeviceError] = []
    servers = [section.model_copy(update={"endpoint": endpoint}) for endpoint in section.urls]
    for server in servers:
        async with contextlib.AsyncExitStack() as stack:
            try:
                opened = await stack.enter_async_context(_open(server, shared, channel_s, memory))
            except DeviceError as error:
                errors.append(error)
                continue
            ranks[server.endpoint] = opened[1].rank
            if opened[1].rank is Rank.HEALTHY or len(servers) == 1:
                yield opened
                return
    memory[_LOOKED_AT] = asyncio.get_running_loop().time()
    if not ranks:
        raise max(errors, key=lambda error: error.retry_after_s)
    best = max(ranks, key=lambda endpoint: ranks[endpoint])
    async with _open(section.model_copy(update={"endpoint": best}), shared, channel_s, memory) as opened:
        yield opened


@contextlib.asynccontextmanager
async def _open(
    section: OpcuaDevice, shared: Shared, channel_s: float, memory: MutableMapping[str, Any]
) -> AsyncIterator[tuple[Session, "ServerWatch"]]:
    async with open_session(section, shared, channel_s) as session:
        watch = ServerWatch(session, memory, alone=len(section.urls) == 1)
        await watch.look()
        watch.judge()
        watch.settle()
        yield session, watch


class ServerWatch(Watch):
    """Watches one of several servers, and gives it up when another may be better."""

    def __init__(self, session: Session, memory: MutableMapping[str, Any], *, alone: bool) -> None:
        super().__init__(session, Limits(found=dict(Learned.of(memory, session.address).found)))
        self._memory = memory
        self._alone = alone
        self._first: Rank | None = None

    @property
    def rank(self) -> Rank:
        """How far the server recommends itself now."""
        return rank_of(self.service_level)

    def settle(self) -> None:
        """Note the rank with which the server was chosen."""
        self._first = self.rank

    def judge(self) -> None:
        """Raise DeviceError as `Watch.judge` does, and when it is time to look at the other servers."""
        super().judge()
        if self._alone or self._first is None or self.rank is Rank.HEALTHY:
            return
        now = asyncio.get_running_loop().time()
        pause = _STAY_S if self.rank < self._first else _LOOK_AGAIN_S
        if now - self._memory.get(_LOOKED_AT, -_LOOK_AGAIN_S) >= pause:
            self._memory[_LOOKED_AT] = now
            text = f"{self._session.address} has ServiceLevel {self.service_level}; the other servers are looked at"
            raise DeviceError(text, reason="connection-lost", do="See why the server is not healthy.")
