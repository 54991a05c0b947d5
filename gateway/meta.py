"""The meta of a device: what its tags mean, as consumers get it, under a hash that its data carries."""

import hashlib
from decimal import Decimal
from typing import Any

import orjson

from gateway.config.schema import Config
from gateway.drivers.base import DeviceSection, Percent, Tag
from gateway.drivers.checks import plain
from gateway.model import Meta


def meta_of(config: Config, section: DeviceSection) -> Meta:
    """Make the meta of a configured device.

    Its id is a hash of all that the meta says, and of the order and packing of the columns: what is stored under an
    id can be read back under no other.
    """
    labels = config.labels_of(section)
    names = tuple(tag.name for tag in section.tags)
    codes = tuple(tag.code for tag in section.tags)
    document = {
        "gateway": config.gateway.id,
        "device": section.name,
        "protocol": getattr(section, "protocol", ""),
        "labels": labels,
        "tags": {tag.name: _describe(section, tag) for tag in section.tags},
    }
    canonical = orjson.dumps([document, names, codes], option=orjson.OPT_SORT_KEYS)
    identity = hashlib.sha256(canonical).hexdigest()[:8]
    return Meta(
        id=identity,
        device=section.name,
        topic=config.topic_of(section),
        names=names,
        codes=codes,
        labels={name: labels[name] for name in config.mqtt.include_labels if name in labels},
        document=orjson.dumps({"v": 1, "meta": identity, **document}),
    )


def _describe(section: DeviceSection, tag: Tag) -> dict[str, Any]:
    deadband = tag.deadband
    described = {
        "type": tag.shown_type,
        "unit": tag.unit,
        "description": tag.description,
        "source": tag.source,
        "interval_s": section.interval_of(tag),
        "scale": _number(tag.scale),
        "offset": _number(tag.offset),
        "deadband": plain(deadband) if isinstance(deadband, Percent) else _number(deadband),
        "heartbeat_s": section.heartbeat_of(tag),
        "range": None if tag.range is None else [float(bound) for bound in tag.range],
    }
    return described | {key: value for key, value in _more(tag).items() if value is not None}


def _more(tag: Tag) -> dict[str, Any]:
    """Give what few tags have, so that no other says that it has not."""
    bits = getattr(tag, "bits", None)
    scale_register = getattr(tag, "scale_register", None)
    return {
        "min": _number(tag.min),
        "max": _number(tag.max),
        "map": None if tag.map is None else {str(number): name for number, name in tag.map.items()},
        "bits": None if bits is None else {str(number): name for number, name in bits.items()},
        "count": getattr(tag, "count", None),
        "display_name": getattr(tag, "display_name", None),
        "scale_register": None if scale_register is None else str(scale_register),
    }


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
