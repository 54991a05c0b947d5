"""`edge-gateway run`: the daemon."""

import asyncio
import faulthandler
import os
from pathlib import Path
from typing import Literal

import click

from gateway import config as configuration
from gateway import logs
from gateway.app import run_gateway
from gateway.loop import Loop


@click.command()
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The config file.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="How log lines look.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default=lambda: os.environ.get("EDGE_GATEWAY_LOG_LEVEL", "info"),
    help="From which level on; default: info.",
)
def run(path: Path, log_format: Literal["text", "json"], log_level: str) -> None:
    """Run the gateway until SIGTERM or Ctrl-C.

    \b
    Example:
      edge-gateway run -c /etc/edge-gateway/gateway.yaml
    """
    config = configuration.load(path)
    logs.configure(log_format, log_level)
    faulthandler.enable()  # what the watchdog kills leaves its stacks in the journal
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(run_gateway(config))
