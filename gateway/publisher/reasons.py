"""What a broker's reason codes mean: what it grants, what it refuses, why it ended a session."""

from dataclasses import dataclass
from typing import Final

from paho.mqtt.client import DisconnectFlags
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gateway.errors import GatewayError, PublishError
from gateway.model import MqttState

NO_MATCHING_SUBSCRIBERS: Final = 0x10
_NOT_OURS: Final = {0x84: "does not speak this version of MQTT", 0x85: "refuses the client id"}
_AUTHENTICATION: Final = (0x86, 0x87, 0x8A, 0x8C)
_SESSION_TAKEN_OVER: Final = 0x8E
_KEEP_ALIVE_TIMEOUT: Final = 0x8D
_QUOTA_EXCEEDED: Final = 0x97
_TOO_MUCH: Final = (0x93, 0x96, _QUOTA_EXCEEDED)
"""Receive Maximum exceeded, Message rate too high, Quota exceeded (MQTT 5.0 section 3.14.2.1)."""
_PACKET: Final = (0x81, 0x82, 0x90, 0x95, 0x99)
"""Malformed packet, Protocol error, Topic Name invalid, Packet too large, Payload format invalid (the same section)."""
_BUSY: Final = (0x88, 0x89, _QUOTA_EXCEEDED, 0x9F)
"""Server unavailable, Server busy, Quota exceeded, Connection rate exceeded (MQTT 5.0 section 3.2.2.2)."""
BUSY_RETRY_S: Final = 10.0
TAKEN_OVER_RETRY_S: Final = 60.0
_RAISE_LIMIT: Final = "Raise the broker's limit of packet sizes."
_CHECK_RIGHTS: Final = "Check what the broker lets this gateway publish."


class PublishRefusedError(GatewayError):
    """The broker refused one message (MQTT 5.0 section 3.4.2.1); the session goes on."""

    def __init__(self, topic: str, reason: str, *, code: int | None = None, do: str = _CHECK_RIGHTS) -> None:
        code_text = "" if code is None else f" (0x{code:02x})"
        super().__init__(f"the broker refused {topic}: {reason}{code_text}", do=do)
        self.of_quota = code == _QUOTA_EXCEEDED
        """Whether it is not the message that the broker minds, but how many there are."""

    @classmethod
    def deadly(cls, topic: str) -> "PublishRefusedError":
        """Refuse what the broker has ended the session for, sent alone, again and again."""
        return cls(topic, "it ended the session each time that this sample was sent", do="Look into the broker's log.")

    @classmethod
    def too_large(cls, topic: str, size: int) -> "PublishRefusedError":
        """Refuse what the broker would end the session for (MQTT 5.0 section 3.2.2.3.6)."""
        return cls(topic, f"{size} bytes are more than its Maximum Packet Size", do=_RAISE_LIMIT)


class TooMuchError(PublishError):
    """The broker ended the session because of how much was sent."""


class TakenOverError(PublishError):
    """Another client took the session over (MQTT 5.0 section 3.1.4)."""


class PacketRefusedError(PublishError):
    """The broker ended the session because of one packet, and did not say which."""


class CutError(PublishError):
    """The broker closed the connection without a word."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What the broker allows in this session (MQTT 5.0 section 3.2.2.3); the defaults are what it allows unsaid."""

    receive_maximum: int = 65535
    maximum_packet: int | None = None
    retain: bool = True

    @classmethod
    def of(cls, connack: Properties | None) -> "Grants":
        """Read the properties of a CONNACK. Raises PublishError if the broker does not take QoS 1."""
        if getattr(connack, "MaximumQoS", 1) < 1:
            raise PublishError("the broker takes QoS 0 only, which confirms nothing", do="Use another broker.")
        return cls(
            getattr(connack, "ReceiveMaximum", 65535),
            getattr(connack, "MaximumPacketSize", None),
            bool(getattr(connack, "RetainAvailable", 1)),
        )


def not_authenticated(error: GatewayError) -> PublishError:
    """Say that the secret to log in with cannot be read."""
    return PublishError(str(error), state=MqttState.AUTH_ERROR, do=error.do)


def not_accepted(reason_code: ReasonCode, address: str) -> PublishError:
    """Say why the broker did not accept the session (MQTT 5.0 section 3.2.2.2)."""
    code, said = reason_code.value, f"{str(reason_code).lower()} (0x{reason_code.value:02x})"
    if code in _AUTHENTICATION:
        do = "Check mqtt.username, mqtt.password and the broker's list of users."
        return PublishError(f"{address} refuses the login: {said}", state=MqttState.AUTH_ERROR, do=do)
    patience = BUSY_RETRY_S if code in _BUSY else 0.0
    return PublishError(f"{address} {_NOT_OURS.get(code, 'refuses the session')}: {said}", retry_after_s=patience)


def unheard(address: str) -> PublishError:
    """Say that nothing comes from the broker any more."""
    return PublishError(f"{address} does not answer any more", do="Check the network and the broker.")


def cut(address: str) -> CutError:
    """Say that the broker closed the connection and gave no reason; under 3.1.1 it has no way to give one."""
    do = "Look into the broker's log; a quota, or another client with the same client id, may be the reason."
    return CutError(f"{address} closed the connection", do=do)


def ended_by(flags: DisconnectFlags, reason_code: ReasonCode, address: str) -> PublishError | None:
    """Say why the session ended, if the broker or the keep-alive told (MQTT 5.0 section 3.14.2.1)."""
    if reason_code.value == _KEEP_ALIVE_TIMEOUT:
        return unheard(address)
    if not flags.is_disconnect_packet_from_server:
        return None
    text = f"{address} ended the session: {str(reason_code).lower()} (0x{reason_code.value:02x})"
    if reason_code.value == _SESSION_TAKEN_OVER:
        text = f"{address}: another client took over the session of this gateway's client id (0x8e)"
        do = "Give each client an id of its own: mqtt.client_id, or gateway.id. They throw each other out for ever."
        return TakenOverError(text, do=do, retry_after_s=TAKEN_OVER_RETRY_S)
    if reason_code.value in _TOO_MUCH:
        return TooMuchError(text, do="Write the broker's quota as mqtt.max_messages_per_second, or have it raised.")
    if reason_code.value in _PACKET:
        do = "Look into the broker's log. Messages go one by one until it is known for which of them this is."
        return PacketRefusedError(text, do=do)
    return PublishError(text, do="Look into the broker's log.")
