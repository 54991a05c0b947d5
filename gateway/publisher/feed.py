"""What is published, and where to: the pieces that a publisher is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.config.mqtt import MqttSection
from gateway.model import DeviceState, Meta
from gateway.publisher.component import BrokerComponent
from gateway.publisher.delivery import Rows
from gateway.supervisor import Component


@dataclass(slots=True)
class Outlet:
    """Where one device's messages go: `meta` is what its samples mean from now on, None until it is known."""

    device: str
    topic: str
    component: Component[DeviceState]
    meta: Meta | None = None


@dataclass(frozen=True, slots=True)
class Topics:
    """The gateway's own topics."""

    status: str
    health: str

    @property
    def parts(self) -> str:
        """The filter for further parts of metas, under the usual layout of topics."""
        return f"{self.status.rpartition('/')[0]}/+/meta/+"


@dataclass(frozen=True, slots=True)
class Feed:
    """What is published, and where to.

    `outlets` are the configured devices by name. `retired` maps the topics of devices that are gone to their names:
    what is retained there is cleared once their backlog is out. `health` gives the document of the health topic.
    `parts` remembers over sessions how many parts the meta on a topic has.
    """

    section: MqttSection
    rows: Rows
    component: BrokerComponent
    gateway: str
    topics: Topics
    outlets: Mapping[str, Outlet]
    health: Callable[[], Mapping[str, Any]]
    retired: dict[str, str] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
