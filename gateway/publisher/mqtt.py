"""One MQTT session: aiomqtt, made to check every PUBACK and to fail at once when the connection does."""

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Self

import aiomqtt
from paho.mqtt.client import Client as PahoClient
from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import GatewayError, PublishError
from gateway.publisher.dial import open_way
from gateway.publisher.keepalive import KeepAlive
from gateway.publisher.paho_parts import LastError, json_of, quiet
from gateway.publisher.payload.coding import CODINGS
from gateway.publisher.reasons import (
    Grants,
    PublishRefusedError,
    cut,
    ended_by,
    not_accepted,
    not_authenticated,
)
from gateway.publisher.tls import explain
from gateway.publisher.way import Way
from gateway.publisher.websocket import WebSocket

CONNECT_TIMEOUT_S: Final = 10.0
ACK_TIMEOUT_S: Final = 30.0
_FAILURE: Final = 0x80


@dataclass(frozen=True, slots=True)
class _Sent:
    topic: str
    at: float
    acknowledged: asyncio.Future[int]


class MqttSession(aiomqtt.Client):
    """One connection to the broker, from CONNECT to its end; never reused.

    It overrides private methods of aiomqtt, whose own publish takes a refusal for a success and does not notice a
    lost connection; hence aiomqtt's version is pinned. paho's window is off: the caller keeps to `grants`.
    """

    def __init__(
        self,
        way: Way,
        *,
        client_id: str,
        will: tuple[str, bytes],
        connect_timeout: float = CONNECT_TIMEOUT_S,
        ack_timeout: float = ACK_TIMEOUT_S,
    ) -> None:
        section = way.section
        v5 = section.protocol == 5
        self._way = way
        self._connect_timeout = connect_timeout
        self._ack_timeout = ack_timeout
        self._last = LastError()
        super().__init__(
            way.host,
            way.port,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5 if v5 else aiomqtt.ProtocolVersion.V311,
            **({"clean_start": True} if v5 else {"clean_session": True}),  # type: ignore[arg-type]
            will=aiomqtt.Will(*will, qos=1, retain=True, properties=json_of(PacketTypes.WILLMESSAGE) if v5 else None),
            keepalive=round(section.keepalive),
            timeout=connect_timeout,
            max_inflight_messages=0,
            logger=quiet(self._last),
        )
        self.pending_calls_threshold = 1_000_000
        self._client._create_socket = self._create_socket  # type: ignore[method-assign,assignment]
        self._contents = {coding: json_of(PacketTypes.PUBLISH, coding) if v5 else None for coding in CODINGS}
        self._sent: dict[int, _Sent] = {}
        self._ended: asyncio.Future[PublishError] = self._loop.create_future()
        self._loop_thread = threading.get_ident()
        self.grants = Grants()
        self.sent = 0
        self._keep_alive = KeepAlive(self._client, way.address)
        self.received: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue(maxsize=1000)

    async def __aenter__(self) -> Self:
        """Connect. Raises PublishError; leaves nothing behind if it fails or is cancelled."""
        try:
            await self._open_connection()
            await self._connack()
        except BaseException:
            self.drop()
            raise
        self._disconnected.add_done_callback(self._end)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop what is left of the connection."""
        self.drop()

    @property
    def unacknowledged(self) -> int:
        """Messages that the broker has not acknowledged yet."""
        return len(self._sent)

    def send(self, topic: str, payload: bytes, *, retain: bool = False, coding: str = "none") -> asyncio.Future[int]:
        """Publish with QoS 1; the future gives the PUBACK's reason code, a success. `coding`: how it is compressed.

        It raises PublishRefusedError if the broker refuses the message, PublishError once the session has ended.
        """
        properties = self._contents[coding] if payload else None
        published = self._client.publish(topic, payload, 1, retain and self.grants.retain, properties)
        if published.rc != 0:
            raise self._ended.result() if self._ended.done() else self._lost()
        sent = _Sent(topic, self._loop.time(), self._loop.create_future())
        self._sent[published.mid] = sent
        self.sent += 1
        return sent.acknowledged

    async def watch(self) -> NoReturn:
        """Keep the session alive, and wait for its end.

        Raises PublishError: it was lost, a PUBACK is overdue, or nothing was heard for 1.25 keep-alive intervals.
        """
        while not self._ended.done():
            now = self._loop.time()
            look_again = min(self._overdue_at(now), self._keep_alive.look(now))
            await asyncio.wait([self._ended], timeout=look_again - now)
        raise self._ended.result()

    def _overdue_at(self, now: float) -> float:
        oldest = next(iter(self._sent.values()), None)
        overdue_at = (now if oldest is None else oldest.at) + self._ack_timeout
        if overdue_at <= now:
            text = f"{self._way.address} has not acknowledged a message for {self._ack_timeout:.0f} s"
            raise PublishError(text, do="Look into the broker's log.")
        return overdue_at

    def listen(self, *filters: str) -> None:
        """Subscribe; messages come to `received`. If the broker refuses that, none will come, and no harm is done."""
        self._client.subscribe([(topic, 1) for topic in filters])

    async def leave(self) -> None:
        """Disconnect cleanly: the broker forgets the last will."""
        if not self._ended.done():
            self._client.disconnect()
            await asyncio.wait([self._ended], timeout=1.0)

    def drop(self) -> None:
        """Close the connection without a word: the broker sends the last will."""
        self._client._sock_close()
        if self._connected.done() and not self._disconnected.done():
            self._disconnected.set_result(None)

    async def _open_connection(self) -> None:
        done: asyncio.Future[None] = self._loop.create_future()
        # A thread of its own, which the program's end does not wait for: a name server may take a minute.
        threading.Thread(target=self._open_in_thread, args=(done,), name="mqtt connect", daemon=True).start()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await done
        except OSError as error:
            raise explain(error, self._way) from error
        except ValueError as error:
            text = f"{self._way.host} is not a host name: {error}"
            raise PublishError(text, do=f"Check {self._way.host_key}.") from error

    def _open_in_thread(self, done: asyncio.Future[None]) -> None:
        error: Exception | None = None
        try:
            self._client_connect()
        except GatewayError as unusable:
            error = unusable if isinstance(unusable, PublishError) else not_authenticated(unusable)
        except (OSError, ValueError) as failed:
            error = failed
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            self._loop.call_soon_threadsafe(self._opened, done, error)

    def _client_connect(self) -> None:
        section = self._way.section
        if section.username is not None:
            password = None if section.password is None else section.password.reveal()
            self._client.username_pw_set(section.username, password)
        super()._client_connect()

    def _create_socket(self) -> socket.socket | WebSocket:
        connection = open_way(self._way, self._connect_timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _opened(self, done: asyncio.Future[None], error: Exception | None) -> None:
        if done.done():  # cancelled: nobody wants this connection any more
            self._client._sock_close()
        elif error is not None:
            done.set_exception(error)
        else:
            done.set_result(None)

    async def _connack(self) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._connected
        except TimeoutError:
            text = f"{self._way.address} took the connection, but does not answer as an MQTT broker"
            raise PublishError(text, do="Check mqtt.port and the broker's log.") from None

    def _end(self, disconnected: asyncio.Future[None]) -> None:
        disconnected.exception()  # retrieved, so that asyncio does not report it
        if not self._ended.done():
            self._ended.set_result(self._lost())
        for sent in self._sent.values():
            if not sent.acknowledged.done():
                sent.acknowledged.set_exception(self._ended.result())
        self._sent.clear()

    def _lost(self) -> PublishError:
        error = self._last.error
        if self._connected.done() and (error is None or isinstance(error, ConnectionResetError | BrokenPipeError)):
            return cut(self._way.address)
        if error is not None:
            return explain(error, self._way)
        text = f"{self._way.address} closed the connection"
        if self._way.section.tls.insecure_plaintext or self._way.section.tls.cert_file:
            return PublishError(text, do="Look into the broker's log.")
        return PublishError(text, do="If the broker wants client certificates, set mqtt.tls.cert_file and key_file.")

    def _on_connect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._connected.done():
            return
        if reason_code.value >= _FAILURE:
            self._connected.set_exception(not_accepted(reason_code, self._way.address))
            return
        try:
            self.grants = Grants.of(properties)
        except PublishError as error:
            self._connected.set_exception(error)
            return
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: PahoClient,
        userdata: Any,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if not self._connected.done():
            self._connected.set_exception(self._lost())
        elif not self._ended.done() and (flags.is_disconnect_packet_from_server or self._last.error is None):
            self._ended.set_result(ended_by(flags, reason_code, self._way.address) or self._lost())
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(
        self, client: PahoClient, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        sent = self._sent.pop(mid, None)
        if sent is None or sent.acknowledged.done():
            return
        if reason_code.value >= _FAILURE:
            why = getattr(properties, "ReasonString", None) or str(reason_code).lower()
            sent.acknowledged.set_exception(PublishRefusedError(sent.topic, why, code=reason_code.value))
        else:
            sent.acknowledged.set_result(reason_code.value)

    def _on_subscribe(self, *_: Any) -> None:
        """Nobody waits for a SUBACK."""

    def _on_message(self, client: PahoClient, userdata: Any, message: Any) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self.received.put_nowait((message.topic, bytes(message.payload)))

    def _on_socket_register_write(self, client: PahoClient, userdata: Any, sock: Any) -> None:
        if threading.get_ident() != self._loop_thread:
            super()._on_socket_register_write(client, userdata, sock)
            return
        # At once, not by the loop's next turn, in which the socket may be closed and its number be another's.
        self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except (OSError, ValueError) as error:
            if not self._disconnected.done():
                self._disconnected.set_exception(error)
