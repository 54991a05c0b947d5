"""What the sections of a config must agree on: labels, topics and lines."""

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.checked import Fault
from gateway.config import lines, topics

if TYPE_CHECKING:
    from gateway.config.schema import Config

At = tuple[str | int, ...]

_TOPIC: Final = ("mqtt", "topic")
_STATUS: Final = ("mqtt", "status_topic")


def faults(config: "Config") -> Iterator[Fault]:
    """Give what contradicts itself between sections."""
    yield from lines.faults(config.devices)
    yield from _templates(config)
    yield from _included(config)
    unusable = [*_own_topics(config), *_missing_labels(config), *_bad_labels(config)]
    yield from unusable or _collisions(config)


def _templates(config: "Config") -> Iterator[Fault]:
    own = [device.topic is not None for device in config.devices]
    template = config.mqtt.topic
    if topics.DEVICE not in template and not (own and all(own)):
        yield Fault(_TOPIC, "must hold {device}, or every device needs a topic of its own")
    elif config.mqtt.status_topic is None and topics.GATEWAY not in (topics.before_device(template) or ""):
        yield Fault(_TOPIC, "has no level with {gateway} before {device}; write it so, or write status_topic: too")


def _own_topics(config: "Config") -> Iterator[Fault]:
    for position, device in enumerate(config.devices):
        try:
            topics.parse_topic(device.topic or config.mqtt.topic)
        except ValueError as error:
            yield Fault(("devices", position, "topic"), str(error))


class _Use(NamedTuple):
    """A label in a template: where the template is written, and where the label is, or would be."""

    template_at: At
    label: str
    owner: str
    value: str | None
    value_at: At


def _uses(config: "Config") -> Iterator[_Use]:
    own = config.gateway.labels
    for name in topics.labels_in(config.status_template):
        yield _Use(
            _STATUS if config.mqtt.status_topic else _TOPIC,
            name,
            "the gateway (for its status)",
            own.get(name),
            ("gateway", "labels", name),
        )
    for position, device in enumerate(config.devices):
        at: At = ("devices", position, "topic") if device.topic else _TOPIC
        for name in topics.labels_in(device.topic or config.mqtt.topic):
            holder: At = ("devices", position) if name in device.labels else ("gateway",)
            yield _Use(at, name, device.name, config.labels_of(device).get(name), (*holder, "labels", name))


def _missing_labels(config: "Config") -> Iterator[Fault]:
    missing: dict[tuple[At, str], list[str]] = {}
    for use in _uses(config):
        if use.value is None:
            missing.setdefault((use.template_at, use.label), []).append(use.owner)
    for (at, label), owners in missing.items():
        more = f" and {len(owners) - 3} more" if len(owners) > 3 else ""
        yield Fault(
            at, f"uses {{labels.{label}}}, which is no label of {', '.join(owners[:3])}{more}; write it in labels:"
        )


def _bad_labels(config: "Config") -> Iterator[Fault]:
    found = {use.value_at: topics.bad_label_value(use.value) for use in _uses(config) if use.value is not None}
    for at, bad in found.items():
        if bad:
            yield Fault(at, f"{bad}, so {{labels.{at[-1]}}} in a topic cannot stand for it")


def _included(config: "Config") -> Iterator[Fault]:
    known = set(config.gateway.labels).union(*(device.labels for device in config.devices))
    for position, name in enumerate(config.mqtt.include_labels):
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            hint = f"; did you mean {near[0]}?" if near else "; write it in gateway.labels or a device's labels"
            yield Fault(("mqtt", "include_labels", position), f"neither the gateway nor a device has this label{hint}")


def _collisions(config: "Config") -> Iterator[Fault]:
    """Two writers of one topic would overwrite each other's retained messages."""
    taken = {config.status_topic: "the gateway's status"}
    if config.health_topic in taken:
        yield Fault(_STATUS, "is the topic of health too; end it with another level than health")
    taken[config.health_topic] = "the gateway's health"
    for position, device in enumerate(config.devices):
        at = ("devices", position, "topic" if device.topic else "name")
        base = config.topic_of(device)
        if topics.too_long(base):
            yield Fault(at, f"makes a topic of more than {topics.LONGEST} bytes")
        for topic in (f"{base}/{leaf}" for leaf in ("data", "meta", "state")):
            other = taken.setdefault(topic, device.name)
            if other != device.name:  # of two devices with one name, the name is what is wrong
                yield Fault(at, f"is published at {topic}, as is {other}; give one of them another topic")
                break
