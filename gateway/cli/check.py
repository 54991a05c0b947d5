"""`edge-gateway check`: says whether a config is right, or everything that is wrong with it."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from gateway.cli.output import count
from gateway.config import Config, Loaded, load_with_templates
from gateway.config.expand import expand
from gateway.errors import ConfigError, Problem

_WRONG: Final = 2
_SHOWN: Final = 5


@click.command(epilog="Example: edge-gateway check -c /etc/edge-gateway/gateway.yaml")
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The config file.")
@click.option("--expand", "expanded", is_flag=True, help="Print all devices with templates, files and defaults put in.")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def check(path: Path, expanded: bool, as_json: bool) -> None:
    """Check a config without connecting to anything.

    Exits with 0 if it can be run; with 2 and one line for each problem if not.
    """
    try:
        loaded = load_with_templates(path)
    except ConfigError as error:
        _refuse(error.problems, as_json)
    for warning in () if as_json else _warnings(loaded):
        click.echo(f"warning: {warning}", err=True)
    if as_json:
        click.echo(json.dumps(_summary(loaded)))
    elif expanded:
        click.echo(expand(loaded.config, loaded.templates), nl=False)
    else:
        click.echo(_sentence(path, loaded.config))


def _refuse(problems: tuple[Problem, ...], as_json: bool) -> Any:
    if as_json:
        click.echo(json.dumps({"ok": False, "problems": [asdict(problem) for problem in problems]}))
    else:
        for problem in problems:
            click.echo(str(problem), err=True)
    sys.exit(_WRONG)


def _warnings(loaded: Loaded) -> list[str]:
    return [*loaded.warnings, *loaded.config.warnings, *loaded.config.in_clear]


def _summary(loaded: Loaded) -> dict[str, Any]:
    config = loaded.config
    return {
        "ok": True,
        "problems": [],
        "warnings": _warnings(loaded),
        "hash": config.hash,
        "devices": len(config.devices),
        "tags": sum(len(device.tags) for device in config.devices),
        "found_at_connect": _browsing(config),
        "templates": loaded.templates,
    }


def _sentence(path: Path, config: Config) -> str:
    return f"{path}: ok, {count(len(config.devices), 'device')}, {_tags(config)}, hash {config.hash}"


def _tags(config: Config) -> str:
    """Count the tags; how many more a server has below what `browse` names, nobody knows before we connect."""
    number = sum(len(device.tags) for device in config.devices)
    browsing = _browsing(config)
    if not browsing:
        return count(number, "tag")
    who = ", ".join(browsing[:_SHOWN]) + (f" and {len(browsing) - _SHOWN} more" if len(browsing) > _SHOWN else "")
    own = f"{count(number, 'tag')} and " if number else ""
    return f"{own}tags that browse finds at connect ({who})"


def _browsing(config: Config) -> list[str]:
    return [device.name for device in config.devices if getattr(device, "browse", ())]
