"""Config: everything that the gateway is told, complete and frozen before anything starts."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
from pydantic import ConfigDict, Field

from gateway.checked import Checked, Fault
from gateway.config import cross, topics
from gateway.config.local import BufferSection, ControlSection, HttpSection
from gateway.config.mqtt import MqttSection
from gateway.drivers import Device
from gateway.drivers.base import DeviceSection, Section, Tag
from gateway.errors import told
from gateway.files import exposed
from gateway.quantities import Name
from gateway.secret import Secret
from gateway.tls import UnusableFileError, client_context


class GatewaySection(Section):
    """Who this gateway is."""

    id: Name = Field(description="unique per broker")
    labels: dict[str, str] = Field(default_factory=dict, description="for topics and messages; a device may override")


class Config(Checked, Section):
    """Everything that the gateway is told."""

    model_config = ConfigDict(hide_input_in_errors=True)

    gateway: GatewaySection = Field(description="the gateway's id and labels")
    mqtt: MqttSection = Field(description="the broker's host; what is sent to it")
    buffer: BufferSection = BufferSection()
    http: HttpSection = HttpSection()
    control: ControlSection = ControlSection()
    devices: tuple[Device, ...] = Field(default=(), description="what is read")

    def faults(self) -> Iterator[Fault]:
        """Give what contradicts itself between sections."""
        yield from super().faults()
        yield from cross.faults(self)

    @property
    def client_id(self) -> str:
        """The MQTT client id."""
        return self.mqtt.client_id or self.gateway.id

    def labels_of(self, device: DeviceSection) -> dict[str, str]:
        """Give a device's labels: its own before the gateway's."""
        return self.gateway.labels | device.labels

    def topic_of(self, device: DeviceSection) -> str:
        """Give the topic below which a device's data, meta and state are published."""
        template = device.topic or self.mqtt.topic
        return topics.fill(template, self.gateway.id, device.name, self.labels_of(device))

    @property
    def status_template(self) -> str:
        """The template of `status_topic`: as written, else the levels of `topic` before the device's, plus status."""
        before = topics.before_device(self.mqtt.topic)
        return self.mqtt.status_topic or ("status" if before is None else f"{before}/status")

    @property
    def status_topic(self) -> str:
        """The topic of `online` and `offline`."""
        return topics.fill(self.status_template, self.gateway.id, "", self.gateway.labels)

    @property
    def health_topic(self) -> str:
        """The topic of health: beside `status_topic`."""
        parent, slash, _ = self.status_topic.rpartition("/")
        return f"{parent}{slash}health"

    @property
    def hash(self) -> str:
        """Eight hexadecimal digits that change with any setting; of secrets only the place counts."""
        plain = self.model_dump(mode="json", exclude={"devices": {"__all__": {"tags"}}})
        known: dict[int, str] = {}  # alike devices share their tags
        for device, section in zip(plain["devices"], self.devices, strict=True):
            if id(section.tags) not in known:
                known[id(section.tags)] = _digest([tag.model_dump(mode="json") for tag in section.tags])
            device["tags"] = known[id(section.tags)]
        return _digest(plain)[:8]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works and should still be looked at: one sentence each."""
        secrets = (secret.warning for secret in _secrets(self))
        keys = (exposed(path) for path in self._private_keys())
        return (*(warning for warning in (*secrets, *keys) if warning), *self._unusable_certificates())

    def _private_keys(self) -> Iterator[Path]:
        keys = [self.mqtt.tls.key_file, None if self.http.tls is None else self.http.tls.key_file]
        devices = (key for device in self.devices if device.enabled for key in device.private_keys)
        yield from dict.fromkeys(key for key in (*keys, *devices) if key is not None)

    def _unusable_certificates(self) -> Iterator[str]:
        """Try the files for the broker: no fault of the config, since they may be replaced at any time."""
        section = self.mqtt.tls
        if section.insecure_plaintext:
            return
        try:
            client_context(section.ca_file, section.cert_file, section.key_file)
        except UnusableFileError as error:
            yield told(f"mqtt: {error}", error.do)

    @property
    def in_clear(self) -> tuple[str, ...]:
        """The connections without the protection that their protocol has: one sentence each."""
        found = [f"{self.mqtt.address}: messages are sent in clear"] if self.mqtt.tls.insecure_plaintext else []
        devices = (device for device in self.devices if device.enabled and device.is_insecure)
        return (*found, *(f"{device.name}: {device.address} is read in clear" for device in devices))


def _digest(plain: Any) -> str:
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _secrets(value: Any) -> Iterator[Secret]:
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, tuple) and not (value and isinstance(value[0], Tag)):  # tags are many, and hold none
        for element in value:
            yield from _secrets(element)
    elif isinstance(value, Mapping):
        for element in value.values():
            yield from _secrets(element)
