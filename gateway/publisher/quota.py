"""A broker's quota, found out by being thrown out: a lower rate at once, and slowly back to the full one."""

from collections import deque
from typing import Final

LOWEST: Final = 0.5
"""Messages a second that are always allowed."""
FIRST_RECOVERY_S: Final = 60.0
LONGEST_RECOVERY_S: Final = 3600.0
_SAME_KICK_S: Final = 1.0
_RECOVERIES: Final = 10
_MEASURED: Final = 500


class Quota:
    """The rate that a broker seems to allow, in messages a second; None until it complains.

    Each complaint halves the rate that was in use. It then grows by that half within the recovery time: 60 s, twice as
    long after each complaint that comes before the end of the last one's, an hour at most. After ten recovery times
    without a complaint it is forgotten. `now` is any clock, in seconds.
    """

    def __init__(self) -> None:
        self.limit: float | None = None
        self._recovery = FIRST_RECOVERY_S
        self._since = 0.0
        self._times: deque[float] = deque(maxlen=_MEASURED)

    def sent(self, now: float) -> None:
        """Note a message that goes."""
        self._times.append(now)

    def exceeded(self, now: float, *, lowest: float = LOWEST) -> None:
        """The broker complains. What follows within a second is the same complaint."""
        if self.limit is not None and now - self._since < _SAME_KICK_S:
            return
        allowed = self.now_allowed(now)
        in_use = self._in_use(now) if allowed is None else min(allowed, self._in_use(now))
        if allowed is not None:
            self._recovery = min(LONGEST_RECOVERY_S, 2 * self._recovery)
        self.limit = max(lowest, in_use / 2)
        self._since = now

    def now_allowed(self, now: float) -> float | None:
        """Give the rate that may be used now; None: any."""
        if self.limit is None:
            return None
        recovered = (now - self._since) / self._recovery
        if recovered >= _RECOVERIES:
            self.limit, self._recovery = None, FIRST_RECOVERY_S
            return None
        return self.limit * (1 + recovered)

    @property
    def lasts_s(self) -> float:
        """How long until the full rate, if no complaint comes meanwhile."""
        return _RECOVERIES * self._recovery

    def _in_use(self, now: float) -> float:
        """Give the rate of late: what was sent within ten seconds, over the time that it took, a second at least."""
        recent = [at for at in self._times if at > now - 10]
        return len(recent) / max(1.0, now - recent[0]) if recent else 0.0
