"""`edge-gateway scan`: which units answer, what they are, which registers they have; gently, and only reading."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.commissioning.guesses import guess
from gateway.commissioning.search import Search, Span
from simulators import ModbusSimulator, Unit
from tests.cli.conftest import Shell
from tests.cli.lines import WAYS, line
from tests.cli.test_read import config
from tests.end_to_end.rig import Gateway, running

GENTLE = {1, 2, 3, 4, 43}
FAST = ("--yes", "--rate", "1000")


def meter(unit: int = 1) -> Unit:
    """A unit with registers here and there."""
    return Unit(
        "meter", unit,
        holdings={**dict.fromkeys(range(24), 7), **{at: at for at in range(1000, 1010)}},
        inputs={0: 0x4366, 1: 0x6666, 2: 0x4248, 3: 0x0A3D}, coils=[1, 0, 1],
        identity={0: "Maker", 1: "M-1", 2: "1.4"},
    )  # fmt: skip


def ask(search: Search, held: set[int], most: int = 10_000) -> int:
    """Let a device that has these registers, and answers so many at once, answer a search; gives the requests."""
    requests = 0
    while (span := search.next()) is not None:
        requests += 1
        start, end = span
        if end - start <= most and held.issuperset(range(start, end)):
            search.answered(span)
        else:
            search.refused(span)
    return requests


def covered(spans: tuple[Span, ...]) -> set[int]:
    """The registers of ranges."""
    return {at for start, end in spans for at in range(start, end)}


@given(st.sets(st.integers(0, 249)), st.integers(1, 250))
@settings(max_examples=30, deadline=None)
def test_every_pattern_of_holes_is_found_whatever_the_device_answers_at_once(held: set[int], most: int) -> None:
    search = Search("holding", 0, 249)
    ask(search, held, most)
    assert covered(search.found) == held
    assert search.unasked == ()


def test_a_device_with_few_registers_at_the_usual_places_is_found_within_few_requests() -> None:
    held = {*range(24), *range(1000, 1010), *range(3000, 3002)}
    search = Search("holding", 0, 9999)
    for _ in range(200):
        span = search.next()
        assert span is not None
        (search.answered if held.issuperset(range(*span)) else search.refused)(span)
    assert covered(search.found) == held


def test_what_was_refused_and_not_asked_for_is_told() -> None:
    search = Search("holding", 0, 199)
    while (span := search.next()) is not None and search.unasked:
        search.refused(span) if span[0] else search.end("enough")
    assert search.ended == "enough"
    assert search.next() is None


def test_a_device_that_answers_few_at_once_is_not_asked_for_more_again() -> None:
    search = Search("holding", 0, 999)
    assert ask(search, set(range(1000)), most=26) < 80
    assert covered(search.found) == set(range(1000))


def test_values_are_shown_as_what_they_most_likely_are() -> None:
    values = dict(enumerate([0x4366, 0x6666, 0, 0, 215, 0x5045, 0x4D35, 0x3530, 0x3020]))
    found = [(at, one.type, one.values) for at, one in guess(values, (0, 9), 9)]
    assert found[0][:2] == (0, "float32")
    assert found[1] == (4, "uint16", (215,))
    assert found[2][:2] == (5, "string")


@pytest.mark.parametrize("way", WAYS)
async def test_over_every_transport_a_unit_is_found_named_and_searched(shell: Shell, tmp_path: Path, way: str) -> None:
    """Ranges exactly, values, identification; nothing but reads and 43/14 was on the wire."""
    async with line(way, [meter(7)], tmp_path) as target:
        done = await shell("scan", *FAST, "--json", "--units", "6-7", "--registers", "0-1199", target.all)
        assert done.code == 0, done.err
        assert target.simulator.function_codes <= GENTLE
    (unit,) = json.loads(done.out)["units"]
    assert (unit["unit"], unit["identification"]) == (7, {"vendor": "Maker", "product code": "M-1", "revision": "1.4"})
    ranges = {table: [(r["start"], r["count"]) for r in each["ranges"]] for table, each in unit["tables"].items()}
    assert ranges == {"holding": [(0, 24), (1000, 10)], "input": [(0, 4)], "coil": [(0, 3)], "discrete": []}
    assert unit["tables"]["holding"]["ranges"][1]["values"] == list(range(1000, 1010))


async def test_it_shows_ranges_a_few_values_and_what_they_may_be(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [meter()], tmp_path) as target:
        done = await shell("scan", *FAST, "--registers", "0-1199", target.unit(1))
    lines = done.out.splitlines()
    assert lines[0] == "unit 1: vendor Maker, product code M-1, revision 1.4"
    assert "    1000 to 1009  (10)" in lines
    assert "      input:0  0x4366 0x6666  230.4  (type: float32?)" in lines
    assert "      on: 0, 2" in lines
    assert done.err.splitlines()[:2] == [
        f"Scans {target.base.partition('//')[2]} over a connection of its own.",
        "Asks for unit 1: at most 0 s. Only reads: function codes 1 to 4, and 43/14.",
    ]
    assert done.err.splitlines()[2].startswith(
        "Then holding, input, coil, discrete 0 to 1199 of each unit found: at most"
    )


async def test_a_device_that_ignores_the_unit_id_is_searched_once(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [meter(1), meter(255), meter(0)], tmp_path) as target:
        done = await shell("scan", *FAST, "--json", "--only-units", target.all)
    document = json.loads(done.out)
    assert [unit["unit"] for unit in document["units"]] == [1]
    assert document["notes"] == ["units 255, 0 answer as unit 1 does: the device ignores the unit id"]


async def test_nobody_there_is_exit_1(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [meter(1)], tmp_path) as target:
        done = await shell("scan", *FAST, "--units", "3,5", target.all)
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1].startswith("no unit answered: check the wiring")


async def test_the_budget_and_the_rate_are_kept(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [meter(1)], tmp_path) as target:
        began = time.monotonic()
        done = await shell("scan", "--yes", "--rate", "20", "--budget", "12", "--json", target.unit(1))
        took = time.monotonic() - began
        assert target.simulator.requests <= 1 + 3 + 12
        assert took >= (target.simulator.requests - 2) / 20
    unit = json.loads(done.out)["units"][0]
    assert unit["requests"] == 12
    assert unit["tables"]["holding"]["ended"] == "4 requests were made, its share of the budget"
    assert unit["tables"]["holding"]["unasked"]


async def test_a_connection_that_ends_is_made_anew(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [meter(1)], tmp_path) as target:
        target.simulator.faults.close_after_answer()
        done = await shell("scan", *FAST, "--json", "--registers", "0-99", "--tables", "coil", target.unit(1))
    ranges = json.loads(done.out)["units"][0]["tables"]["coil"]["ranges"]
    assert [(each["start"], each["count"]) for each in ranges] == [(0, 3)]


async def test_through_a_running_gateway_the_plc_sees_no_second_client(shell: Shell, tmp_path: Path) -> None:
    async with ModbusSimulator([meter(1)]) as simulator:
        path = config(tmp_path, simulator.port)
        gateway = Gateway(tmp_path, yaml.safe_load(path.read_text()))
        async with running(gateway):
            await gateway.until(lambda health: health["devices"]["press-1"]["last_good_ms"])
            before = simulator.connections
            options = ("--registers", "0-99", "--tables", "input,coil")
            done = await shell("scan", *FAST, "-c", str(path), *options, "press-1")
            assert done.code == 0, done.err
            assert simulator.connections == before
            assert done.err.splitlines()[0].endswith(
                "through the running gateway hall-3, in the queue of the link that it reads press-1 over."
            )
            assert await gateway.end() == 0


class Terminal:
    """A scan in a terminal of its own, which a person watches and types into."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.arguments = arguments
        self.folder = folder
        self.screen = b""

    async def run(self, until: Any, keys: bytes) -> tuple[int, str]:
        """Answer the question with y, wait until something is so, type; give the exit code and the screen."""
        ours, theirs = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "scan", *self.arguments, cwd=self.folder, env=environment,
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        loop = asyncio.get_running_loop()
        loop.add_reader(ours, self._look, ours)
        try:
            async with asyncio.timeout(60):
                while b"Begin?" not in self.screen:
                    await asyncio.sleep(0.02)  # the pace of looking
                os.write(ours, b"y\n")
                while not until():
                    await asyncio.sleep(0.02)  # the pace of looking
                if keys == b"\x03":
                    process.send_signal(signal.SIGINT)
                else:
                    os.write(ours, keys)
                code = await process.wait()
        finally:
            loop.remove_reader(ours)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        self._look(ours)
        os.close(ours)
        return code, self.screen.decode(errors="replace")

    def _look(self, ours: int) -> None:
        with contextlib.suppress(OSError):
            self.screen += os.read(ours, 65536)


