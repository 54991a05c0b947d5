"""The control socket: what may be asked there, by whom, and that nobody else suffers from it."""

import asyncio
import contextlib
import json
import logging
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.client import Daemon, RemoteLine, reach
from gateway.control.desk import Desk
from gateway.control.messages import LONGEST_REQUEST, WrongRequest, name_of, parse
from gateway.control.server import MOST_CLIENTS, serve
from gateway.drivers import ModbusTcpDevice
from gateway.drivers.base import DeviceSection, Driver, Shared
from gateway.drivers.modbus.link import shared_link
from gateway.errors import DeviceError, GatewayError
from gateway.model import Sample
from simulators.modbus_server import ModbusSimulator
from simulators.modbus_units import Unit
from tests.scripted import ScriptedSection, ScriptedTag

WITHIN_S = 30.0


def device(port: int, name: str = "press-1", unit: int = 1, **keys: Any) -> ModbusTcpDevice:
    """A device at the simulator."""
    tags = [{"name": "level", "address": "holding:0", "type": "uint16"}]
    return ModbusTcpDevice.model_validate(
        {
            "name": name,
            "protocol": "modbus-tcp",
            "host": "127.0.0.1",
            "port": port,
            "unit_id": unit,
            "tags": tags,
            **keys,
        }
    )


@pytest.fixture
async def plc() -> AsyncIterator[ModbusSimulator]:
    """A PLC with ten holding registers and some coils."""
    async with ModbusSimulator([Unit("plc", 1, holdings=range(100, 110), coils=[1, 0, 1])]) as simulator:
        yield simulator


@asynccontextmanager
async def daemon(folder: Path, *sections: DeviceSection, shared: Shared | None = None) -> AsyncIterator[Path]:
    """The daemon's end of a socket, which reads these devices."""
    path = folder / "control.sock"
    desk = Desk("hall-3", sections, shared or Shared("hall-3"))
    async with asyncio.timeout(WITHIN_S), serve(path, desk.visit) as is_open:
        assert is_open
        yield path


@asynccontextmanager
async def asking(path: Path) -> AsyncIterator[Daemon]:
    """A client."""
    async with reach(path) as found:
        assert found is not None
        yield found


