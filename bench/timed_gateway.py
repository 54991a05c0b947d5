"""`edge-gateway run` with a stop-watch at its event loop: how long a single step keeps everything else waiting."""

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gateway import config as configuration
from gateway.app import run_gateway
from gateway.loop import Loop


class Longest:
    """The longest step of the loop so far, in milliseconds: as the clock on the wall saw it, and in CPU time.

    On a machine that does other things too only the latter is ours.
    """

    def __init__(self, result: Path) -> None:
        self.wall = self.cpu = 0.0
        self._result = result

    def watch(self) -> None:
        """Time each step from now on. Whatever asyncio runs, it runs by `Handle._run`."""
        run: Any = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            wall, cpu = time.perf_counter(), time.thread_time()
            run(handle)
            self.cpu = max(self.cpu, (time.thread_time() - cpu) * 1000)
            self.wall = max(self.wall, (time.perf_counter() - wall) * 1000)

        asyncio.Handle._run = timed  # type: ignore[method-assign]

    def tell(self) -> None:
        """Write what was found, and begin anew."""
        self._result.write_text(f"{self.wall:.2f} {self.cpu:.2f}")
        self.wall = self.cpu = 0.0


async def _run(config_file: str, longest: Longest) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, longest.tell)
    await run_gateway(configuration.load(Path(config_file)))


def main() -> None:
    """Run the gateway; SIGUSR1 has it tell."""
    result, config_file = sys.argv[1:]
    longest = Longest(Path(result))
    longest.watch()
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(_run(config_file, longest))


if __name__ == "__main__":
    main()
