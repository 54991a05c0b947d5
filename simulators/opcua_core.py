"""asyncua's server with a gate before its services: each request is counted, and may be refused, late or unanswered."""

import time
from typing import Any

import asyncua
from asyncua.common.utils import ServiceError
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession, SessionState
from asyncua.server.server import Server
from asyncua.server.uaprocessor import PublishRequestData, UaProcessor
from asyncua.server.user_managers import UserManager
from asyncua.ua.ua_binary import struct_from_binary

from simulators.opcua_browse import Pages
from simulators.opcua_faults import SERVICES, ServiceFaults
from simulators.opcua_history import History
from simulators.opcua_items import refusal
from simulators.opcua_limits import Limits
from simulators.opcua_subscriptions import RobotSubscriptions

ua: Any = asyncua.ua
_WITHOUT_SESSION = ("CreateSession", "CloseSession", "ActivateSession", "GetEndpoints", "FindServers")


class RobotSession(InternalSession):
    """A client's session, held to the limits. `silent`: its PublishRequests wait though it has no subscription.

    `lived` is when it was opened and closed, in seconds of the machine's monotonic clock; 0 for closed while it lives.
    """

    iserver: "Core"
    silent = False

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self.pages = Pages(self.iserver.limits)
        self.lived = [time.monotonic(), 0.0]

    async def close_session(self, delete_subs: bool = True) -> None:
        """End it, with its subscriptions or without."""
        self.lived[1] = self.lived[1] or time.monotonic()
        await super().close_session(delete_subs)

    async def read(self, params: Any) -> Any:
        """Read attributes. Raises ServiceError."""
        self.iserver.limits.check("nodes_per_read", len(params.NodesToRead))
        return await super().read(params)

    async def browse(self, params: Any) -> Any:
        """Browse references, in pages. Raises ServiceError."""
        limits = self.iserver.limits
        limits.check("nodes_per_browse", len(params.NodesToBrowse))
        wishes = [most for most in (params.RequestedMaxReferencesPerNode, limits.references_per_node) if most]
        return self.pages.first(await super().browse(params), min(wishes, default=0))

    async def history_read(self, params: Any) -> Any:
        """Read raw history. Raises ServiceError."""
        return self.iserver.history.read(params)

    async def create_monitored_items(self, params: Any) -> Any:
        """Monitor items, each within the limits and unless it is to be refused. Raises ServiceError."""
        limits = self.iserver.limits
        limits.check("items_per_call", len(params.ItemsToCreate))
        subscription = self.iserver.subscription_service.clients.get(params.SubscriptionId)
        if subscription is None:
            raise ServiceError(ua.StatusCodes.BadSubscriptionIdInvalid)
        service, results = subscription.monitored_item_srv, []
        for wanted in params.ItemsToCreate:
            status = self._refusal(wanted, len(service._monitored_items))
            if status is None:
                one = ua.CreateMonitoredItemsParameters(params.SubscriptionId, params.TimestampsToReturn, [wanted])
                result = (await super().create_monitored_items(one))[0]
                result.RevisedSamplingInterval = self._sampling(wanted, subscription)
            else:
                self.iserver.faults.suffered["refused item"] += 1
                result = ua.MonitoredItemCreateResult()
                result.StatusCode = ua.StatusCode(status)
            results.append(result)
        return results

    def _refusal(self, wanted: Any, there_are: int) -> int | None:
        faults, limits = self.iserver.faults, self.iserver.limits
        most = limits.items_per_subscription
        if most and there_are >= most:
            return int(ua.StatusCodes.BadTooManyMonitoredItems)
        has_filter = not isinstance(
            wanted.RequestedParameters.Filter, ua.ExtensionObject
        )  # none is decoded as a bare one
        if faults.refuses_filters and has_filter:
            return int(ua.StatusCodes.BadMonitoredItemFilterUnsupported)
        return faults.items.get(wanted.ItemToMonitor.NodeId.Identifier) or refusal(wanted, self.aspace)

    def _sampling(self, wanted: Any, subscription: Any) -> float:
        """The revised sampling interval; a negative wish is the publishing interval (OPC 10000-4 section 7.21)."""
        asked: float = wanted.RequestedParameters.SamplingInterval
        asked = subscription.data.RevisedPublishingInterval if asked < 0 else asked
        return max(asked, float(self.iserver.limits.sampling_ms))


