"""The broker connection as health, metrics and the dashboard see it."""

import logging
import time

from gateway.model import MqttState
from gateway.supervisor import Component

log = logging.getLogger(__name__)


class BrokerComponent(Component[MqttState]):
    """State and counts of the broker connection.

    `published` counts data messages that the broker acknowledged, `unmatched` those of them that nobody had
    subscribed to (PUBACK 0x10), `rejected` those that it refused and that stay in the buffer. `inflight` is how
    many messages of the window are in use. `refusals` tells for each topic that the broker refuses now, why; the
    state stays `connected`. `last_ack` is on the monotonic clock, in seconds.
    """

    def __init__(self, address: str, *, tls: bool) -> None:
        super().__init__("mqtt", MqttState.CONNECTING, well=frozenset({MqttState.CONNECTED}))
        self.address = address
        self.tls = tls
        self.published = 0
        self.unmatched = 0
        self.rejected = 0
        self.inflight = 0
        self.last_ack: float | None = None
        self.refusals: dict[str, str] = {}

    @property
    def last_ack_age_s(self) -> float | None:
        """Seconds since the broker acknowledged a message last; None if it never did."""
        return None if self.last_ack is None else time.monotonic() - self.last_ack

    def acknowledged(self, *, matched: bool) -> None:
        """Count a data message that the broker has taken."""
        self.published += 1
        self.unmatched += not matched
        self.last_ack = time.monotonic()

    def refuse(self, topic: str, text: str) -> None:
        """Note that the broker refuses a topic; said once."""
        if self.refusals.get(topic) == text:
            return
        log.warning("%s: %s", self.name, text)
        self.refusals[topic] = text
        self._tell()

    def accept(self, topic: str) -> None:
        """Note that the broker takes a topic; said once if it had refused it."""
        if self.refusals.pop(topic, None) is not None:
            log.info("%s: the broker accepts %s again", self.name, topic)
            self._tell()

    def forget_refusals(self) -> None:
        """A new session asks anew."""
        if self.refusals:
            self.refusals.clear()
            self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()
