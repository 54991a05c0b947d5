"""The program's only retry loop, and the components whose state it keeps."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Generic, TypeVar

from gateway.errors import DeviceError, PublishError, told

log = logging.getLogger(__name__)
State = TypeVar("State", bound=StrEnum)

STABLE_S: Final = 10.0
"""An attempt that lasted this long was a success: what ends it is retried at once, not after the last back-off."""
_PATIENCE: Final = 10.0
"""A device that asks for a pause gets it, and up to so many times as long while it goes on asking."""


def now_ms() -> int:
    """Wall-clock time, ms since the Unix epoch, UTC."""
    return time.time_ns() // 1_000_000


class Component(Generic[State]):
    """A supervised part with a state: what health, metrics, the dashboard and the state topic show.

    `error` is the sentence that explains a state which is not well, `do` what a person can do about it.
    """

    def __init__(self, name: str, state: State, *, well: frozenset[State]) -> None:
        self.name = name
        self.state = state
        self.since_ms = now_ms()
        self.error: str | None = None
        self.do = ""
        self.failures = 0
        self.listeners: list[Callable[[], None]] = []
        self._well = well
        self._down_since: float | None = None
        self._told: State | None = None

    @property
    def is_well(self) -> bool:
        """Whether the part does what it is there for."""
        return self.state in self._well

    def become(self, state: State, error: str | None = None, do: str = "") -> None:
        """Take a new state; each trouble is logged once, and once that it is over."""
        if (state, error) == (self.state, self.error):
            return
        if state != self.state:
            self.since_ms = now_ms()
        self.state, self.error, self.do = state, error, do
        self._log()
        for listener in self.listeners:
            listener()

    def _log(self) -> None:
        if self.is_well and self._down_since is not None:
            lasted = time.monotonic() - self._down_since
            attempts = "attempt" if self.failures == 1 else "attempts"
            log.info("%s: back after %.0f s and %d failed %s", self.name, lasted, self.failures, attempts)
            self._down_since, self.failures, self._told = None, 0, None
        if self.error is not None and self.state != self._told:
            if not self.is_well and self._down_since is None:
                self._down_since = time.monotonic()
            self._told = self.state
            log.warning("%s: %s", self.name, told(self.error, self.do))
        elif self.error is None and self.is_well and self._told is not None:
            self._told = None
            log.info("%s: %s again", self.name, self.state)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th failure in a row: doubling, capped, and jittered by half (seconds).

    Half of each delay is random, so that a hundred gateways do not return to a broker in one instant.
    """

    first: float = 0.25
    cap: float = 5.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row (from 1)."""
        pause = min(self.cap, self.first * 2.0 ** min(failures - 1, 30))
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 -- not a secret


async def supervise(
    component: Component[State],
    attempt: Callable[[], Coroutine[Any, Any, None]],
    *,
    broken: State,
    backoff: Backoff | None = None,
) -> None:
    """Run `attempt` again and again until cancelled; it ends only by an exception, which becomes the state.

    `attempt` itself says when it is well. An exception that nobody foresaw is a bug: it takes down this component
    only (`broken`), leaves its traceback in the log, once, and is retried like the others.
    """
    backoff = backoff or Backoff()
    loop = asyncio.get_running_loop()
    failures = refusals = 0
    # Each attempt is a task of its own: only so can a cancellation that goes wrong within it be told from ours.
    async with asyncio.TaskGroup() as group:
        while True:
            started = loop.time()
            running = group.create_task(_outcome(attempt), name=f"{component.name} attempt")
            await asyncio.wait([running])
            error = RuntimeError("what it waited for was cancelled") if running.cancelled() else running.result()
            _show(component, error, broken)
            lasted = loop.time() - started
            failures = 1 if lasted > STABLE_S else failures + 1
            component.failures += 1
            asked = error.retry_after_s if isinstance(error, DeviceError | PublishError) else 0.0
            refusals = refusals + 1 if asked else 0
            slower = replace(backoff, first=asked, cap=_PATIENCE * asked)
            await asyncio.sleep(slower.delay(refusals) if asked else backoff.delay(failures))


async def _outcome(attempt: Callable[[], Coroutine[Any, Any, None]]) -> Exception | None:
    try:
        await attempt()
    except Exception as error:  # the one place where a bug stops: here it costs one component, not the process
        return error
    return None


def _show(component: Component[State], error: Exception | None, broken: State) -> None:
    if error is None:
        return
    if isinstance(error, DeviceError | PublishError):
        component.become(error.state, str(error), error.do)  # type: ignore[arg-type]
        return
    text = f"unexpected {type(error).__name__}: {error}"
    if text != component.error:
        log.error("%s: unexpected error, please report it", component.name, exc_info=error)
    component.become(broken, text, "See the log, and report it.")
