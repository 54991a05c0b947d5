"""A device as health, metrics and the state topic see it."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from gateway.drivers.base import DeviceSection, Driver
from gateway.model import ALL_TAGS, DeviceState
from gateway.supervisor import Component

_WELL: Final = frozenset({DeviceState.OK, DeviceState.DEGRADED})
_CYCLES: Final = 100
_NAMED_TAGS: Final = 3
_SLOW_POLLS: Final = 2
_LATEST_POLLS: Final = 10
"""So many of the latest polls that took longer than their interval make a device too slow: one alone is chance."""
_SENTENCE_S: Final = 60.0
"""How long a sentence with figures stands: else each poll would make a new state of the same trouble."""


class DeviceComponent(Component[DeviceState]):
    """A device as health, metrics and the state topic see it. Times are seconds, unless the name ends in `_ms`.

    `moved_at` is the monotonic time at which the poller last went on, or up to which it has nothing to do: a poller
    for which it is long past hangs.
    """

    def __init__(self, section: DeviceSection) -> None:
        super().__init__(section.name, DeviceState.CONNECTING, well=_WELL)
        self.protocol: str = getattr(section, "protocol", "")
        self.address = section.address
        self.critical = section.critical
        self.tags = len(section.tags)
        self.bad_tags = 0
        self.bad_names: Sequence[str] = ()
        self.interval_s = section.interval
        self.patience_s = 10 * (section.interval + section.timeout)
        self.last_good_ms: int | None = None
        self.skipped_cycles = 0
        self.reconnects = -1  # the first connection is none
        self.moved_at = time.monotonic()
        self._details: Callable[[], Mapping[str, Any]] = dict
        self._cycles: deque[float] = deque(maxlen=_CYCLES)
        self._slow_at = min([section.interval_of(tag) for tag in section.tags], default=section.interval)
        self._slow_polls: deque[bool] = deque(maxlen=_LATEST_POLLS)
        self._slowness = ""
        self._slowness_at = 0.0

    @property
    def cycle_last_s(self) -> float | None:
        """How long the last poll took; None before the first, and for a device that notifies."""
        return self._cycles[-1] if self._cycles else None

    @property
    def cycle_p95_s(self) -> float | None:
        """How long 95 of 100 recent polls took at most."""
        return sorted(self._cycles)[int(len(self._cycles) * 0.95)] if self._cycles else None

    @property
    def details(self) -> Mapping[str, Any]:
        """What the open connection tells of itself; nothing while there is none."""
        return self._details()

    def connected(self, driver: Driver) -> None:
        """Note a new connection."""
        self._details = lambda: driver.details
        self.reconnects += 1
        self._cycles.clear()
        self._slow_polls.clear()

    def lost(self) -> None:
        """Note that no tag can be read."""
        self._details = dict
        self.bad_tags, self.bad_names = self.tags, ()

    @property
    def slowness(self) -> str:
        """Why polls take longer than their interval; empty while they do not, or but once in a while."""
        return self._slowness if sum(self._slow_polls) >= _SLOW_POLLS else ""

    def cycle(self, seconds: float, driver: Driver) -> None:
        """Note how long a poll took; if that was too long, why."""
        was_slow, is_slow = bool(self.slowness), seconds > self._slow_at
        self._cycles.append(seconds)
        self._slow_polls.append(is_slow)
        now = time.monotonic()
        if is_slow and (not was_slow or now - self._slowness_at >= _SENTENCE_S):
            self._slowness = driver.slowness or f"a poll takes longer than the interval of {self._slow_at:g} s"
            self._slowness_at = now

    def show(self, bad: dict[str, str]) -> None:
        """Take the state that the tags' qualities and the cycles tell of."""
        self.bad_names = tuple(bad)[:_NAMED_TAGS]
        self.bad_tags = self.tags if ALL_TAGS in bad else len(bad)
        if bad:
            named = ", ".join(f"{name} ({bad[name]})" for name in self.bad_names)
            more = "" if len(bad) <= _NAMED_TAGS else f" and {len(bad) - _NAMED_TAGS} more"
            text = f"{self.bad_tags} of {self.tags} tags are not good: {named}{more}"
            self.become(DeviceState.DEGRADED, text, "Check the tags' addresses and the PLC's program.")
        elif slowness := self.slowness:
            self.become(DeviceState.DEGRADED, slowness, "Raise the interval, or poll fewer tags.")
        else:
            self.become(DeviceState.OK)
