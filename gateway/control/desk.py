"""What the daemon does for those who ask on the control socket: it reads, over the links that it has."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final, Self

from gateway.control.messages import (
    TIMEOUT,
    UNKNOWN,
    WRONG_ANSWER,
    About,
    AnyRequest,
    Browse,
    Buffer,
    Connect,
    Hello,
    Identify,
    Read,
    Sample,
    View,
    failure,
    name_of,
)
from gateway.drivers.base import DeviceSection, Driver, Shared, Tag
from gateway.drivers.modbus.section import ModbusDevice
from gateway.errors import DeviceError, StorageError
from gateway.version import VERSION

_BROADCAST: Final = 0
_STATUS: Final = "See why with edge-gateway status."
_NO_TAGS: Final = "Restart the gateway if its config has changed since it began."


class Desk:
    """The daemon's side: its devices, and how to find the open driver of one."""

    def __init__(
        self,
        gateway_id: str,
        sections: Sequence[DeviceSection],
        shared: Shared,
        driver_of: Callable[[str], Driver | None] = lambda _: None,
        buffer: Callable[[Buffer], Awaitable[Mapping[str, Any]]] | None = None,
    ) -> None:
        self._gateway_id = gateway_id
        self._sections = {section.name: section for section in sections}
        self.shared = shared
        self._driver_of = driver_of
        self._buffer = buffer
        self._links: dict[str, ModbusDevice] = {}
        for section in sections:
            if isinstance(section, ModbusDevice):
                self._links.setdefault(name_of(section.link_key), section)

    def visit(self) -> "Visit":
        """Receive a client."""
        return Visit(self)

    def hello(self) -> dict[str, Any]:
        """Say who this is, and what is read over which links."""
        devices = [
            {
                "name": section.name,
                "protocol": getattr(section, "protocol", ""),
                "address": section.address,
                "link": name_of(section.link_key) if isinstance(section, ModbusDevice) else None,
            }
            for section in self._sections.values()
        ]
        return {"ok": True, "gateway": self._gateway_id, "version": VERSION, "devices": devices}

    def section_of(self, link: str) -> ModbusDevice | None:
        """Give a device that is read over a link; None if there is none."""
        return self._links.get(link)

    async def sample(self, request: Sample) -> dict[str, Any]:
        """Let a device's open driver read tags now; the poller's own reads go on beside it."""
        section, driver = self._sections.get(request.device), self._driver_of(request.device)
        if section is None:
            return failure(UNKNOWN, f"the gateway does not read {request.device}", _NO_TAGS)
        if isinstance(section, ModbusDevice):  # whose driver keeps account of one poll at a time
            return failure(UNKNOWN, f"{request.device} is read over its link, register by register")
        if driver is None:
            return failure("connection-lost", f"the gateway has no connection to {request.device} now", _STATUS)
        section = driver.section or section  # with the tags that were found by browsing
        positions = {tag.name: position for position, tag in enumerate(section.tags)}
        wanted = request.tags or tuple(positions)
        unknown = [name for name in wanted if name not in positions]
        if unknown:
            return failure(UNKNOWN, f"{request.device} has no tag {unknown[0]} in the running gateway", _NO_TAGS)
        try:
            samples = await driver.read(tuple(sorted({positions[name] for name in wanted})))
        except DeviceError as error:
            return failure(error.reason, str(error), error.do)
        names = [tag.name for tag in section.tags]
        return {
            "ok": True,
            "tags": [_written(section.tags[positions[name]]) for name in wanted],
            "samples": [
                {
                    "ts": sample.ts, "rx": sample.rx, "readings": sample.readings, "quality": dict(sample.quality),
                    "tags": [names[column] for column in sample.columns], "values": list(sample.values),
                }
                for sample in samples
            ],
        }  # fmt: skip

    def about(self, request: About) -> dict[str, Any]:
        """Say what is known of a device by its open connection, and which tags were found at the device itself."""
        section, driver = self._sections.get(request.device), self._driver_of(request.device)
        if section is None:
            return failure(UNKNOWN, f"the gateway does not read {request.device}", _NO_TAGS)
        if driver is None:
            return failure("connection-lost", f"the gateway has no connection to {request.device} now", _STATUS)
        configured = {tag.name for tag in section.tags}
        return {
            "ok": True,
            "connection": dict(driver.details),
            "configured": section.model_dump(mode="json", include={"browse"}),
            "found": [_written(tag) for tag in (driver.section or section).tags if tag.name not in configured],
        }

    async def look_into_buffer(self, request: Buffer) -> dict[str, Any]:
        """Let the buffer answer."""
        if self._buffer is None:
            return failure(UNKNOWN, "there is no buffer here")
        try:
            return {"ok": True, **await self._buffer(request)}
        except StorageError as error:
            return failure("storage", str(error), error.do)

    async def explore(self, request: Browse | View) -> dict[str, Any]:
        """Let the open session of an OPC UA device take one step through the server's address space."""
        from gateway.control.exploring import step  # asyncua is imported where OPC UA is read

        section, driver = self._sections.get(request.device), self._driver_of(request.device)
        if section is None or getattr(section, "protocol", "") != "opcua":
            return failure(UNKNOWN, f"the gateway reads no OPC UA device {request.device}", _NO_TAGS)
        if driver is None:
            return failure("connection-lost", f"the gateway has no connection to {request.device} now", _STATUS)
        try:
            return await step(driver, request)
        except DeviceError as error:
            return failure(error.reason, str(error), error.do)


