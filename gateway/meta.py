"""The meta of a device: what its tags mean, as consumers get it, under a hash that its data carries."""

import hashlib
from typing import Any

import orjson

from gateway.config.schema import Config
from gateway.drivers.base import DeviceSection, Percent, Tag
from gateway.model import Meta


def meta_of(config: Config, section: DeviceSection) -> Meta:
    """Make the meta of a configured device."""
    labels = config.labels_of(section)
    document = {
        "v": 1,
        "gateway": config.gateway.id,
        "device": section.name,
        "protocol": getattr(section, "protocol", ""),
        "labels": labels,
        "tags": {tag.name: _describe(section, tag) for tag in section.tags},
    }
    identity = hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    return Meta(
        id=identity,
        device=section.name,
        topic=config.topic_of(section),
        names=tuple(tag.name for tag in section.tags),
        codes=tuple(tag.code for tag in section.tags),
        labels={name: labels[name] for name in config.mqtt.include_labels if name in labels},
        document=orjson.dumps({"v": 1, "meta": identity, **document}),
    )


def _describe(section: DeviceSection, tag: Tag) -> dict[str, Any]:
    deadband = tag.deadband
    return {
        "type": tag.value_type,
        "unit": tag.unit,
        "description": tag.description,
        "source": tag.source,
        "interval_s": section.interval_of(tag),
        "scale": None if tag.scale is None else float(tag.scale),
        "offset": None if tag.offset is None else float(tag.offset),
        "deadband": str(deadband) if isinstance(deadband, Percent) else None if deadband is None else float(deadband),
        "heartbeat_s": section.heartbeat_of(tag),
        "range": None if tag.range is None else [float(bound) for bound in tag.range],
    }
