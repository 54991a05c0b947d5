"""The plant: machines that move on together, step by step, by hand or at a pace."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

STEP_S = 0.1


class Stepped(Protocol):
    """A machine of the plant."""

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds."""


class Plant:
    """Machines in the order in which they step. The same machines, seeds and number of steps give the same values.

    `dt` is the plant's own time in a step; how often steps are taken is the matter of `running`.
    `after_step` is awaited after each step taken by `running`: it shows the new values where that needs I/O.
    """

    def __init__(
        self,
        machines: Sequence[Stepped],
        *,
        dt: float = STEP_S,
        after_step: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.machines = tuple(machines)
        self.dt = dt
        self.ticks = 0
        self._after_step = after_step

    def step(self, steps: int = 1) -> None:
        """Move all machines on."""
        for _ in range(steps):
            self.ticks += 1
            for machine in self.machines:
                machine.step(self.dt)

    @asynccontextmanager
    async def running(self, step_s: float = STEP_S) -> AsyncIterator[None]:
        """Take a step every `step_s` seconds of wall-clock while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            pace = tasks.create_task(self._keep_stepping(step_s), name="plant")
            try:
                yield
            finally:
                pace.cancel()

    async def _keep_stepping(self, step_s: float) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            self.step()
            if self._after_step is not None:
                await self._after_step()
            due = max(due + step_s, clock())  # a late step is not made up for: the plant just runs slower
            await asyncio.sleep(due - clock())