@pytest.mark.parametrize("keys", [b"q", b"\x03"])
async def test_q_and_ctrl_c_end_it_with_what_was_found_so_far(tmp_path: Path, keys: bytes) -> None:
    async with line("tcp", [meter(1)], tmp_path) as target:
        terminal = Terminal(tmp_path, "--rate", "5", target.unit(1))
        code, screen = await terminal.run(lambda: target.simulator.requests >= 6, keys)
        assert target.simulator.requests < 30
    assert code == 0, screen
    assert "unit 1: vendor Maker" in screen
    assert "stopped: this is what was found so far" in screen
    assert "Traceback" not in screen


async def test_it_asks_before_it_begins_and_asks_nobody_who_cannot_answer(shell: Shell, tmp_path: Path) -> None:
    async with line("tcp", [meter(1)], tmp_path) as target:
        done = await shell("scan", target.all)
        assert target.simulator.requests == 0
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "edge-gateway scan: it asks before it begins, and nobody can answer here: give --yes. See edge-gateway scan "
        "--help."
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["press-1"], "press-1 is the name of a device: give the config that it is in (-c)."),
        (["modbus-tcp://h", "--units", "1-300"], "write unit ids from 0 to 255, such as 1-32 or 1,7,9."),
        (["modbus-tcp://h", "--units", "9-3"], "name at least one unit id, the lower end of a range first."),
        (["modbus-tcp://h", "--registers", "9-3"], "registers go from 0 to 65535, the lower one first."),
        (["modbus-tcp://h", "--registers", "all"], "write a range such as 0-9999."),
        (["modbus-tcp://h", "--tables", "files"], "there is no table 'files'; write coil,discrete,holding,input."),
    ],
)
async def test_wrong_use_is_one_sentence_and_exit_2(shell: Shell, arguments: list[str], sentence: str) -> None:
    done = await shell("scan", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert sentence in done.err


async def test_help_has_an_example(shell: Shell) -> None:
    done = await shell("scan", "--help")
    assert "Example: edge-gateway scan modbus-tcp://192.0.2.10:502 --units 1-32" in done.out
