"""A Config written out as YAML that loads to the same Config again; secrets stay where they are kept."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from gateway.config.scalars import resolve
from gateway.config.schema import Config
from gateway.drivers.base import Tag

_FASTEST: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TEXT: Final = "tag:yaml.org,2002:str"


class _Dumper(_FASTEST):  # type: ignore[misc]
    """Writes for a reader of YAML 1.2: quotes every text that such a reader would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, text: str) -> yaml.ScalarNode:
    try:
        plain = resolve(text) == text
    except ValueError:
        plain = False
    node: yaml.ScalarNode = dumper.represent_scalar(_TEXT, text, style=None if plain else '"')
    return node


_Dumper.add_representer(str, _text)


def expand(config: Config, templates: Mapping[str, str] | None = None) -> str:
    """Give the whole config: includes, templates, links and defaults put in, and a device's own defaults.

    `templates` are the devices' templates, by the devices' names: they are named in comments.
    """
    return "".join(_parts(config, templates or {}))


def _parts(config: Config, templates: Mapping[str, str]) -> Iterator[str]:
    plain = config.model_dump(mode="json", exclude_none=True, exclude={"devices": {"__all__": {"tags"}}})
    devices = plain.pop("devices", [])
    yield _dumped(_written(plain))
    if devices:
        yield "devices:\n"
    known: dict[int, str] = {}
    for section, device in zip(config.devices, devices, strict=True):
        if section.name in templates:
            yield f"# template: {templates[section.name]}\n"
        yield _dumped([_written(device)])
        if id(section.tags) not in known:  # alike devices share their tags
            known[id(section.tags)] = _tags(section.tags)
        yield known[id(section.tags)]


def _tags(tags: tuple[Tag, ...]) -> str:
    """Write tags, the longest part of a device, in a line or two each; they have few defaults that say something."""
    if not tags:
        return ""
    plain = [_written(tag.model_dump(mode="json", exclude_none=True, exclude_unset=True)) for tag in tags]
    lines = (f"    - {_dumped(tag, flow=True, width=10_000)}" for tag in plain)
    return "  tags:\n" + "".join(lines)


def _dumped(value: Any, *, flow: bool | None = False, width: int = 120) -> str:
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width, default_flow_style=flow
    )
    return text


def _written(value: Any) -> Any:
    """Leave out what is empty: it says nothing."""
    if isinstance(value, dict):
        return {key: _written(element) for key, element in value.items() if element not in ({}, [])}
    return [_written(element) for element in value] if isinstance(value, list) else value
