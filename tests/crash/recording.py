"""What a process did to the files of one folder, as strace saw it: the writes, in order, and what it said meanwhile."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CALLS = (
    "openat,creat,pwrite64,pwritev,pwritev2,write,writev,ftruncate,fallocate,fsync,fdatasync,sync_file_range,"
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,mmap"
)
_CALL = re.compile(r"(?P<pid>\d+) +(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
_BEGUN = re.compile(r"(?P<pid>\d+) +(?P<text>.*?) *<unfinished \.\.\.>$")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<rest>.*)$")
_FILE = re.compile(r"(?P<number>\d+)<(?P<path>[^>]*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were put into a file."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """A file was cut, or grown with zeros."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """All that was done to a file is on disk."""

    name: str


@dataclass(frozen=True, slots=True)
class Create:
    """A name appeared in the folder, for an empty file."""

    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A file got another name, which may have been another file's."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name left the folder."""

    name: str


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """All names of the folder are on disk as they are."""


@dataclass(frozen=True, slots=True)
class Said:
    """A line that the process printed."""

    words: tuple[str, ...]


Event = Write | Resize | Sync | Create | Rename | Unlink | SyncFolder | Said


class UnknownCallError(Exception):
    """The process used a call on the folder that the replay does not know: its states would prove nothing."""


def record(command: list[str], folder: Path, log: Path, *, lines: int) -> list[Event]:
    """Run a command under strace until it has printed so many lines, kill it, and give what it did to the folder."""
    folder.mkdir()
    # Paths after descriptors (-y), every string whole and in hexadecimal: a page may hold anything.
    strace = ["strace", "-f", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={CALLS}", "-e", "signal=none"]
    command = [*strace, "-o", str(log), *command]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        printed = sum(1 for _ in zip(process.stdout, range(lines), strict=False))
        os.killpg(process.pid, signal.SIGKILL)
    if printed < lines:
        sys.exit(f"the recorded process ended after {printed} of {lines} lines")
    with log.open(encoding="ascii") as text:
        return list(_Parser(folder).parse(text))


class _Parser:
    """Turns the lines of strace into events."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._begun: dict[str, str] = {}
        self._known: set[str] = set()
        self._places: dict[str, int] = {}
        self._printed = ""

    def parse(self, lines: Iterator[str]) -> Iterator[Event]:
        """Give the events of whole calls, in the order in which they ended."""
        for line in lines:
            if begun := _BEGUN.match(line.rstrip("\n")):
                self._begun[begun["pid"]] = begun["text"]
                continue
            whole = line
            if resumed := _RESUMED.match(line.rstrip("\n")):
                whole = f"{resumed['pid']} {self._begun.pop(resumed['pid'])}{resumed['rest']}"
            call = _CALL.match(whole)
            if call is not None and int(call["result"]) >= 0:
                yield from self._events(call["name"], call["arguments"], int(call["result"]))

    def _events(self, name: str, arguments: str, result: int) -> Iterator[Event]:
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(arguments)]
        match name:
            case "openat" | "creat":
                yield from self._opened(texts[0].decode(), arguments)
            case "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat" | "link" | "linkat":
                yield from self._named(name, [text.decode() for text in texts])
            case "write" if arguments.startswith("1<"):
                yield from self._print(texts[0][:result].decode())
            case _:
                yield from self._changed(name, arguments, texts, result)

    def _opened(self, path: str, arguments: str) -> Iterator[Event]:
        own = self._own(path)
        if own is None:
            return
        self._places[own] = 0
        if "O_CREAT" in arguments and own not in self._known:
            self._known.add(own)
            yield Create(own)
        elif "O_TRUNC" in arguments:
            yield Resize(own, 0)

    def _named(self, name: str, paths: list[str]) -> Iterator[Event]:
        own = [self._own(path) for path in paths]
        if None in own or not own:
            if any(each is not None for each in own):
                raise UnknownCallError(f"{name}({', '.join(paths)}) leaves the folder")
            return
        names = [each for each in own if each is not None]
        if name.startswith("unlink"):
            self._known.discard(names[0])
            yield Unlink(names[0])
        elif name.startswith("rename"):
            self._known.discard(names[0])
            self._known.add(names[1])
            yield Rename(names[0], names[1])
        else:
            raise UnknownCallError(name)

    def _changed(self, name: str, arguments: str, texts: list[bytes], result: int) -> Iterator[Event]:
        file = _FILE.search(arguments)
        path = "" if file is None else _plain(file["path"])
        if path == self._folder and name in ("fsync", "fdatasync"):
            yield SyncFolder()
        own = self._own(path)
        if own is None:
            return
        numbers = [int(number) for number in re.findall(r"(?<=, )\d+", _TEXT.sub("", arguments))]
        if name == "pwrite64":
            yield Write(own, numbers[-1], texts[0][:result])
        elif name == "write":
            yield Write(own, self._places[own], texts[0][:result])
            self._places[own] += result
        elif name == "ftruncate":
            yield Resize(own, numbers[-1])
        elif name in ("fsync", "fdatasync"):
            yield Sync(own)
        else:
            raise UnknownCallError(f"{name} on {own}")

    def _print(self, text: str) -> Iterator[Said]:
        *whole, self._printed = (self._printed + text).split("\n")
        for line in whole:
            yield Said(tuple(line.split()))

    def _own(self, path: str) -> str | None:
        """Give the name of a file in the folder; None for any other."""
        folder, _, name = path.rpartition("/")
        return name if folder == self._folder else None


def _plain(path: str) -> str:
    return bytes.fromhex(path.replace("\\x", "")).decode() if path.startswith("\\x") else path
