"""The ids that nodes are read by: those of the config, or shorter ones that the server gave for this session.

RegisterNodes (OPC 10000-4 section 5.9.5) where it pays. Measured against node-opcua with 500 names of 33 characters:
a ReadRequest of 27.5 KB becomes one of 10.5 KB, and costs us a tenth less; the server's time stayed the same, though a
PLC that looks up names one by one may gain. Hence
- only for what is polled again and again: registering costs as much as one poll. A read for a person, or beside a
  subscription, is over by then;
- not for numeric ids, which are as short as what the server would give.

They are never unregistered: they end with the session, and we keep them for as long as that.
"""

from collections.abc import Iterable, Sequence

from asyncua import ua

from gateway.drivers.opcua.connection import Connection
from gateway.drivers.opcua.limits import Service, in_chunks
from gateway.errors import DeviceError


class ReadIds:
    """By column, the id to read a node by in this session."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._plain = connection.nodes
        self._ids = list(connection.nodes)
        self._polled: set[int] = set()
        self._settled = {column for column, node in enumerate(self._plain) if node is None or _is_short(node)}

    def __getitem__(self, column: int) -> ua.NodeId | None:
        """Give the id; None where this server can have no such node."""
        return self._ids[column]

    def is_registered(self, column: int) -> bool:
        """Whether the id is the server's own, and not the config's."""
        return self._ids[column] is not self._plain[column]

    @property
    def registered(self) -> int:
        """How many nodes are read by ids that the server gave."""
        return sum(map(self.is_registered, range(len(self._ids))))

    def forget(self, columns: Iterable[int]) -> None:
        """Read these by the config's ids from now on: the server does not know its own any more."""
        for column in columns:
            self._ids[column] = self._plain[column]

    async def poll(self, columns: Sequence[int]) -> bool:
        """Note that these are polled; register what is polled for the second time. Whether an id is another now.

        Raises nothing: where the server refuses, hangs or hangs up, the config's ids go on and it is not asked again;
        a lost link is noticed by the next read.
        """
        again = [column for column in columns if column in self._polled and column not in self._settled]
        self._polled.update(columns)
        limits = self._connection.server.limits
        if not again or not limits.of(Service.REGISTER):
            return False
        self._settled.update(again)
        nodes = list(dict.fromkeys(node for column in again if (node := self._plain[column]) is not None))
        try:
            given = await in_chunks(limits, Service.REGISTER, nodes, self._register)
        except DeviceError:
            limits.forgo(Service.REGISTER)
            return False
        return self._take(again, dict(zip(nodes, given, strict=True)))

    def _take(self, columns: Iterable[int], given: dict[ua.NodeId, ua.NodeId]) -> bool:
        """Use what the server gave, if it tells the nodes apart: one id for two would show one's value as another's."""
        ids = list(self._ids)
        for column in columns:
            plain = self._plain[column]
            if plain is not None and given[plain] != plain:
                ids[column] = given[plain]
        is_told_apart = len(set(ids) - {None}) == len(set(self._plain) - {None})
        if not is_told_apart or ids == self._plain:
            self._connection.server.limits.forgo(Service.REGISTER)
            return False
        changed = ids != self._ids
        self._ids = ids
        return changed

    async def _register(self, nodes: Sequence[ua.NodeId]) -> list[ua.NodeId]:
        request = ua.RegisterNodesRequest(Parameters=ua.RegisterNodesParameters(NodesToRegister=list(nodes)))
        answer = await self._connection.session.ask_for(request, ua.RegisterNodesResponse)
        return list(answer.Parameters.RegisteredNodeIds or ())


def _is_short(node: ua.NodeId) -> bool:
    return isinstance(node.Identifier, int)
