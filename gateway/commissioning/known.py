"""What the running gateway knows of OPC UA devices by their open connections: limits, and the tags that it found."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gateway.control.client import reach
from gateway.drivers.base import DeviceSection
from gateway.drivers.opcua.limits import Limits, Service
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.tag import OpcuaTag
from gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one device. `connection` is what health shows of it, `tags` are those that `browse` took.

    `stale` says that the gateway still runs with another `browse` than the config has now.
    """

    connection: Mapping[str, Any]
    tags: tuple[OpcuaTag, ...] = ()
    stale: bool = False

    @classmethod
    def of(cls, section: OpcuaDevice, answer: Mapping[str, Any]) -> Self:
        """Read the gateway's answer."""
        stale = answer["configured"] != section.model_dump(mode="json", include={"browse"})
        tags = () if stale else tuple(map(OpcuaTag.model_validate, answer["found"]))
        return cls(answer["connection"], tags, stale)

    def complete(self, section: DeviceSection) -> DeviceSection:
        """Give the section with the tags that were found beside its own."""
        own = {tag.name for tag in section.tags}
        found = tuple(tag for tag in self.tags if tag.name not in own)
        return section.model_copy(update={"tags": (*section.tags, *found)})

    def limits(self, given: Mapping[Service, int]) -> Limits:
        """Give the server's limits, with those that the config gives now."""
        limits = Limits(given=given)
        sources = self.connection.get("limits_from", {})
        for name, most in self.connection.get("limits", {}).items():
            if sources.get(name) in ("told", "found"):
                (limits.told if sources[name] == "told" else limits.found)[name] = most
        return limits


async def ask_gateway(socket: Path, sections: Iterable[OpcuaDevice]) -> tuple[dict[str, Known], dict[str, str]]:
    """Ask the gateway on this machine, if one runs, about devices. Gives what it knows, else why not, by name.

    Without a gateway both are empty; one that may not be asked is none.
    """
    known: dict[str, Known] = {}
    why: dict[str, str] = {}
    try:
        async with reach(socket) as daemon:
            if daemon is None:
                return known, why
            for section in sections:
                answer = await daemon.ask({"do": "about", "device": section.name})
                if answer["ok"]:
                    known[section.name] = Known.of(section, answer)
                else:
                    why[section.name] = str(answer["text"])
    except GatewayError as error:
        return {}, {section.name: str(error) for section in sections}
    return known, why
