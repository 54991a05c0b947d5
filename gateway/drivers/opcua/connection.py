"""What every part of an open device works on."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from asyncua import ua

from gateway.drivers.opcua.definitions import Definitions
from gateway.drivers.opcua.facts import Facts
from gateway.drivers.opcua.history.seams import Seams
from gateway.drivers.opcua.learned import news
from gateway.drivers.opcua.local_time import LocalClock
from gateway.drivers.opcua.samples import in_samples
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.session import Session
from gateway.drivers.opcua.survey import Server
from gateway.drivers.opcua.types.values import DataValue
from gateway.drivers.opcua.watch import Watch
from gateway.model import Bookmark, Sample


@dataclass
class Connection:
    """One connection to a server, from its first answer to its end.

    `section` is the device's as it is at this server: with the tags that were found by browsing, and with the `facts`
    that the server told of each; another one once it tells of nodes that were not there. `nodes` has one node id for
    each tag; None where this server can have no such node. `definitions` say what structures and enumerations mean
    here. `memory` outlives the connection, `bookmarks` outlive the gateway. `seams` is shown every live value that is
    to be stored.
    """

    section: OpcuaDevice
    session: Session
    watch: Watch
    server: Server
    nodes: Sequence[ua.NodeId | None]
    definitions: Definitions
    facts: Facts
    memory: MutableMapping[str, Any]
    bookmarks: Callable[[], Mapping[str, Bookmark]]
    seams: Seams
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The tags' names, by column."""
        return tuple(tag.name for tag in self.section.tags)

    async def samples(self, readings: Sequence[tuple[int, DataValue]], rx: int) -> tuple[Sample, ...]:
        """Sort readings (column, value) that came at `rx` (ms since the Unix epoch) into samples, as configured.

        What values mean is asked first, where the server has not told it yet: of a node that was not there, of a
        structure of a type that has not come before. Raises DeviceError.
        """
        if self.facts.appeared(readings):
            async with self._asking:  # others may have asked meanwhile, and what they were told must stay
                if appeared := self.facts.appeared(readings):
                    self.section = await self.facts.ask_again(self.section, appeared)
        samples = self._sorted(readings, rx)
        if self.definitions.book.unknown and await self.definitions.learn_encodings():
            return self._sorted(readings, rx)
        return samples

    def _sorted(self, readings: Iterable[tuple[int, DataValue]], rx: int) -> tuple[Sample, ...]:
        if self.local_clock is not None:
            readings = self.local_clock.converted(readings, rx)
        return in_samples(readings, self.names, self.section.timestamp, rx, self.definitions.book.unpack)

    @property
    def learned(self) -> dict[str, Bookmark | None]:
        """The bookmarks of what was learned of the server and is not stored yet; they go with the next samples."""
        return news(self.memory, self.bookmarks())

    @cached_property
    def local_clock(self) -> LocalClock | None:
        """What turns the PLC's source timestamps into UTC; None where they are UTC already."""
        return LocalClock(self.section.timezone) if self.section.timezone is not None else None