@asynccontextmanager
async def raw(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A client that says what it likes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_it_says_who_it_is_and_what_it_reads_over_which_link(tmp_path: Path, plc: ModbusSimulator) -> None:
    section = device(plc.port)
    async with daemon(tmp_path, section) as path, asking(path) as found:
        assert found.gateway == "hall-3"
        assert found.devices == [
            {
                "name": "press-1", "protocol": "modbus-tcp", "address": f"127.0.0.1:{plc.port}",
                "link": name_of(section.link_key),
            }
        ]  # fmt: skip


async def test_a_remote_line_reads_as_the_link_does(tmp_path: Path, plc: ModbusSimulator) -> None:
    section = device(plc.port)
    async with daemon(tmp_path, section) as path, asking(path) as found:
        line = RemoteLine(found, name_of(section.link_key))
        await line.connect(1.0)
        answer = await line.read(1, "holding", 2, 3, timeout=1.0)
        assert (answer.payload.hex(), answer.refusal) == ("006600670068", 0)
        assert answer.ts > 1_700_000_000_000
        assert answer.took >= 0
        assert (await line.read(1, "coil", 0, 3, timeout=1.0)).payload == b"\x05"
        assert (await line.read(1, "holding", 8, 3, timeout=1.0)).refusal == 2
        identity = await line.identify(1, timeout=1.0)
        assert isinstance(identity, int | dict)


async def test_the_devices_own_connection_is_the_one_that_is_used(tmp_path: Path, plc: ModbusSimulator) -> None:
    """A PLC that takes one client only is not disturbed."""
    shared, section = Shared("hall-3"), device(plc.port)
    with shared_link(shared, section) as link:
        await link.read(1, "holding", 0, 1, timeout=1.0)
        async with daemon(tmp_path, section, shared=shared) as path, asking(path) as found:
            line = RemoteLine(found, name_of(section.link_key))
            await asyncio.gather(*(line.read(1, "holding", at, 1, timeout=1.0) for at in range(10)))
        await link.read(1, "holding", 0, 1, timeout=1.0)
    assert plc.connections == 1


async def test_a_link_that_no_device_holds_is_closed_when_the_client_leaves(
    tmp_path: Path, plc: ModbusSimulator
) -> None:
    shared, section = Shared("hall-3"), device(plc.port)
    async with daemon(tmp_path, section, shared=shared) as path:
        async with asking(path) as found:
            await RemoteLine(found, name_of(section.link_key)).read(1, "holding", 0, 1, timeout=1.0)
        async with asyncio.timeout(WITHIN_S):
            while any(link.users for link in shared.links.values()):
                await asyncio.sleep(0.01)  # the pace of looking


async def test_failures_are_those_of_the_link(tmp_path: Path, plc: ModbusSimulator) -> None:
    section = device(plc.port)
    async with daemon(tmp_path, section) as path, asking(path) as found:
        line = RemoteLine(found, name_of(section.link_key))
        plc.units[1].faults.freeze()
        with pytest.raises(TimeoutError):
            await line.read(1, "holding", 0, 1, timeout=0.1)
        plc.units[1].faults.resume()
        await plc.stop()
        with pytest.raises(DeviceError) as lost:
            await line.read(1, "holding", 0, 1, timeout=0.5)
        assert lost.value.reason == "connection-lost"
        assert lost.value.do
        with pytest.raises(DeviceError) as unknown:
            await RemoteLine(found, "another").read(1, "holding", 0, 1, timeout=0.5)
        assert str(unknown.value) == "the gateway has no such link"


async def test_an_open_driver_reads_for_a_client(tmp_path: Path, plc: ModbusSimulator) -> None:
    robot = ScriptedSection(name="robot-1", tags=(ScriptedTag(name="speed"), ScriptedTag(name="load")))
    robot.plc.answers = lambda columns: (Sample.good(1000, columns, tuple(7 + column for column in columns)),)
    opened: dict[str, Driver] = {}
    path = tmp_path / "control.sock"
    desk = Desk("hall-3", [robot, device(plc.port)], Shared("hall-3"), opened.get)
    async with serve(path, desk.visit), asking(path) as found:
        request = {"do": "sample", "device": "robot-1", "tags": ["load"]}
        closed = await found.ask(request)
        assert (closed["code"], closed["text"]) == ("connection-lost", "the gateway has no connection to robot-1 now")
        async with robot.open(Shared("hall-3")) as driver:
            opened["robot-1"] = driver
            answer = await found.ask(request)
            assert [(each["tags"], each["values"], each["ts"]) for each in answer["samples"]] == [(["load"], [8], 1000)]
            wrong = await found.ask({**request, "tags": ["pressure"]})
            assert (wrong["code"], wrong["text"]) == ("unknown", "robot-1 has no tag pressure in the running gateway")
        stranger = await found.ask({**request, "device": "robot-2"})
        assert stranger["text"] == "the gateway does not read robot-2"
        modbus = await found.ask({**request, "device": "press-1"})
        assert modbus["text"] == "press-1 is read over its link, register by register"


async def test_what_is_known_of_a_device_is_told_without_asking_the_device(tmp_path: Path) -> None:
    robot = ScriptedSection(name="robot-1", tags=(ScriptedTag(name="speed"),))
    opened: dict[str, Driver] = {}
    path = tmp_path / "control.sock"
    desk = Desk("hall-3", [robot], Shared("hall-3"), opened.get)
    async with serve(path, desk.visit), asking(path) as found:
        request = {"do": "about", "device": "robot-1"}
        assert (await found.ask(request))["text"] == "the gateway has no connection to robot-1 now"
        async with robot.open(Shared("hall-3")) as driver:
            opened["robot-1"] = driver
            robot.plc.completed = robot.model_copy(update={"tags": (*robot.tags, ScriptedTag(name="found"))})
            answer = await found.ask(request)
            assert (answer["connection"], answer["found"]) == ({}, [{"name": "found"}])
        stranger = await found.ask({**request, "device": "robot-2"})
        assert stranger["text"] == "the gateway does not read robot-2"


READ = {"do": "read", "link": "x", "unit": 1, "table": "holding", "start": 0, "count": 1, "timeout": 1}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"hello\n", "a request is a JSON object on one line"),
        (b"[]\n", "request: Input should be a valid dictionary or object to extract fields from"),
        (b'{"do": "reboot"}\n', None),
        (b'{"do": "hello", "more": 1}\n', "hello.more: Extra inputs are not permitted"),
        *(
            (json.dumps(READ | wrong).encode() + b"\n", None)
            for wrong in (
                {"count": 126}, {"start": 65535, "count": 2}, {"unit": 256}, {"unit": "1"}, {"unit": True},
                {"timeout": 1e9}, {"table": "file"}, {"value": 5}, {"count": 0}, {"delay": -1},
            )
        ),
    ],
)  # fmt: skip
async def test_what_is_no_request_is_refused_and_the_next_is_answered(
    tmp_path: Path, line: bytes, why: str | None
) -> None:
    async with daemon(tmp_path) as path, raw(path) as (reader, writer):
        writer.write(line + b'{"do": "hello"}\n')
        refusal, hello = json.loads(await reader.readline()), json.loads(await reader.readline())
        assert (refusal["ok"], refusal["code"], hello["ok"]) == (False, "wrong-request", True)
        assert why is None or refusal["text"] == why


