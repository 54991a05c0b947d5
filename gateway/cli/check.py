"""`edge-gateway check`: says whether a config is right, or everything that is wrong with it."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from gateway.config import Config, load
from gateway.config.expand import expand
from gateway.errors import ConfigError, Problem

_WRONG: Final = 2


@click.command(epilog="Example: edge-gateway check -c /etc/edge-gateway/gateway.yaml")
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The config file.")
@click.option("--expand", "expanded", is_flag=True, help="Print the config with every default written out.")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def check(path: Path, expanded: bool, as_json: bool) -> None:
    """Check a config without connecting to anything.

    Exits with 0 if it can be run; with 2 and one line for each problem if not.
    """
    try:
        config = load(path)
    except ConfigError as error:
        _refuse(error.problems, as_json)
    for warning in () if as_json else (*config.warnings, *config.in_clear):
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(_summary(config)))
    else:
        click.echo(expand(config) if expanded else _sentence(path, config), nl=not expanded)


def _refuse(problems: tuple[Problem, ...], as_json: bool) -> Any:
    if as_json:
        click.echo(json.dumps({"ok": False, "problems": [asdict(problem) for problem in problems]}))
    else:
        for problem in problems:
            click.echo(str(problem), err=True)
    sys.exit(_WRONG)


def _summary(config: Config) -> dict[str, Any]:
    return {
        "ok": True,
        "problems": [],
        "warnings": [*config.warnings, *config.in_clear],
        "hash": config.hash,
        "devices": len(config.devices),
        "tags": sum(len(device.tags) for device in config.devices),
    }


def _sentence(path: Path, config: Config) -> str:
    tags = sum(len(device.tags) for device in config.devices)
    return f"{path}: ok, {_count(len(config.devices), 'device')}, {_count(tags, 'tag')}, hash {config.hash}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
