"""What the service manager is told: started, alive, stopping (the sd_notify protocol of systemd)."""

import asyncio
import os
import socket
from collections.abc import Callable

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"


def notify(*lines: str) -> bool:
    """Send these lines to the service manager; False where there is none, or it does not listen.

    Source: sd_notify(3). Never raises: the gateway works on when nobody supervises it.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A leading @ stands for the NUL of Linux' abstract socket names, see unix(7).
    name = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as channel:
            channel.sendto("\n".join(lines).encode(), name)
    except OSError:
        return False
    return True


def status(text: str) -> str:
    """Make the line that `systemctl status` shows as the service's own words."""
    return f"STATUS={' '.join(text.split())}"


def watchdog_s() -> float | None:
    """Seconds within which the service manager wants a sign of life from this process; None if it wants none.

    Source: sd_watchdog_enabled(3).
    """
    period = os.environ.get("WATCHDOG_USEC", "")
    process = os.environ.get("WATCHDOG_PID", "")
    if not period.isdecimal() or int(period) == 0 or process not in {"", str(os.getpid())}:
        return None
    return int(period) / 1_000_000


async def feed_watchdog(alive: Callable[[], bool]) -> None:
    """Send a sign of life twice per watchdog period while `alive()` says so; returns at once without a watchdog.

    A gateway that is not alive any more stays silent, and systemd restarts it.
    """
    period = watchdog_s()
    while period is not None:
        if alive():
            notify(WATCHDOG)
        await asyncio.sleep(period / 2)
