"""Whether the broker is still there: a ping when it is quiet, and the end when it stays so."""

import math
from typing import Final

from paho.mqtt.client import Client

from gateway.publisher.reasons import unheard

_PING: Final = 0.75
_DEAD: Final = 1.25
"""In keep-alive intervals (MQTT 5.0 section 3.1.2.10), from the last thing heard."""


class KeepAlive:
    """Keeps a session alive in place of paho, which needs two intervals to notice a dead link.

    The interval is the broker's if it named one (Server Keep Alive, MQTT 5.0 section 3.2.2.3.14).
    """

    def __init__(self, client: Client, address: str) -> None:
        self._client = client
        self._address = address
        self._pinged = 0.0
        client._check_keepalive = lambda: None  # type: ignore[method-assign]

    def look(self, now: float) -> float:
        """Ping if it is time to; gives when to look again. Raises PublishError if the broker is silent too long.

        `now` is of the monotonic clock, in seconds.
        """
        interval = self._client._keepalive
        if not interval:
            return math.inf
        heard, said = self._client._last_bytes_received, self._client._last_msg_out
        dead_at = heard + _DEAD * interval
        if dead_at <= now:
            raise unheard(self._address)
        if now >= max(min(heard, said), self._pinged) + _PING * interval:
            self._client._send_pingreq()
            self._pinged = now
        return min(dead_at, max(min(heard, said), self._pinged) + _PING * interval)