@given(
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8)), st.sampled_from(["write", "call", ""])
)
def test_p10_nothing_can_be_asked_for_that_writes(keys: dict[str, Any], verb: str) -> None:
    with pytest.raises(WrongRequest):
        parse(json.dumps({**keys, "do": verb}).encode())


async def test_a_line_that_is_too_long_ends_the_visit(tmp_path: Path) -> None:
    async with daemon(tmp_path) as path, raw(path) as (reader, writer):
        writer.write(b"x" * (LONGEST_REQUEST + 2))
        answer = json.loads(await reader.readline())
        assert answer["code"] == "too-large"
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""


async def test_there_is_room_for_so_many_clients_and_for_the_next_when_one_leaves(tmp_path: Path) -> None:
    async with daemon(tmp_path) as path, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        await first.enter_async_context(asking(path))
        for _ in range(MOST_CLIENTS - 1):
            await stack.enter_async_context(asking(path))
        with pytest.raises(GatewayError) as full:
            await stack.enter_async_context(asking(path))
        assert str(full.value) == "8 commands are at work already"
        await first.aclose()
        async with asyncio.timeout(WITHIN_S):
            while True:
                with contextlib.suppress(GatewayError):
                    async with asking(path):
                        break


async def test_a_client_that_leaves_while_it_waits_costs_nobody_anything(tmp_path: Path, plc: ModbusSimulator) -> None:
    section = device(plc.port)
    async with daemon(tmp_path, section) as path:
        plc.units[1].faults.delay(0.2)
        what = {
            "unit": 1,
            "table": "holding",
            "start": 0,
            "count": 1,
            "timeout": 1.0,
            "link": name_of(section.link_key),
        }
        async with raw(path) as (_, writer):
            writer.write(json.dumps({"do": "read", **what}).encode() + b"\n")
            async with asyncio.timeout(WITHIN_S):
                while not plc.requests:
                    await asyncio.sleep(0.01)  # the pace of looking
        plc.units[1].faults.delay(0.0)
        async with asking(path) as found:
            answer = await RemoteLine(found, name_of(section.link_key)).read(1, "holding", 0, 1, timeout=1.0)
            assert answer.payload == b"\x00\x64"


async def test_the_socket_is_for_its_group_and_gone_afterwards(tmp_path: Path) -> None:
    async with daemon(tmp_path) as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert not path.exists()


async def test_when_the_gateway_stops_its_clients_are_sent_away(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        path = await stack.enter_async_context(daemon(tmp_path))
        reader, _ = await stack.enter_async_context(raw(path))
        async with asking(path):
            pass
        await stack.aclose()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), WITHIN_S) == b""


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with daemon(tmp_path) as opened, asking(opened) as found:
        assert found.gateway == "hall-3"


async def test_a_socket_at_which_another_gateway_answers_is_never_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with daemon(tmp_path) as path:
        async with serve(path, Desk("hall-4", [], Shared("hall-4")).visit) as is_open:
            assert not is_open
        async with asking(path) as found:
            assert found.gateway == "hall-3"
    assert "another gateway answers there" in caplog.text


@pytest.mark.parametrize(("expected", "level"), [(True, logging.WARNING), (False, logging.INFO)])
async def test_without_its_folder_the_gateway_runs_all_the_same_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, expected: bool, level: int
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "nowhere" / "control.sock"
    async with serve(path, Desk("hall-3", [], Shared("hall-3")).visit, expected=expected) as is_open:
        assert not is_open
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            level,
            f"no control socket at {path}: its folder does not exist; commands will connect to PLCs by themselves",
        )
    ]


async def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine")
    async with serve(path, Desk("hall-3", [], Shared("hall-3")).visit) as is_open:
        assert not is_open
    assert path.read_text() == "mine"
    assert "no control socket" in caplog.text


async def test_nobody_there_is_none_and_something_else_there_is_an_error(tmp_path: Path) -> None:
    async with reach(tmp_path / "control.sock") as found:
        assert found is None

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"220 mail.example.com\r\n")
        await writer.drain()
        writer.close()

    stranger = await asyncio.start_unix_server(talk, tmp_path / "other.sock")
    async with stranger:
        with pytest.raises(GatewayError) as error:
            async with reach(tmp_path / "other.sock"):
                pass
    assert "does not answer" in str(error.value)
