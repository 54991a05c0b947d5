"""A walk through an OPC UA server over the running daemon's session: each request is one bounded step."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, cast

from gateway.control.client import Daemon
from gateway.control.messages import Browse
from gateway.control.messages import View as ViewRequest
from gateway.drivers.base import Driver
from gateway.drivers.opcua.exploring import View
from gateway.drivers.opcua.pages import Page, Reference
from gateway.drivers.opcua.reading import OpcuaDriver
from gateway.errors import DeviceError

_PAUSE_S: Final = 0.02
"""Between two steps, so that what the daemon itself asks the server is not held up."""


async def step(driver: Driver, request: Browse | ViewRequest) -> dict[str, Any]:
    """Do one step for a client, and give the response. Raises DeviceError."""
    explorer = cast("OpcuaDriver", driver).explorer
    if isinstance(request, ViewRequest):
        views = [list(view) for view in await explorer.look(request.nodes)]
        return {"ok": True, "views": views, "requests": explorer.requests}
    if request.points:
        points = [bytes.fromhex(point) for point in request.points]
        pages = await explorer.more(points, release=request.release)
    else:
        pages = await explorer.first(request.nodes)
    told = [[page.status, page.point.hex(), list(map(list, page.references)), page.node] for page in pages]
    return {"ok": True, "pages": told, "requests": explorer.requests}


class RemoteExplorer:
    """The daemon's session, as what a walk asks."""

    def __init__(self, daemon: Daemon, device: str) -> None:
        self._daemon = daemon
        self._device = device
        self.requests = 0

    async def first(self, nodes: Sequence[str]) -> list[Page]:
        """Ask for the first references of each node."""
        return self._pages(await self._ask({"do": "browse", "nodes": list(nodes)}))

    async def more(self, points: Sequence[bytes], *, release: bool = False) -> list[Page]:
        """Ask for what follows at each continuation point, or free it."""
        asked = [point.hex() for point in points]
        return self._pages(await self._ask({"do": "browse", "points": asked, "release": release}))

    async def look(self, nodes: Sequence[tuple[str, str]]) -> list[View]:
        """Read variables, each given with the node of its unit."""
        answer = await self._ask({"do": "view", "nodes": [list(each) for each in nodes]})
        return [View(*view) for view in answer["views"]]

    def _pages(self, answer: dict[str, Any]) -> list[Page]:
        return [
            Page(status, bytes.fromhex(point), [Reference(*each) for each in references], node)
            for status, point, references, node in answer["pages"]
        ]

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(_PAUSE_S)
        answer = await self._daemon.ask({**request, "device": self._device})
        if not answer["ok"]:
            raise DeviceError(str(answer["text"]), reason=str(answer["code"]), do=str(answer["do"]))
        self.requests += int(answer["requests"])
        return answer
