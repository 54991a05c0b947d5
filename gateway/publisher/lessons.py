"""What the end of a session teaches for the next one: that less is wanted, or that another client has our id."""

from typing import Final

from gateway.errors import PublishError
from gateway.publisher.component import Alarm, BrokerComponent, too_much
from gateway.publisher.quota import Quota
from gateway.publisher.reasons import CutError, TakenOverError, TooMuchError

SHORT_S: Final = 30.0
SOME_MESSAGES: Final = 10
SUSPICIOUS: Final = 2
"""Cut off so often in a row, soon after having sent some messages: a broker that does not say why it minds."""
HOPELESS: Final = 3
HOPELESS_THOUGH_SLOW: Final = 6
PAUSE_S: Final = 10.0
"""Cut off so often in a row though little was sent: another client may have our id, and each throws the other out."""
LOWEST_SUSPECTED: Final = 5.0
"""A link that breaks off looks alike: it is not to be slowed down for good."""
RIVAL_S: Final = 3600.0


class Lessons:
    """Learns from how sessions end: less is sent, or the next attempt is later, and health tells why."""

    def __init__(self, quota: Quota, component: BrokerComponent) -> None:
        self._quota = quota
        self._component = component
        self._cuts = 0

    def learn(self, error: PublishError, *, lasted: float, sent: int, now: float) -> None:
        """Note how a session ended that `lasted` so many seconds and in which so many messages were sent."""
        was_cut = isinstance(error, CutError) and lasted < SHORT_S
        self._cuts = self._cuts + 1 if was_cut else 0
        if isinstance(error, TakenOverError):
            self._component.alarm(Alarm("client-id-twice", str(error), error.do, RIVAL_S))
        elif isinstance(error, TooMuchError):
            self._quota.exceeded(now)
            self._component.alarm(too_much(str(error), self._quota))
        elif self._cuts >= SUSPICIOUS and sent >= SOME_MESSAGES:
            self._quota.exceeded(now, lowest=LOWEST_SUSPECTED)
            text = f"{error} {self._cuts} times soon after messages were sent, perhaps for a quota"
            self._component.alarm(too_much(text, self._quota))
        if self._cuts >= (HOPELESS if sent < SOME_MESSAGES else HOPELESS_THOUGH_SLOW):
            error.retry_after_s = PAUSE_S
            text = f"{error} {self._cuts} times in a row, each time within {SHORT_S:.0f} s"
            self._component.alarm(Alarm("cut-off", text, error.do, RIVAL_S))
