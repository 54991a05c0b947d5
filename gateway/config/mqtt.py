"""The `mqtt` section: the broker, and what is sent to it."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from gateway.checked import Checked, Fault, later, later_values
from gateway.config.topics import DEVICE, GATEWAY, Topic
from gateway.drivers.base import Section
from gateway.files import ReadablePath
from gateway.hosts import Endpoint, Host, join, parse_endpoint
from gateway.quantities import Duration, Port, duration, size
from gateway.secret import Secret

SMALLEST_MESSAGE: Final = 32 * 1024
"""The smallest `max_message_bytes`: a sample of 16 KiB, its meta and the envelope fit into it."""

SMALLEST_RATE: Final = 100
"""The smallest `max_bytes_per_second`."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=65535, pattern=r"^[^\x00]*$")]

Alpn = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]
"""The name of a protocol (RFC 7301 section 3.1)."""
HttpPath = Annotated[str, StringConstraints(max_length=2048, pattern=r"^/[\x21-\x7e]*$")]


class MqttTls(Checked, Section):
    """TLS to the broker: always on, chain and host name verified on every connect."""

    ca_file: ReadablePath | None = Field(default=None, description="PEM; default: the system's CAs")
    cert_file: ReadablePath | None = Field(default=None, description="PEM; the gateway's certificate, for mutual TLS")
    key_file: ReadablePath | None = Field(default=None, description="PEM; the key of cert_file")
    alpn: Alpn | None = Field(
        default=None, description="the protocol that a broker on port 443 wants to hear of; AWS: x-amzn-mqtt-ca"
    )
    insecure_plaintext: bool = Field(default=False, description="true turns TLS off; health says so")

    def faults(self) -> Iterator[Fault]:
        """Give half a client certificate, and certificates that plaintext would not use."""
        yield from super().faults()
        if self.cert_file is not None and self.key_file is None:
            yield Fault(("cert_file",), "a certificate needs its key; write key_file: too")
        if self.key_file is not None and self.cert_file is None:
            yield Fault(("key_file",), "a key needs its certificate; write cert_file: too")
        for key in ("ca_file", "cert_file", "key_file", "alpn"):
            if self.insecure_plaintext and getattr(self, key) is not None:
                yield Fault((key,), f"insecure_plaintext: true turns TLS off; remove it, or remove {key}")


class MqttProxy(Checked, Section):
    """An HTTP proxy between the plant and the broker (CONNECT). TLS is with the broker: the proxy reads nothing."""

    host: Host = Field(description="the proxy's name or IP address")
    port: Port = Field(default=3128, description="8080 is usual too")
    username: Text | None = Field(default=None, description="sent to the proxy in clear (Basic), as proxies want it")
    password: Secret | None = None

    @property
    def address(self) -> str:
        """`host:port`, as a person would write it."""
        return join(self.host, self.port)

    def faults(self) -> Iterator[Fault]:
        """Give a password that nobody would get, and a name that would end at its colon."""
        yield from super().faults()
        if self.password is not None and self.username is None:
            yield Fault(("password",), "a password needs a username; write username: too")
        if self.username is not None and ":" in self.username:
            yield Fault(("username",), "cannot hold a colon: a proxy's login has one between name and password")


class MqttSection(Checked, Section):
    """The broker, and what is sent to it."""

    host: Host | None = Field(default=None, description="the broker's name, as its certificate has it")
    hosts: tuple[Endpoint, ...] = Field(
        default=(),
        description="brokers in order of preference, after `host` if there is one, each with a port of its own if it "
        "has one: b:8884; one connection at a time",
    )
    port: Port = Field(default=8883, description="1883 is usual for insecure_plaintext, 443 for websocket")
    transport: Literal["tcp", "websocket"] = Field(default="tcp", description="websocket: MQTT in HTTP's clothes")
    websocket_path: HttpPath | None = Field(default=None, description="where the broker's WebSocket is; default: /mqtt")
    proxy: MqttProxy | None = Field(default=None, description="an HTTP proxy on the way to the broker")
    client_id: Text | None = Field(default=None, description="default: gateway.id")
    protocol: Literal[5, "3.1.1"] = Field(default=5, description="3.1.1 cannot tell why a broker refuses a message")
    username: Text | None = None
    password: Secret | None = None
    keepalive: Annotated[float, *duration(1, 65535)] = Field(default=20.0, description="1s to 18h")
    tls: MqttTls = MqttTls()
    topic: Topic = Field(
        default="factory/{gateway}/{device}", description="{labels.NAME} too; a device may override it"
    )
    status_topic: Topic | None = Field(
        default=None, description="default: the levels of topic before the first that holds {device}, plus status"
    )
    health_interval: Duration = Field(default=60.0, description="health over MQTT; 0s: off")
    include_labels: tuple[str, ...] = Field(default=(), description="labels copied into every data message")
    format: Annotated[
        Literal["json", "sparkplug-b"], later_values("sparkplug-b", instead="write json")
    ] = "json"  # fmt: skip
    sparkplug: Annotated[dict[str, str], later("write format: json")] = Field(default_factory=dict)
    compression: Literal["none", "gzip", "zstd"] = Field(default="none", description="of data payloads")
    flush_interval: Annotated[float, *duration(0, 3600)] = Field(
        default=0.0, description="how long a message may wait to be filled; quality changes never wait"
    )
    max_inflight: int = Field(default=20, ge=1, le=65535, description="messages sent and not yet acknowledged")
    max_message_bytes: Annotated[int, *size(SMALLEST_MESSAGE)] = Field(default=131072, description="payload as sent")
    max_messages_per_second: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="a broker's quota; omitted: no limit"
    )
    max_bytes_per_second: Annotated[int, *size(SMALLEST_RATE)] | None = Field(
        default=None, description="a metered or narrow line, without what TLS and IP add; live data goes first"
    )

    @property
    def endpoints(self) -> tuple[tuple[str, int], ...]:
        """Hosts and ports of the brokers, in order of preference."""
        first = ((self.host, self.port),) if self.host is not None else ()
        others = (parse_endpoint(text) for text in self.hosts)
        return (*first, *((host, self.port if port is None else port) for host, port in others))

    @property
    def address(self) -> str:
        """`host:port`, as a person would write it; the preferred broker's."""
        return join(*self.endpoints[0]) if self.endpoints else ""

    @property
    def _parent(self) -> str:
        return (self.status_topic or "").rpartition("/")[0]

    def faults(self) -> Iterator[Fault]:
        """Give a password that nobody would get, and a status topic that is not this gateway's own."""
        yield from super().faults()
        yield from self._faults_of_the_way()
        if self.password is not None and self.username is None:
            yield Fault(("password",), "a password needs a username; write username: too")
        if self.status_topic is not None and GATEWAY not in self.status_topic:
            yield Fault(("status_topic",), "must hold {gateway}: two gateways would overwrite each other's status")
        elif self.status_topic is not None and self.health_interval and GATEWAY not in self._parent:
            yield Fault(("status_topic",), "must hold {gateway} before its last level: health is published beside it")
        if self.status_topic is not None and DEVICE in self.status_topic:
            yield Fault(("status_topic",), "cannot hold {device}: it is the whole gateway's")

    def _faults_of_the_way(self) -> Iterator[Fault]:
        if not self.endpoints:
            yield Fault(("host",), "is missing; write host: with the broker's name")
        if len(set(self.endpoints)) < len(self.endpoints):
            yield Fault(("hosts",), "names a broker twice; write each once")
        if self.transport == "tcp" and self.websocket_path is not None:
            yield Fault(("websocket_path",), "is of no use over tcp; write transport: websocket, or remove it")
