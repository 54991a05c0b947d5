"""MQTT topics as templates: `factory/{gateway}/{device}`, with `{labels.NAME}` too."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

from pydantic import AfterValidator

GATEWAY: Final = "{gateway}"
DEVICE: Final = "{device}"
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_LABEL: Final = re.compile(r"labels\.([A-Za-z0-9_.-]+)")
LONGEST: Final = 1024
"""Bytes of a topic; MQTT's own limit is 65535, brokers' limits begin at a few hundred."""


def parse_topic(text: str) -> str:
    """Check a topic's template. Raises ValueError with a sentence for the integrator."""
    for wildcard in "+#":
        if wildcard in text:
            raise ValueError(f"a topic to publish to cannot hold the wildcard {wildcard}")
    if text.startswith("$"):
        raise ValueError("a topic that begins with $ belongs to the broker; begin with another character")
    if not text or text.endswith("/") or not text.isprintable():
        raise ValueError("must be a topic such as factory/{gateway}/{device}, without control characters or a last /")
    for name in _PLACEHOLDER.findall(text):
        _check_placeholder(name)
    if re.search(r"[{}]", _PLACEHOLDER.sub("", text)):
        raise ValueError("has a { or } without its partner; placeholders are {gateway}, {device} and {labels.NAME}")
    return text


def _check_placeholder(name: str) -> None:
    if name in {"gateway", "device"} or _LABEL.fullmatch(name):
        return
    near = difflib.get_close_matches(name, ["gateway", "device"], n=1)
    hint = f"did you mean {{{near[0]}}}?" if near else "there are {gateway}, {device} and {labels.NAME}"
    raise ValueError(f"there is no placeholder {{{name}}}; {hint}")


def labels_in(template: str) -> Iterator[str]:
    """Give the names of the labels that a template uses."""
    for name in _PLACEHOLDER.findall(template):
        if match := _LABEL.fullmatch(name):
            yield match[1]


def fill(template: str, gateway: str, device: str, labels: Mapping[str, str]) -> str:
    """Give the topic. Labels that the template uses must be there."""
    values = {"gateway": gateway, "device": device} | {f"labels.{name}": value for name, value in labels.items()}
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def before_device(template: str) -> str | None:
    """Give the levels before the first that holds `{device}`; None if no level does, or it is the first."""
    levels = template.split("/")
    first = next((n for n, level in enumerate(levels) if DEVICE in level), 0)
    return "/".join(levels[:first]) if first else None


def bad_label_value(value: str) -> str | None:
    """Say what keeps a label's value from being a part of a topic; None if nothing does."""
    if not value:
        return "it is empty"
    bad = next((character for character in value if character in "/+#" or not character.isprintable()), None)
    return None if bad is None else f"it holds {bad!r}"


def too_long(topic: str) -> bool:
    """Whether a topic is longer than any broker need take."""
    return len(topic.encode("utf-8")) > LONGEST


Topic = Annotated[str, AfterValidator(parse_topic)]
"""A topic's template as a config's field."""
