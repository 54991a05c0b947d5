"""A Config written out as YAML that loads to the same Config again; secrets stay where they are kept."""

from typing import Any

import yaml

from gateway.config.scalars import resolve
from gateway.config.schema import Config


class _Dumper(yaml.SafeDumper):
    """Writes for a reader of YAML 1.2: quotes every text that such a reader would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    try:
        plain = resolve(text) == text
    except ValueError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def expand(config: Config) -> str:
    """Give the whole config, defaults included."""
    plain = _written(config.model_dump(mode="json", exclude_none=True))
    for device in plain.get("devices", ()):
        device["tags"] = device.pop("tags", [])  # the longest part last, as people write it
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _written(value: Any) -> Any:
    """Leave out what is empty: it says nothing."""
    if isinstance(value, dict):
        return {key: _written(element) for key, element in value.items() if element not in ({}, [])}
    return [_written(element) for element in value] if isinstance(value, list) else value
