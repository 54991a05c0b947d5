"""One of the brokers of a config, and how to get there."""

from dataclasses import dataclass

from gateway.config.mqtt import MqttSection
from gateway.hosts import join


@dataclass(frozen=True, slots=True)
class Way:
    """One of the brokers of a `mqtt` section, and how to get there."""

    section: MqttSection
    host: str
    port: int

    @property
    def address(self) -> str:
        """`host:port`, as a person would write it."""
        return join(self.host, self.port)

    @property
    def host_key(self) -> str:
        """The key of the config that names the host."""
        return "mqtt.host" if self.host == self.section.host else "mqtt.hosts"


def ways(section: MqttSection) -> tuple[Way, ...]:
    """Give the ways to the brokers, in order of preference."""
    return tuple(Way(section, host, port) for host, port in section.endpoints)
