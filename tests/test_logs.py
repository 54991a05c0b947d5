"""The log as journald, a terminal or a collector gets it: a process of its own for each, as in production."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from gateway.logs import RepeatLimit, printable

SETUP = "import logging; from gateway.logs import configure; log = logging.getLogger('gateway.poller'); "
FAIL = "\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('it broke')"


def logged(program: str, journal: Path | None = None) -> list[str]:
    """Run a program, and give the lines of its stderr; with `journal`, that file takes journald's place."""
    environment = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
    command = [sys.executable, "-c", SETUP + program]
    if journal is None:
        ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, check=True, timeout=60)
        return ended.stderr.decode().splitlines()
    with journal.open("wb") as stream:
        file = os.fstat(stream.fileno())
        environment["JOURNAL_STREAM"] = f"{file.st_dev}:{file.st_ino}"
        subprocess.run(command, env=environment, stderr=stream, check=True, timeout=60)
    return journal.read_text().splitlines()


def test_on_a_terminal_a_line_has_its_time_in_utc() -> None:
    (line,) = logged("configure(); log.warning('%s: %s', 'press-1', 'no answer')")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING gateway\.poller: press-1: no answer", line)


def test_under_journald_a_line_has_a_priority_and_no_time(tmp_path: Path) -> None:
    lines = logged("configure(level='debug'); log.debug('a'); log.info('b'); log.warning('c')", tmp_path / "journal")
    assert lines == ["<7>DEBUG gateway.poller: a", "<6>INFO gateway.poller: b", "<4>WARNING gateway.poller: c"]


def test_under_journald_every_line_of_a_traceback_has_the_priority(tmp_path: Path) -> None:
    lines = logged("configure()" + FAIL, tmp_path / "journal")
    assert lines[0] == "<3>ERROR gateway.poller: it broke"
    assert lines[-1] == "<3>ZeroDivisionError: division by zero"
    assert all(line.startswith("<3>") for line in lines)


def test_a_stderr_that_is_not_the_journal_any_more_gets_times(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import os; os.environ['JOURNAL_STREAM'] = '1:2'; configure(); log.warning('redirected')"
    assert logged(program)[0].endswith("Z WARNING gateway.poller: redirected")


def test_json_is_one_object_a_line() -> None:
    first, second = map(orjson.loads, logged("configure('json'); log.info('two\\nlines')" + FAIL))
    assert first.pop("ts") > 1_700_000_000_000
    assert first == {"level": "info", "logger": "gateway.poller", "message": "two\nlines"}
    assert second["message"] == "it broke"
    assert second["exception"].endswith("ZeroDivisionError: division by zero")


def test_json_takes_text_that_is_not_unicode() -> None:
    (line,) = logged(r"configure('json'); log.warning('bad \udc80 text')")
    assert orjson.loads(line)["message"] == "bad \\udc80 text"


def test_what_a_device_says_can_neither_begin_a_line_nor_move_the_cursor() -> None:
    (line,) = logged(r"configure(); log.warning('%s', 'a\n<0>forged\x1b[2J\x07')")
    assert line.endswith(r"a\n<0>forged\x1b[2J\x07")
    assert printable("Förderband 3 läuft · 20 °C") == "Förderband 3 läuft · 20 °C"


def test_the_libraries_are_quiet_even_when_we_are_not() -> None:
    loud = "; ".join(f"logging.getLogger('{name}').warning('noise')" for name in ("aiomqtt", "asyncua.client", "mqtt"))
    lines = logged(
        f"configure(level='debug'); {loud}; logging.getLogger('asyncio').error('task lost'); log.debug('ours')"
    )
    assert [line.split(": ", 1)[1] for line in lines] == ["task lost", "ours"]


def test_one_line_that_repeats_for_ever_is_written_five_times() -> None:
    assert len(logged("configure()\nfor n in range(10_000): log.warning('no answer')")) == 5


def record(text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("gateway", logging.WARNING, "", 0, text, values, None)


class Clock:
    """A clock that stands until it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_what_was_left_out_is_counted_once_the_minute_is_over() -> None:
    clock = Clock()
    limit = RepeatLimit(clock=clock)
    limit.summaries()
    assert sum(limit.allows(record("%s: no answer", "press-1")) for _ in range(12)) == 5
    assert limit.allows(record("%s: no answer", "press-2"))
    clock.now = 59.9
    assert limit.summaries() == []
    clock.now = 60.0
    assert limit.summaries() == ["left out 7 more lines of gateway: press-1: no answer"]
    assert limit.allows(record("%s: no answer", "press-1"))
    clock.now = 120.0
    assert limit.summaries() == []


def test_lines_of_one_kind_are_limited_though_no_two_are_alike() -> None:
    limit = RepeatLimit(kinds=20)
    assert sum(limit.allows(record("value %d", n)) for n in range(100)) == 20
    assert limit.allows(record("another kind"))


def test_no_mix_of_lines_is_without_an_end() -> None:
    limit = RepeatLimit(total=50)
    assert sum(limit.allows(record(f"text {n}")) for n in range(100)) == 50


def test_the_count_comes_before_the_next_line(tmp_path: Path) -> None:
    program = (
        "import io, sys; from gateway.logs import LimitedOutput, RepeatLimit\n"
        "times = iter([0.0] * 9 + [61.0] * 9)\n"
        "output = LimitedOutput(sys.stderr, RepeatLimit(clock=lambda: next(times)))\n"
        "log.addHandler(output); log.propagate = False\n"
        "for n in range(9): log.warning('again')\n"
        "log.warning('later')"
    )
    assert logged(program) == ["again"] * 5 + ["left out 4 more lines of gateway.poller: again", "later"]


def test_a_record_that_cannot_be_formatted_does_not_reach_the_caller() -> None:
    lines = logged("configure(); log.warning('%d', 'x'); log.warning('still here')")
    assert lines[-1].endswith("still here")
