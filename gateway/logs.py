"""The log: one line a transition, for journald or a terminal or as JSON, and never a flood."""

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, TextIO

import orjson

Format = Literal["text", "json"]

_QUIET: Final = {
    # Their errors are raised as well, and told by the component that they concern: once, with what to do.
    "aiomqtt": logging.ERROR,
    "asyncua": logging.CRITICAL,
    "mqtt": logging.ERROR,
    # What these log is raised nowhere else.
    "aiohttp": logging.WARNING,
    "asyncio": logging.WARNING,
    "concurrent": logging.WARNING,
}
"""From which level on other people's libraries are heard, whatever our own level is."""


def configure(format: Format = "text", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002
    """Send everything that is logged to stderr (or `stream`) in this format, from this level on.

    Under journald lines carry a priority (`<4>`, sd-daemon(3)) and no time, since journald adds its own.
    """
    stream = stream or sys.stderr
    journald = goes_to_journald(stream)
    lines = JsonLines() if format == "json" else TextLines(timestamps=not journald)
    output = LimitedOutput(stream)
    output.setFormatter(WithPriority(lines) if journald else lines)
    logging.basicConfig(handlers=[output], level=level.upper(), force=True)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(quiet)


def goes_to_journald(stream: TextIO) -> bool:
    """Whether the stream is the journal's: JOURNAL_STREAM names its device and inode (systemd.exec(5))."""
    try:
        file = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{file.st_dev}:{file.st_ino}"


def printable(text: str) -> str:
    """Escape control characters: what a device or a server says must not move the cursor or begin a line."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.000Z WARNING gateway.buffer: text`, the time in UTC and optional."""

    def __init__(self, *, timestamps: bool) -> None:
        super().__init__()
        self._timestamps = timestamps

    def format(self, record: logging.LogRecord) -> str:
        """Write the record; a traceback follows on lines of its own."""
        line = f"{record.levelname} {record.name}: {printable(record.getMessage())}"
        if self._timestamps:
            line = f"{_iso(record.created)} {line}"
        exception = _exception(self, record) or ""
        return "\n".join((line, *map(printable, exception.splitlines())))


class JsonLines(logging.Formatter):
    """`{"ts":…,"level":"warning","logger":…,"message":…,"exception":…}`, one object a line; `ts` in ms, UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line."""
        line: dict[str, Any] = {
            "ts": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _encodable(record.getMessage()),
        }
        if (exception := _exception(self, record)) is not None:
            line["exception"] = _encodable(exception)
        return orjson.dumps(line).decode()


class WithPriority(logging.Formatter):
    """Another formatter's lines, each behind the syslog priority that journald takes off again."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        """Prefix every line: a traceback has as many as journald makes entries of it."""
        prefix = f"<{_priority(record.levelno)}>"
        return "\n".join(prefix + line for line in self._lines.format(record).splitlines())


@dataclass(slots=True)
class RepeatLimit:
    """Lets through, within a minute, the first few of each text, more of each kind of text, and no more than `total`.

    A kind is what one line of the program logs, whatever it fills in.
    """

    repeats: int = 5
    kinds: int = 200
    total: int = 1000
    window_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _since: float = field(default=float("-inf"), init=False)
    _written: int = field(default=0, init=False)
    _seen: Counter[tuple[str, ...]] = field(default_factory=Counter, init=False)
    _left_out: Counter[str] = field(default_factory=Counter, init=False)

    def allows(self, record: logging.LogRecord) -> bool:
        """Count the record, and say whether it may be written."""
        too_many = self._too_many(record)
        if too_many is None:
            self._written += 1
            return True
        self._left_out[too_many] += 1
        return False

    def summaries(self) -> list[str]:
        """Begin a new window if the last one is over, and tell what it left out."""
        now = self.clock()
        if now - self._since < self.window_s:
            return []
        told = [f"left out {count} more lines of {what}" for what, count in self._left_out.items()]
        self._since, self._written = now, 0
        self._seen.clear()
        self._left_out.clear()
        return told

    def _too_many(self, record: logging.LogRecord) -> str | None:
        """Say of what there are too many. The total comes first: it bounds what has to be remembered."""
        if self._written >= self.total:
            return "any kind"
        kind, text = str(record.msg), record.getMessage()
        self._seen["kind", record.name, kind] += 1
        if self._seen["kind", record.name, kind] > self.kinds:
            return f"the kind {record.name}: {kind}"
        self._seen["text", record.name, text] += 1
        return f"{record.name}: {text}" if self._seen["text", record.name, text] > self.repeats else None


class LimitedOutput(logging.StreamHandler[TextIO]):
    """A stream that no repeated record can flood; what was left out is counted in a line a minute."""

    def __init__(self, stream: TextIO, limit: RepeatLimit | None = None) -> None:
        super().__init__(stream)
        self._limit = limit or RepeatLimit()

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        for text in self._limit.summaries():
            super().emit(logging.LogRecord(__name__, logging.WARNING, "", 0, "%s", (text,), None))
        try:
            allowed = self._limit.allows(record)
        except (TypeError, ValueError):  # a library's record whose arguments do not fit its text
            self.handleError(record)
        else:
            if allowed:
                super().emit(record)


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    return formatter.formatException(record.exc_info) if record.exc_info else None


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _priority(level: int) -> int:
    """Give the syslog priority (RFC 5424 section 6.2.1) of a logging level."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return priority
    return 7
