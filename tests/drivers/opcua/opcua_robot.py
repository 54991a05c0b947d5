"""A robot that is followed over one gateway after the other: what is stored outlives them, as on a disk."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from opcua_peer import BOUND_S

from gateway.drivers.base import Notification, Shared
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.model import Bookmark, Gap
from simulators.opcua_server import OpcuaSimulator
from simulators.robot import VARIABLES

COUNTER = next(variable for variable in VARIABLES if variable.path == "Robot.Counter")


class Store:
    """What one device has on disk: values by tag, gaps, bookmarks; and the memory of the gateway that runs."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}
        self.qualities: dict[str, list[str]] = {}
        self.gaps: list[Gap] = []
        self.bookmarks: dict[str, Bookmark] = {}
        self.shared = Shared("hall-3", bookmarks=self._marks)

    def _marks(self, _device: str) -> Mapping[str, Bookmark]:
        return self.bookmarks

    def crash(self) -> None:
        """Lose what was only in memory."""
        self.shared = Shared("hall-3", bookmarks=self._marks)

    def store(self, driver: Any, notification: Notification, *, acknowledge: bool = True) -> None:
        """Keep a notification, and let the driver acknowledge it."""
        names = [tag.name for tag in driver.section.tags]
        for sample in notification.samples:
            for column, value in zip(sample.columns, sample.values, strict=True):
                self.values.setdefault(names[column], []).append(value)
            for name, quality in sample.quality.items():
                self.qualities.setdefault(name, []).append(quality)
        self.gaps += notification.gaps
        for name, value in notification.bookmarks.items():
            if value is None:
                self.bookmarks.pop(name, None)
            else:
                self.bookmarks[name] = value
        if acknowledge:
            driver.acknowledge(notification.receipt)

    async def until(self, driver: Any, changes: AsyncIterator[Notification], seen: Any, **how: bool) -> None:
        """Store what comes until `seen()` holds."""
        async with asyncio.timeout(BOUND_S):
            while not seen():
                self.store(driver, await anext(changes), **how)

    def reasons(self) -> list[str]:
        """The reasons of the gaps, in order."""
        return [gap.reason for gap in self.gaps]


def robot_section(robot: OpcuaSimulator, tags: list[dict[str, Any]] | None = None, **keys: Any) -> OpcuaDevice:
    """Make the robot's section: its counter, unless other tags are given."""
    device = {
        "name": "robot-1",
        "protocol": "opcua",
        "endpoint": robot.endpoint,
        "interval": "50ms",
        "timeout": "500ms",
        "security": {"policy": "None", "insecure": True},
        "tags": tags or [{"name": "ticks", "node": COUNTER.node, "queue": 1000}],
    }
    return OpcuaDevice.model_validate({**device, **keys})


@contextlib.asynccontextmanager
async def killed(device: OpcuaDevice, store: Store, robot: OpcuaSimulator) -> AsyncIterator[tuple[Any, Any]]:
    """Follow a device until the body ends; then the process is gone: no goodbye reaches the server."""
    opened = device.open(store.shared)
    driver = await opened.__aenter__()
    changes = driver.changes()
    try:
        yield driver, changes
    finally:
        await robot.cut()
        with contextlib.suppress(Exception):
            await opened.__aexit__(None, None, None)
        store.crash()
