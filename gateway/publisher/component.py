"""The broker connection as health, metrics and the dashboard see it."""

import logging
import time
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import told
from gateway.model import MqttState
from gateway.publisher.quota import Quota
from gateway.supervisor import Component

_SET_ASIDE: Final = "samples-set-aside"
_DAY_S: Final = 86400.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What somebody should look into though the connection stands: a code, two sentences, for how many seconds."""

    code: str
    text: str
    do: str
    lasts_s: float
    since: float = field(default_factory=time.monotonic)

    @property
    def is_over(self) -> bool:
        """Whether it is no news any more."""
        return time.monotonic() > self.since + self.lasts_s


def too_much(text: str, quota: Quota) -> Alarm:
    """Say that the broker wants less, and how much it gets now."""
    do = "Write the broker's quota as mqtt.max_messages_per_second, or have it raised."
    now = f"{text}; it gets {quota.limit or 0:.3g} messages a second now, and slowly more"
    return Alarm("broker-quota", now, do, quota.lasts_s)


class BrokerComponent(Component[MqttState]):
    """State and counts of the broker connection.

    `published` counts data messages that the broker acknowledged, `unmatched` those of them that nobody had
    subscribed to (PUBACK 0x10), `rejected` those that it refused and that stay in the buffer. `inflight` is how
    many messages of the window are in use. `refusals` tells for each topic that the broker refuses now, why; the
    state stays `connected`. `set_aside` counts samples that it refused for themselves.
    `last_ack` is on the monotonic clock, in seconds.
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
        self.set_aside = 0
        self._alarms: dict[str, Alarm] = {}

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

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """What is not over yet."""
        return tuple(alarm for alarm in self._alarms.values() if not alarm.is_over)

    def alarm(self, alarm: Alarm) -> None:
        """Raise an alarm; said once while it lasts."""
        before = self._alarms.get(alarm.code)
        self._alarms[alarm.code] = alarm
        if before is None or before.is_over:
            log.warning("%s: %s", self.name, told(alarm.text, alarm.do))
            self._tell()

    def put_aside(self, count: int, why: str) -> None:
        """Count samples that the broker takes at no price."""
        self.set_aside += count
        text = f"samples were set aside, {self.set_aside} since the start: {why}"
        do = "Ask the broker's operator why. `edge-gateway buffer info` shows them, and a gap tells the consumer."
        self._alarms.pop(_SET_ASIDE, None)
        self.alarm(Alarm(_SET_ASIDE, text, do, _DAY_S))

    def forget_refusals(self) -> None:
        """A new session asks anew."""
        if self.refusals:
            self.refusals.clear()
            self._tell()

    def _tell(self) -> None:
        for listener in self.listeners:
            listener()
