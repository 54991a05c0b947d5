"""Reads a config file: gives a Config that is complete, or a ConfigError with everything that is wrong with it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway import files
from gateway.config import defaults, raw, report
from gateway.config.nodes import LARGEST_FILE, Node, Place, read
from gateway.config.schema import Config
from gateway.errors import ConfigError, Problem


def load(path: Path, *, elsewhere: bool = False) -> Config:
    """Read the config at `path`. Raises ConfigError with every problem, each with file, line and column.

    `elsewhere`: the config is that of another process; its files and secrets need not be within our reach.
    """
    file = str(path)
    root, problems = read(file, _text(path))
    if root is None or not isinstance(root.value, dict):
        raise ConfigError(problems or [_no_config(file, root)])
    filled, complaints = defaults.apply(root)
    problems += [Problem(file, *place, where, text) for place, where, text in complaints]
    problems += raw.problems(file, filled)
    config, found = _build(file, filled, {files.FOLDER: path.absolute().parent, files.ELSEWHERE: elsewhere})
    if config is None or problems or found:
        raise ConfigError(report.ordered(problems + found))
    return config


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ConfigError([Problem(str(path), 0, 0, "", f"cannot be read: {files.reason(error)}")]) from error
    if len(content) > LARGEST_FILE:
        raise ConfigError([Problem(str(path), 0, 0, "", f"is larger than {LARGEST_FILE >> 20} MiB")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        problem = Problem(str(path), line, column, "", "is not UTF-8 from here on; save the file as UTF-8")
    raise ConfigError([problem])


def _no_config(file: str, root: Node | None) -> Problem:
    place = root.place if root is not None else Place(1, 1)
    text = "is empty; a config needs gateway:, mqtt: and devices:"
    return Problem(file, *place, "", text if root is None else "must hold keys: gateway:, mqtt:, devices: and others")


def _build(file: str, root: Node, context: Mapping[str, Any]) -> tuple[Config | None, list[Problem]]:
    """Validate. What spans devices is looked at even where single devices are wrong, with the others."""
    data = root.plain()
    config, errors = _validate(data, context)
    problems = [problem for error in errors for problem in report.problems(file, root, error)]
    if config is not None:
        return config, problems
    if errors and all(error["loc"][:1] == ("devices",) and len(error["loc"]) > 1 for error in errors):
        broken = {error["loc"][1] for error in errors}
        kept = [position for position in range(len(data["devices"])) if position not in broken]
        errors = _validate({**data, "devices": [data["devices"][n] for n in kept]}, context)[1] if kept else []
        problems += [problem for error in errors for problem in report.problems(file, root, error, kept)]
    return None, problems


def _validate(data: Any, context: Mapping[str, Any]) -> tuple[Config | None, list[ErrorDetails]]:
    # JSON, not Python objects: in pydantic's strict mode only JSON's lists and texts may become tuples and paths.
    text = json.dumps(data, allow_nan=False)
    try:
        return Config.model_validate_json(text, strict=True, context=dict(context)), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_input=False)
