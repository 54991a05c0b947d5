"""What the sections of a config must agree on: names, labels, topics."""

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from gateway.checked import Fault
from gateway.config import topics

if TYPE_CHECKING:
    from gateway.config.schema import Config

_TOPIC: Final = ("mqtt", "topic")
_STATUS: Final = ("mqtt", "status_topic")


def faults(config: "Config") -> Iterator[Fault]:
    """Give what contradicts itself between sections."""
    yield from _templates(config)
    unusable = list(_labels(config))
    yield from unusable
    yield from _included(config)
    if not unusable:
        yield from _collisions(config)


def _templates(config: "Config") -> Iterator[Fault]:
    own = [device.topic is not None for device in config.devices]
    template = config.mqtt.topic
    if topics.DEVICE not in template and not (own and all(own)):
        yield Fault(_TOPIC, "must hold {device}, or every device needs a topic of its own")
    elif config.mqtt.status_topic is None and topics.GATEWAY not in (topics.before_device(template) or ""):
        yield Fault(_TOPIC, "has no level with {gateway} before {device}; write it so, or write status_topic: too")


def _used(config: "Config") -> Iterator[tuple[tuple[str | int, ...], str, str | None, dict[str, str]]]:
    """Give every use of a template: where it is written, the template, for which device, with which labels."""
    yield _STATUS if config.mqtt.status_topic else _TOPIC, config.status_template, None, config.gateway.labels
    for position, device in enumerate(config.devices):
        labels = config.labels_of(device)
        if device.topic is None:
            yield _TOPIC, config.mqtt.topic, device.name, labels
        else:
            yield ("devices", position, "topic"), device.topic, device.name, labels


def _labels(config: "Config") -> Iterator[Fault]:
    for at, template, device, labels in _used(config):
        for name in topics.labels_in(template):
            owner = "the gateway" if device is None else device
            if name not in labels:
                yield Fault(at, f"uses {{labels.{name}}}, but {owner} has no label {name}; write it in labels:")
            elif bad := topics.bad_label_value(labels[name]):
                yield Fault(at, f"uses {{labels.{name}}}, but of {owner} {bad}, which no level of a topic may")


def _included(config: "Config") -> Iterator[Fault]:
    known = set(config.gateway.labels).union(*(device.labels for device in config.devices))
    for position, name in enumerate(config.mqtt.include_labels):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; write it in gateway.labels or a device's labels"
            yield Fault(("mqtt", "include_labels", position), f"neither the gateway nor a device has this label{hint}")


def _collisions(config: "Config") -> Iterator[Fault]:
    """Two writers of one topic would overwrite each other's retained messages."""
    taken = {config.status_topic: "the gateway's status", config.health_topic: "the gateway's health"}
    if len(taken) < 2:
        yield Fault(_STATUS, "is the topic of health too; end it with another level than health")
    for position, device in enumerate(config.devices):
        at = ("devices", position, "topic" if device.topic else "name")
        base = config.topic_of(device)
        if topics.too_long(base):
            yield Fault(at, f"makes a topic of more than {topics.LONGEST} bytes")
        for topic in (f"{base}/{leaf}" for leaf in ("data", "meta", "state")):
            if topic in taken:
                yield Fault(at, f"is published at {topic}, as is {taken[topic]}; give one of them another topic")
                break
            taken[topic] = device.name
