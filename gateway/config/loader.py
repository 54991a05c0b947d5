"""Reads a config file: gives a Config that is complete, or a ConfigError with everything that is wrong with it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway import files
from gateway.config import alike, raw, report
from gateway.config.nodes import Complaint, Node, Place, read
from gateway.config.resolve import Resolved, resolve
from gateway.config.schema import Config
from gateway.config.sources import Unreadable, text_of
from gateway.drivers.base import VALIDATED
from gateway.errors import ConfigError


class Loaded(NamedTuple):
    """A config, and what it was made from: each device's template as `name@version`, and what to look at in that."""

    config: Config
    templates: dict[str, str]
    warnings: tuple[str, ...]


def load(path: Path, *, elsewhere: bool = False) -> Config:
    """Read the config at `path`. Raises ConfigError with every problem, each with file, line and column.

    `elsewhere`: the config is that of another process; its files and secrets need not be within our reach.
    """
    return load_with_templates(path, elsewhere=elsewhere).config


def load_with_templates(path: Path, *, elsewhere: bool = False) -> Loaded:
    """Read the config at `path`, and tell which templates its devices have."""
    file = str(path)
    root, complaints = _tree(path)
    if root is None or not isinstance(root.value, dict):
        raise ConfigError(report.ordered(complaints or [_no_config(file, root)], file, {}))
    resolved = resolve(root, path)
    complaints += resolved.complaints
    complaints += raw.complaints(resolved.root, resolved.incomplete, whole=resolved.whole)
    config, found = _build(resolved, {files.FOLDER: path.absolute().parent, files.ELSEWHERE: elsewhere})
    if config is None or complaints or found or resolved.incomplete:
        raise ConfigError(report.ordered([*complaints, *found], file, resolved.users))
    templates = {device: template.title for device, template in resolved.templates.items()}
    return Loaded(config, templates, tuple(_newer(resolved)))


def _tree(path: Path) -> tuple[Node | None, list[Complaint]]:
    try:
        return read(str(path), text_of(path))
    except Unreadable as unreadable:
        return None, [Complaint(unreadable.place, "", str(unreadable))]


def _no_config(file: str, root: Node | None) -> Complaint:
    place = root.place if root is not None else Place(file, 1, 1)
    text = "is empty; a config needs gateway:, mqtt: and devices:"
    return Complaint(place, "", text if root is None else "must hold keys: gateway:, mqtt:, devices: and others")


def _newer(resolved: Resolved) -> Iterator[str]:
    for name, newest in resolved.newer.items():
        template = resolved.templates[name]
        yield (
            f"{name}: template {template.name} has a newer version; "
            f"compare it, then write template: {template.name}@{newest}"
        )


def _build(resolved: Resolved, context: Mapping[str, Any]) -> tuple[Config | None, list[Complaint]]:
    """Validate. What spans devices is looked at even where single devices are wrong, with the others."""
    root = resolved.root
    data, tags = _plain(root, context)
    context = {**context, VALIDATED: tags.lists}
    config, errors = _validate(data, context)
    known = [error for error in [*tags.errors, *errors] if not report.is_known(error, resolved.incomplete)]
    complaints = [complaint for error in known for complaint in report.complaints(root, error)]
    if config is not None:
        return config, complaints
    if errors and all(error["loc"][:1] == ("devices",) and len(error["loc"]) > 1 for error in errors):
        broken = {error["loc"][1] for error in errors}
        kept = [position for position in range(len(data["devices"])) if position not in broken]
        errors = _validate({**data, "devices": [data["devices"][n] for n in kept]}, context)[1] if kept else []
        complaints += [complaint for error in errors for complaint in report.complaints(root, error, kept)]
    return None, complaints


def _plain(root: Node, context: Mapping[str, Any]) -> tuple[Any, alike.Validated]:
    """Give the tree as plain values, in which a list of tags is the number of the validated one."""
    devices = root.get("devices")
    if devices is None or not isinstance(devices.value, list):
        return root.plain(), alike.Validated()
    tags = alike.validate(devices.elements, context)
    data = {key: entry.node.plain() for key, entry in root.entries.items() if key != "devices"}
    data["devices"] = [_device(device, tags.numbers.get(number)) for number, device in enumerate(devices.elements)]
    return data, tags


def _device(device: Node, tags: int | None) -> Any:
    if not isinstance(device.value, dict):
        return device.plain()
    plain = {key: entry.node.plain() for key, entry in device.entries.items() if key != "tags"}
    if "tags" in device.entries:
        plain["tags"] = True if tags is None else tags  # true is no list either, and no number of one
    return plain


def _validate(data: Any, context: Mapping[str, Any]) -> tuple[Config | None, list[ErrorDetails]]:
    # JSON, not Python objects: in pydantic's strict mode only JSON's lists and texts may become tuples and paths.
    text = json.dumps(data, allow_nan=False)
    try:
        return Config.model_validate_json(text, strict=True, context=dict(context)), []
    except ValidationError as error:
        return None, error.errors(include_url=False, include_input=False)