def _written(tag: Tag) -> dict[str, Any]:
    """Give a tag as a config would have it."""
    return tag.model_dump(mode="json", exclude_unset=True, exclude_none=True)


class Visit:
    """One client's time at the desk: the links it uses stay open as long as it stays."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._stack = ExitStack()
        self._joined: dict[str, Any] = {}
        self._asked: set[tuple[str, int]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave the links; what closes after each cycle closes now."""
        for link, unit in self._asked:
            self._joined[link].rest(unit)
        self._stack.close()

    async def answer(self, request: AnyRequest) -> Mapping[str, Any]:
        """Do what is asked for, and give the response."""
        match request:
            case Hello():
                return self._desk.hello()
            case Sample():
                return await self._desk.sample(request)
            case Browse() | View():
                return await self._desk.explore(request)
            case About():
                return self._desk.about(request)
            case Buffer():
                return await self._desk.look_into_buffer(request)
        return await self._by_link(request)

    async def _by_link(self, request: Connect | Read | Identify) -> Mapping[str, Any]:
        section = self._desk.section_of(request.link)
        if section is None:
            return failure(UNKNOWN, "the gateway has no such link")
        from gateway.drivers.modbus.connection import WrongAnswer
        from gateway.drivers.modbus.link import shared_link

        if request.link not in self._joined:
            # A visitor is nobody's unit: what the link keeps of the devices' own must not end when he leaves.
            visitor = section.model_copy(update={"unit_id": _BROADCAST})
            self._joined[request.link] = self._stack.enter_context(shared_link(self._desk.shared, visitor))
        try:
            return await self._on_link(self._joined[request.link], request)
        except TimeoutError:
            return failure(TIMEOUT, "no answer")
        except WrongAnswer as error:
            return failure(WRONG_ANSWER, str(error))
        except DeviceError as error:
            return failure(error.reason, str(error), error.do)

    async def _on_link(self, link: Any, request: Connect | Read | Identify) -> dict[str, Any]:
        if isinstance(request, Connect):
            await link.connect(request.timeout)
            return {"ok": True}
        self._asked.add((request.link, request.unit))
        if isinstance(request, Identify):
            found = await link.identify(request.unit, timeout=request.timeout, delay=request.delay, in_person=True)
            if isinstance(found, int):
                return {"ok": True, "refusal": found}
            return {"ok": True, "objects": {str(number): text for number, text in found.items()}}
        place = (request.unit, request.table, request.start, request.count)
        answer = await link.read(*place, timeout=request.timeout, delay=request.delay, in_person=True)
        return {
            "ok": True, "ts": answer.ts, "payload": answer.payload.hex(), "refusal": answer.refusal, "took": answer.took
        }  # fmt: skip
