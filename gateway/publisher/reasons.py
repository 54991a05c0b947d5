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
_RAISE_LIMIT: Final = "Raise the broker's limit of packet sizes."
_CHECK_RIGHTS: Final = "Check what the broker lets this gateway publish."


class PublishRefusedError(GatewayError):
    """The broker refused one message (MQTT 5.0 section 3.4.2.1); the session goes on."""

    def __init__(self, topic: str, reason: str, *, code: int | None = None, do: str = _CHECK_RIGHTS) -> None:
        code_text = "" if code is None else f" (0x{code:02x})"
        super().__init__(f"the broker refused {topic}: {reason}{code_text}", do=do)

    @classmethod
    def too_large(cls, topic: str, size: int) -> "PublishRefusedError":
        """Refuse what the broker would end the session for (MQTT 5.0 section 3.2.2.3.6)."""
        return cls(topic, f"{size} bytes are more than its Maximum Packet Size", do=_RAISE_LIMIT)


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
    return PublishError(f"{address} {_NOT_OURS.get(code, 'refuses the session')}: {said}")


def ended_by(flags: DisconnectFlags, reason_code: ReasonCode, address: str) -> PublishError | None:
    """Say why the session ended, if the broker or the keep-alive told (MQTT 5.0 section 3.14.2.1)."""
    if reason_code.value == _KEEP_ALIVE_TIMEOUT:
        return PublishError(f"{address} does not answer any more", do="Check the network and the broker.")
    if not flags.is_disconnect_packet_from_server:
        return None
    taken_over = reason_code.value == _SESSION_TAKEN_OVER
    do = "Another client uses the same client id; each needs its own." if taken_over else "Look into the broker's log."
    return PublishError(f"{address} ended the session: {reason_code}", do=do)
