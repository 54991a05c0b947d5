"""The `mqtt` section: the broker, and what is sent to it."""

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from gateway.checked import Checked, Fault, later, later_values
from gateway.config.topics import DEVICE, GATEWAY, Topic
from gateway.drivers.base import Section
from gateway.files import ReadablePath
from gateway.hosts import Host, join
from gateway.quantities import Duration, Port, Size, duration, size
from gateway.secret import Secret

SMALLEST_MESSAGE: Final = 32 * 1024
"""The smallest `max_message_bytes`: a sample of 16 KiB, its meta and the envelope fit into it."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=65535, pattern=r"^[^\x00]*$")]


class MqttTls(Checked, Section):
    """TLS to the broker: always on, chain and host name verified on every connect."""

    ca_file: ReadablePath | None = Field(default=None, description="PEM; default: the system's CAs")
    cert_file: ReadablePath | None = Field(default=None, description="PEM; the gateway's certificate, for mutual TLS")
    key_file: ReadablePath | None = Field(default=None, description="PEM; the key of cert_file")
    insecure_plaintext: bool = Field(default=False, description="true turns TLS off; health says so")

    def faults(self) -> Iterator[Fault]:
        """Give half a client certificate, and certificates that plaintext would not use."""
        yield from super().faults()
        if self.cert_file is not None and self.key_file is None:
            yield Fault(("cert_file",), "a certificate needs its key; write key_file: too")
        if self.key_file is not None and self.cert_file is None:
            yield Fault(("key_file",), "a key needs its certificate; write cert_file: too")
        for key in ("ca_file", "cert_file", "key_file"):
            if self.insecure_plaintext and getattr(self, key) is not None:
                yield Fault((key,), f"insecure_plaintext: true turns TLS off; remove it, or remove {key}")


class MqttSection(Checked, Section):
    """The broker, and what is sent to it."""

    host: Host = Field(description="the broker's name, as its certificate has it")
    hosts: Annotated[tuple[str, ...], later("write host, one broker")] = Field(
        default=(), description="brokers in order of preference"
    )
    port: Port = Field(default=8883, description="1883 is usual for insecure_plaintext")
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
    compression: Annotated[
        Literal["none", "gzip", "zstd"], later_values("gzip", "zstd", instead="write none")
    ] = Field(default="none", description="of data payloads")  # fmt: skip
    flush_interval: Annotated[float, *duration(0, 3600)] = Field(
        default=0.0, description="how long a message may wait to be filled; quality changes never wait"
    )
    max_inflight: int = Field(default=20, ge=1, le=65535, description="messages sent and not yet acknowledged")
    max_message_bytes: Annotated[int, *size(SMALLEST_MESSAGE)] = Field(default=131072, description="payload as sent")
    max_messages_per_second: Annotated[float | None, later("remove it: nothing limits the rate yet")] = Field(
        default=None, gt=0, description="a broker's quota; omitted: no limit"
    )
    max_bytes_per_second: Annotated[Size | None, later("remove it: nothing limits the rate yet")] = Field(
        default=None, description="a broker's quota; omitted: no limit"
    )

    @property
    def address(self) -> str:
        """`host:port`, as a person would write it."""
        return join(self.host, self.port)

    @property
    def _parent(self) -> str:
        return (self.status_topic or "").rpartition("/")[0]

    def faults(self) -> Iterator[Fault]:
        """Give a password that nobody would get, and a status topic that is not this gateway's own."""
        yield from super().faults()
        if self.password is not None and self.username is None:
            yield Fault(("password",), "a password needs a username; write username: too")
        if self.status_topic is not None and GATEWAY not in self.status_topic:
            yield Fault(("status_topic",), "must hold {gateway}: two gateways would overwrite each other's status")
        elif self.status_topic is not None and self.health_interval and GATEWAY not in self._parent:
            yield Fault(("status_topic",), "must hold {gateway} before its last level: health is published beside it")
        if self.status_topic is not None and DEVICE in self.status_topic:
            yield Fault(("status_topic",), "cannot hold {device}: it is the whole gateway's")