class Core(InternalServer):
    """The address space, sessions and subscriptions of a simulated server."""

    subscription_service: RobotSubscriptions

    def __init__(self, users: UserManager, faults: ServiceFaults, limits: Limits, history: History) -> None:
        super().__init__(user_manager=users)
        self.faults = faults
        self.limits = limits
        self.history = history
        self.connections: list[Any] = []
        self.lives: list[list[float]] = []
        self.subscription_service = RobotSubscriptions(self, faults, limits)
        self.isession.subscription_service = self.subscription_service

    @property
    def sessions(self) -> list[Any]:
        """The sessions of clients, with a connection or, for a while, without."""
        return list(self._external_sessions.values())

    def create_session(self, name: Any, user: Any = None, external: bool = False) -> Any:
        """Make a session. Raises ServiceError where there are too many."""
        if self.limits.sessions and len(self._external_sessions) >= self.limits.sessions:
            raise ServiceError(ua.StatusCodes.BadTooManySessions)
        session = RobotSession(self, self.aspace, self.subscription_service, name, external=external)
        self.lives.append(session.lived)
        return session

    async def forget_sessions(self) -> None:
        """End all sessions with their subscriptions, as a loss of power does; asyncua would keep them for minutes."""
        for session in self.sessions:
            self.faults.suffered["ended session"] += 1
            await session.close_session(delete_subs=True)

    async def shut_down(self) -> None:
        """End all sessions; PublishRequests that wait are told why."""
        for connection in self.connections:
            connection.refuse_publishes(ua.StatusCodes.BadShutdown)
        await self.forget_sessions()

    async def drop_sessions(self, silently: bool) -> None:
        """End all sessions and leave their connections open; unless silently, waiting PublishRequests are told."""
        connections = list(self.connections)
        await self.forget_sessions()
        for connection in connections:
            if not silently:
                connection.refuse_publishes(ua.StatusCodes.BadSessionClosed)

    async def forget_subscriptions(self, count: int | None, silently: bool) -> None:
        """Delete subscriptions of clients, the oldest first, and tell nobody."""
        forgotten = list(self.subscription_service.clients)[:count]
        self.faults.suffered["forgotten subscription"] += len(forgotten)
        await self.subscription_service.delete_subscriptions(forgotten)
        for connection in self.connections:
            session = connection.session
            if session is not None and not self.subscription_service.of(session.session_id):
                session.silent = silently
                if not silently:
                    connection.refuse_publishes(ua.StatusCodes.BadNoSubscription)


class _Connection(UaProcessor):
    """Answers the requests of one connection."""

    iserver: Core
    session: Any

    def refuse_publishes(self, status: int) -> None:
        """Answer all PublishRequests that wait."""
        while self._publish_requests:
            waiting = self._publish_requests.popleft()
            fault = ua.ServiceFault()
            fault.ResponseHeader.ServiceResult = ua.StatusCode(status)
            self.send_response(waiting.requesthdr.RequestHandle, waiting.seqhdr, fault)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """Forget what the client has asked for: a connection that has ended takes no notification with it."""
        self._publish_requests.clear()
        self._publish_results_subs.clear()
        if self in self.iserver.connections:
            self.iserver.connections.remove(self)
        await super().close()  # type: ignore[no-untyped-call]

    async def _process_message(self, typeid: Any, requesthdr: Any, seqhdr: Any, body: Any) -> Any:
        service = SERVICES.get(typeid.Identifier, f"service {typeid.Identifier}")
        if not await self.iserver.faults.admit(service):
            return True
        session = self.session
        if session is not None and session.state is SessionState.Closed and service not in _WITHOUT_SESSION:
            raise ServiceError(ua.StatusCodes.BadSessionIdInvalid)
        if service == "Publish" and session is not None and not self._subscriptions:
            if not session.silent:
                raise ServiceError(ua.StatusCodes.BadNoSubscription)
            self._publish_requests.append(PublishRequestData(requesthdr=requesthdr, seqhdr=seqhdr, results=[]))
            return True
        if service == "BrowseNext" and session is not None:
            answer = ua.BrowseNextResponse()
            answer.Parameters.Results = session.pages.next(struct_from_binary(ua.BrowseNextParameters, body))
            self.send_response(requesthdr.RequestHandle, seqhdr, answer)  # type: ignore[no-untyped-call]
            return True
        return await super()._process_message(typeid, requesthdr, seqhdr, body)  # type: ignore[no-untyped-call]

    @property
    def _subscriptions(self) -> dict[int, Any]:
        return self.iserver.subscription_service.of(self.session.session_id)


class _Protocol(OPCUAProtocol):
    """A connection from a client, answered by our own processor."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.processor is not None:
            connection = _Connection(self.iserver, self.transport, self.limits)
            connection.set_policies(self.policies)  # type: ignore[no-untyped-call]
            connection.iserver.connections.append(connection)
            self.processor = connection


class _Listener(BinaryServer):
    """Listens on the inner port."""

    def _make_protocol(self) -> OPCUAProtocol:
        return _Protocol(self.iserver, self._policies, self.clients, self.closing_tasks, self.limits)


class RobotServer(Server):
    """asyncua's server around a `Core`; it may stop listening and begin again, with another certificate too."""

    iserver: Core

    async def listen(self, certificate: Any, key: Any) -> int:
        """Listen on a free loopback port, and give it."""
        self._policies.clear()
        self.iserver.endpoints.clear()
        await self.load_certificate(certificate)
        await self.load_private_key(key)
        self.set_endpoint("opc.tcp://127.0.0.1:0")
        await self._setup_server_nodes()
        await self.iserver.start()
        listener = _Listener(self.iserver, "127.0.0.1", 0, self.limits)
        listener.set_policies(self._policies)
        await listener.start()
        self.bserver = listener
        return listener.port

    async def hang_up(self) -> None:
        """End all connections and sessions and stop listening; the address space stays."""
        listener, self.bserver = self.bserver, None
        if listener is not None:
            await self.iserver.forget_sessions()
            await listener.stop()
