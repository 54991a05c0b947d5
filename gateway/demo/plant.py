"""The demo's other processes: the simulated PLCs and the gateway, each a child that ends with us."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.errors import GatewayError

START_S: Final = 60.0
STOP_S: Final = 6.0


@asynccontextmanager
async def run_simulators(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
    """Run the simulated PLCs on free ports; gives where they are. Raises GatewayError if they do not start."""
    arguments = ("--modbus-port", "0", "--rtu", "--opcua-port", "0", "--control-port", "0", "--json-ready")
    async with _child("simulators", folder, "-m", "simulators", *arguments, stdout=asyncio.subprocess.PIPE) as child:
        assert child.stdout is not None  # noqa: S101 -- it is a pipe
        try:
            async with asyncio.timeout(START_S):
                ready = json.loads(await child.stdout.readline())
        except (TimeoutError, json.JSONDecodeError) as error:
            raise GatewayError("the simulated PLCs did not start", do=f"See {folder / 'simulators.log'}.") from error
        yield ready


@asynccontextmanager
async def run_gateway_process(folder: Path, config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `edge-gateway run` on the config; SIGTERM ends it."""
    async with _child("gateway", folder, "-m", "gateway", "run", "-c", str(config)) as child:
        yield child


def write_config(folder: Path, plant: Mapping[str, Any], broker_port: int, ca_file: Path, http_port: int) -> Path:
    """Write the config that reads the whole plant and sends it to the demo's broker."""
    from simulators.tags import demo_devices

    pki = folder / "pki"
    trusted = pki / "trusted"
    trusted.mkdir(parents=True, mode=0o700)
    shutil.copy(plant["opcua"]["certificate"], trusted)
    modbus = plant["modbus"]
    devices = demo_devices(modbus["host"], modbus["port"], plant["opcua"]["endpoint"], pki_dir=str(pki))
    config = {
        "gateway": {"id": "demo", "labels": {"site": "demo"}},
        "mqtt": {
            "host": "localhost",
            "port": broker_port,
            "protocol": "3.1.1",
            "tls": {"ca_file": str(ca_file)},
            "include_labels": ["site"],
            "health_interval": "1s",
        },
        "buffer": {"path": str(folder / "buffer.db"), "max_bytes": "64MiB"},
        "http": {"listen": f"127.0.0.1:{http_port}"},
        "control": {"socket": str(folder / "control.sock")},
        "devices": [_on_its_line(device, plant["modbus-rtu"]) for device in devices],
    }
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


def _on_its_line(device: dict[str, Any], line: Mapping[str, Any]) -> dict[str, Any]:
    """Give the meter as it is reached on the simulated serial line, and any other device as it is."""
    if device["name"] != "meter-1":
        return device
    serial = {key: line[key] for key in ("port", "baudrate", "parity", "stopbits")}
    kept = {key: value for key, value in device.items() if key not in {"host", "port"}}
    return {**kept, "protocol": "modbus-rtu", "serial": serial}


def free_port(preferred: int = 0) -> int:
    """Give a free port of 127.0.0.1: the preferred one if nobody has it."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise GatewayError("no free port on 127.0.0.1")


@asynccontextmanager
async def _child(
    name: str, folder: Path, *arguments: str, stdout: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run Python with these arguments, its log in the folder; end it by SIGTERM, and by force if it lingers."""
    with (folder / f"{name}.log").open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=stdout or log, stderr=log,
            start_new_session=True,  # Ctrl-C is ours: we end the children in our order
        )  # fmt: skip
        try:
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_S):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
