"""A disk that loses its power: what of a folder's files may be there afterwards.

What was synced is there. Of each write since then, all, nothing, or any of its sectors may be, in any order; names
come and go in order, but any number of the last changes to them may be missing (POSIX promises no more; a file's
sync does not keep its name).
"""

import random
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.recording import Create, Event, Rename, Resize, Sync, SyncFolder, Unlink, Write

SECTOR = 512
"""What a disk writes whole or not at all."""


@dataclass
class File:
    """What of a file is on disk for sure, and what has been done to it since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Resize] = field(default_factory=list)

    def sync(self) -> None:
        """Take everything to the disk."""
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def after_cut(self, fate: "Fate") -> bytes:
        """Give what may be there when the power comes back."""
        content = bytearray(self.durable)
        for change in fate.of(self.pending):
            _apply(content, change)
        return bytes(content)


class Disk:
    """A folder on a disk, through a recording of what was done to it."""

    def __init__(self) -> None:
        self._durable: dict[str, File] = {}
        self._names: dict[str, File] = {}
        self._changes: list[Create | Rename | Unlink] = []
        self._created: list[File] = []

    def do(self, event: Event) -> None:
        """Do what was recorded."""
        match event:
            case Write() | Resize():
                self._names[event.name].pending.append(event)
            case Sync():
                self._names[event.name].sync()
            case SyncFolder():
                self._durable = dict(self._names)
                self._changes.clear()
                self._created.clear()
            case Create() | Rename() | Unlink():
                if isinstance(event, Create):
                    self._created.append(File())
                self._changes.append(event)
                _rename(self._names, event, self._created)

    def cut(self, chance: random.Random, folder: Path) -> None:
        """Write one of the states in which a cut of the power at this moment may leave the folder."""
        fate = Fate(chance)
        names = dict(self._durable)
        created = list(self._created)
        made = 0
        for change in self._changes[: fate.names(len(self._changes))]:
            if isinstance(change, Create):
                made += 1
            _rename(names, change, created[:made])
        for name, file in names.items():
            (folder / name).write_bytes(file.after_cut(fate))


class Fate:
    """What one cut does to what was not synced: keeps all, nothing, the first of it, or anything."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kind = chance.choice(("all", "nothing", "first", "any", "any"))

    def names(self, changes: int) -> int:
        """Say how many of the changes to names are kept."""
        if self._kind in ("all", "nothing"):
            return changes if self._kind == "all" else 0
        return self._chance.randint(0, changes)

    def of(self, pending: list[Write | Resize]) -> list[Write | Resize]:
        """Give what is kept of a file's changes; a write may be torn."""
        match self._kind:
            case "all":
                return list(pending)
            case "nothing":
                return []
            case "first":
                count = self._chance.randint(0, len(pending))
                torn = [part for change in pending[count : count + 1] for part in self._torn(change)]
                return [*pending[:count], *torn]
        kept: list[Write | Resize] = []
        for change in pending:
            lot = self._chance.random()
            if lot < 0.4:
                kept.append(change)
            elif lot < 0.6:
                kept += self._torn(change)
        return kept

    def _torn(self, change: Write | Resize) -> list[Write | Resize]:
        """Keep some of the sectors that a write covers."""
        if isinstance(change, Resize):
            return []
        parts: list[Write | Resize] = []
        at = 0
        while at < len(change.data):
            size = SECTOR - (change.offset + at) % SECTOR
            if self._chance.random() < 0.5:
                parts.append(Write(change.name, change.offset + at, change.data[at : at + size]))
            at += size
        return parts


def _apply(content: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


def _rename(names: dict[str, File], change: Create | Rename | Unlink, created: list[File]) -> None:
    match change:
        case Create():
            names[change.name] = created[-1]
        case Rename():
            if change.old in names:
                names[change.new] = names.pop(change.old)
        case Unlink():
            names.pop(change.name, None)
