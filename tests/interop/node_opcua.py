"""The tests' side of `opcua_server.js`: started, steered and ended by its own handle."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.drivers.opcua.section import OpcuaDevice
from tests.broker import free_port
from tests.programs import missing, require_program

HERE = Path(__file__).parent
NAMESPACE = "urn:interop:plc"
BOUND_S = 60.0
"""No step of a test takes longer than this, even on a machine that is busy with other things."""


def require_node() -> str:
    """Where Node.js is; skips the test where it or the server's packages are missing, fails it there in CI."""
    node = require_program("node", "nodejs npm")
    if not (HERE / "node_modules" / "node-opcua").is_dir():
        missing("node-opcua is not installed: npm ci --prefix tests/interop")
    return node


class NodeServer:
    """A server of another make, on one port for its whole life, killed and started again as a test wants."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._node = require_node()
        self._options = {"port": free_port(), "folder": str(folder), **options}
        self._process: asyncio.subprocess.Process | None = None
        self._log = folder / "server.log"
        self.certificate = b""
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        """The URL that clients connect to."""
        return f"opc.tcp://127.0.0.1:{self._options['port']}"

    async def start(self) -> None:
        """Listen on the same port as before, with the same certificate and no variables."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._node, str(HERE / "opcua_server.js"), json.dumps(self._options),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log, limit=1 << 24,
            )  # fmt: skip
        self.certificate = base64.b64decode((await self._answer())["certificate"])

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.communicate()
        self._process = None

    async def order(self, do: str, **arguments: Any) -> Any:
        """Have it do something; gives what it answers."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        answer = await self._answer()
        assert "failed" not in answer, answer["failed"]
        return answer["done"]

    async def add(self, **variables: tuple[Any, ...] | dict[str, Any]) -> None:
        """Make variables: name=(type, value), (type, elements, lengths of a matrix), or what opcua_nodes.js takes."""
        keys = ("type", "value", "shape")
        given = [
            {"name": name, **(each if isinstance(each, dict) else dict(zip(keys, each, strict=False)))}
            for name, each in variables.items()
        ]
        await self.order("add", variables=given)

    async def asked(self, request: str) -> int:
        """How many requests of a kind, such as BrowseNextRequest, it has got since it was started."""
        counts: dict[str, int] = await self.order("asked")
        return counts.get(request, 0)

    async def set(self, **values: Any) -> None:
        """Change variables."""
        await self.order("set", values=[{"name": name, "value": value} for name, value in values.items()])

    async def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), BOUND_S)
        assert line, self._log.read_text()[-3000:]
        answer: dict[str, Any] = json.loads(line)
        return answer

    def section(self, tags: list[Any], **keys: Any) -> OpcuaDevice:
        """Make a device's section; a tag is a mapping, or a name that is also the node's."""
        given = [tag if isinstance(tag, dict) else {"name": tag, "node": node(tag)} for tag in tags]
        plain = {"policy": "None", "insecure": True}
        device = {"name": "plc", "protocol": "opcua", "endpoint": self.endpoint, "timeout": "5s", "interval": "200ms"}
        return OpcuaDevice.model_validate({**device, "security": plain, **keys, "tags": given})


def node(name: str) -> str:
    """The node id of a variable."""
    return f"nsu={NAMESPACE};s={name}"


@asynccontextmanager
async def node_server(folder: Path, **options: Any) -> AsyncIterator[NodeServer]:
    """Run a server; it is gone afterwards, and was asked to change nothing (P10)."""
    server = NodeServer(folder, **options)
    try:
        await server.start()
        yield server
        assert await server.asked("ReadRequest"), "nothing was counted"
        assert [await server.asked(kind) for kind in ("WriteRequest", "CallRequest")] == [0, 0]
    finally:
        await server.kill()
