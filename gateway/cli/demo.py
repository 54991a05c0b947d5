"""`edge-gateway demo`: the whole way of a reading on one machine, in a minute."""

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.live import Live

from gateway import logs
from gateway.demo.broker import run_broker
from gateway.demo.certificates import make_certificates
from gateway.demo.consumer import Consumer
from gateway.demo.plant import free_port, run_gateway_process, run_simulators, write_config
from gateway.demo.table import line, picture
from gateway.errors import GatewayError

REFRESH_S: Final = 0.5
DEVICES: Final = frozenset({"press-1", "meter-1", "robot-1"})


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself; exit 0 only if every device's data came.")
@click.option("--keep", is_flag=True, help="Keep the folder with the config, the buffer and the logs.")
def demo(seconds: float | None, keep: bool) -> None:
    """Run simulated PLCs, the gateway and a TLS-only broker, and show what the broker receives.

    \b
    Example:
      edge-gateway demo
      edge-gateway demo --seconds 20
    """
    logs.configure(level="warning")
    folder = Path(tempfile.mkdtemp(prefix="edge-gateway-demo-"))
    try:
        arrived = asyncio.run(_run(folder, seconds))
    finally:
        if keep:
            click.echo(f"Kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if seconds is not None and not arrived:
        click.echo("demo: not every simulated device's readings arrived at the broker", err=True)
        sys.exit(1)


async def _run(folder: Path, seconds: float | None) -> bool:
    """Start everything from the broker up, show it, end it in the opposite order; say whether all devices came."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    click.echo("Starting the broker and the simulated PLCs ...", err=True)
    ca_file, certificate, key = make_certificates(folder)
    broker_port, http_port = free_port(), free_port(8080)
    consumer = Consumer(broker_port, ca_file)
    async with run_broker(broker_port, certificate, key), run_simulators(folder) as plant, asyncio.TaskGroup() as group:
        receiving = group.create_task(consumer.run(), name="consumer")
        config = write_config(folder, plant, broker_port, ca_file, http_port)
        async with run_gateway_process(folder, config) as gateway:
            click.echo(f"Config: {config}\nPage:   http://127.0.0.1:{http_port}/", err=True)
            await _show(consumer, gateway, f"http://127.0.0.1:{http_port}/", stop, seconds)
        receiving.cancel()
    if gateway.returncode != 0:
        raise GatewayError("the gateway ended with an error", do=_last_words(folder / "gateway.log"))
    return {name for name, received in consumer.devices.items() if received.samples} >= DEVICES


async def _show(
    consumer: Consumer, gateway: asyncio.subprocess.Process, page: str, stop: asyncio.Event, seconds: float | None
) -> None:
    """Draw until told to stop, the time is over, or the gateway is gone."""
    console = Console()
    began = time.monotonic()

    def over() -> bool:
        passed = seconds is not None and time.monotonic() - began >= seconds
        return passed or stop.is_set() or gateway.returncode is not None

    with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else nullcontext() as live:
        while not over():
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S if live else 1.0):
                    await stop.wait()
            elapsed = time.monotonic() - began
            if live is None:
                click.echo(line(consumer, elapsed))
            else:
                live.update(picture(consumer, page, elapsed), refresh=True)


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-5:])
