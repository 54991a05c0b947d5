"""The whole way of a reading on one machine: simulated PLCs, the gateway and a broker, each a process of its own."""

import asyncio
import contextlib
import json
import shutil
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from simulators.control import send
from simulators.tags import demo_devices
from tests.broker import Broker, free_port

WITHIN_S = 60.0
"""How long anything may take that is not a matter of speed."""
STARTS_S = 150.0
"""How long the simulated PLCs may take to be up: to build the address space is work, and a machine may be busy."""
RUN = ("-m", "gateway", "run", "-c")
"""The arguments that have Python run the gateway; the config file follows."""


class Child:
    """A Python process of ours, with its log in a file; ended by its own handle."""

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        self._arguments = arguments
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, *, stdout: int | None = None) -> asyncio.subprocess.Process:
        """Start it; its log goes on where it was."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *self._arguments, stdin=asyncio.subprocess.DEVNULL, stdout=stdout or log, stderr=log
            )
        return self.process

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and give the exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        code = await asyncio.wait_for(self.process.wait(), WITHIN_S)
        self.process = None
        return code

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Hold the process still (SIGSTOP) for the length of the block."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @property
    def said(self) -> str:
        """What it has logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Plant(Child):
    """The simulated PLCs, steered over their control channel."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        ports = ("--modbus-port", "0", "--opcua-port", "0", "--control-port", "0", "--json-ready")
        super().__init__(folder / "plant.log", "-m", "simulators", *ports, *arguments)
        self.where: dict[str, Any] = {}

    async def begin(self) -> None:
        """Start on free ports and learn which they are."""
        process = await self.start(stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        self.where = json.loads(await asyncio.wait_for(process.stdout.readline(), STARTS_S))

    async def order(self, device: str, do: str, **arguments: Any) -> Any:
        """Steer a device."""
        return await send(self.where["control"]["port"], {"device": device, "do": do, **arguments})


class Gateway(Child):
    """`edge-gateway run` on a config, killed and started again as a test wants; or another program that runs it."""

    def __init__(self, folder: Path, config: Mapping[str, Any], program: Sequence[str] = RUN) -> None:
        self.folder = folder
        self.config_file = folder / "gateway.yaml"
        self.config_file.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        self.url = f"http://{config['http']['listen']}"
        self.buffer_file = Path(config["buffer"]["path"])
        super().__init__(folder / "gateway.log", *program, str(self.config_file))

    async def health(self) -> dict[str, Any]:
        """Ask the local endpoint; waits until it answers."""
        async with aiohttp.ClientSession() as client, asyncio.timeout(WITHIN_S):
            while True:
                assert self.process is not None, "it does not run"
                assert self.process.returncode is None, self.said[-3000:]
                try:
                    async with client.get(f"{self.url}/health") as answer:
                        document: dict[str, Any] = await answer.json()
                        return document
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)  # the pace of asking, not a guess at when it is ready

    async def until(self, true_of: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Ask for health until it is so; fails with the last answer."""
        health: dict[str, Any] = {}
        try:
            async with asyncio.timeout(WITHIN_S):
                while not true_of(health := await self.health()):
                    await asyncio.sleep(0.1)  # the pace of asking
        except TimeoutError:
            raise AssertionError(f"it did not become so: {json.dumps(health)[:3000]}\n{self.said[-3000:]}") from None
        return health

    def last_seqs(self) -> dict[str, int]:
        """The last seq that each device was given, read from the file of a stopped gateway."""
        with contextlib.closing(sqlite3.connect(self.buffer_file)) as connection:
            return dict(connection.execute("SELECT device, next_seq - 1 FROM streams"))

    def waiting_seqs(self) -> dict[str, set[int]]:
        """The seqs that wait on the disk of a stopped gateway, for each device: a slow broker may leave some."""
        waiting: dict[str, set[int]] = {device: set() for device in self.last_seqs()}
        query = "SELECT device, first_seq, samples FROM batches JOIN streams ON streams.id = batches.stream"
        with contextlib.closing(sqlite3.connect(self.buffer_file)) as connection:
            for device, first, samples in connection.execute(query):
                waiting[device].update(range(first, first + samples))
        return waiting

    def unaccounted(self) -> int:
        """What the ledger of a stopped gateway leaves unexplained, read from its file."""
        with contextlib.closing(sqlite3.connect(self.buffer_file)) as connection:
            sums = "SELECT sum(sampled), sum(suppressed + acked + dropped) FROM streams"
            sampled, explained = connection.execute(sums).fetchone()
            (pending,) = connection.execute("SELECT coalesce(sum(readings), 0) FROM batches").fetchone()
        return int(sampled - explained - pending)


@asynccontextmanager
async def plant(folder: Path, *arguments: str) -> AsyncIterator[Plant]:
    """Run the simulated PLCs."""
    simulated = Plant(folder, *arguments)
    await simulated.begin()
    try:
        yield simulated
        if "opcua" in simulated.where:  # P10
            assert (await simulated.order("robot-1", "report"))["changes"] == 0
    finally:
        assert await simulated.end() == 0, simulated.said


@asynccontextmanager
async def running(gateway: Gateway, *, start: bool = True) -> AsyncIterator[Gateway]:
    """Run the gateway; whatever the test did to it, it is gone afterwards."""
    if start:
        await gateway.start()
    try:
        yield gateway
    finally:
        if gateway.process is not None:
            await gateway.end(signal.SIGKILL)


def configure(
    folder: Path, where: Mapping[str, Any], broker: Broker, *, interval: str = "200ms", **mqtt: Any
) -> dict[str, Any]:
    """A config that reads the whole plant over the strongest means it offers and publishes to the broker."""
    trusted = folder / "pki" / "trusted"
    if not trusted.exists():
        trusted.mkdir(parents=True)
        shutil.copy(where["opcua"]["certificate"], trusted)
    password = folder / "robot-password"
    password.touch(mode=0o600)
    password.write_text("gateway-secret")
    address = where["modbus"]["host"], where["modbus"]["port"], where["opcua"]["endpoint"]
    return {
        "gateway": {"id": "hall-3", "labels": {"site": "oslo"}},
        "mqtt": {
            "host": broker.host,
            "port": broker.port,
            "protocol": 5 if broker.kind == "mosquitto" else "3.1.1",
            "tls": {"ca_file": str(broker.ca_file)},
            "include_labels": ["site"],
            **mqtt,
        },
        "buffer": {"path": str(folder / "buffer.db"), "max_bytes": "64MiB"},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "control": {"socket": str(folder / "control.sock")},
        "devices": demo_devices(
            *address, interval=interval, pki_dir=str(folder / "pki"), password={"file": str(password)}
        ),
    }


def mutual_tls(broker: Broker) -> dict[str, Any]:
    """The `mqtt` keys for a client certificate, where the broker asks for one."""
    certificate, key = broker.client_certificate("hall-3")
    return {"tls": {"ca_file": str(broker.ca_file), "cert_file": str(certificate), "key_file": str(key)}}
