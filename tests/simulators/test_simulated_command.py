"""`python -m simulators` as a program: it says where it listens, is steered, and ends when told."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from asyncua import Client
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from simulators.control import send

LIMIT_S = 60.0
FREE_PORTS = ("--modbus-port", "0", "--opcua-port", "0", "--control-port", "0")


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulators", *arguments, stdout=PIPE, stderr=PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        told: dict[str, Any] = json.loads(await process.stdout.readline())
    return told


async def ended(process: Process) -> tuple[int | None, str]:
    async with asyncio.timeout(LIMIT_S):
        _, stderr = await process.communicate()
    return process.returncode, stderr.decode()


async def test_the_whole_plant_is_reachable_where_the_first_line_says_and_ends_on_sigterm() -> None:
    async with program(*FREE_PORTS, "--json-ready") as process:
        told = await ready(process)
        assert told["modbus"]["units"] == {"press-1": 1, "meter-1": 2}
        client = AsyncModbusTcpClient(told["modbus"]["host"], port=told["modbus"]["port"], timeout=10, retries=0)
        assert await client.connect()
        for unit in told["modbus"]["units"].values():
            assert not (await client.read_holding_registers(0, count=4, device_id=unit)).isError()
        client.close()
        async with Client(told["opcua"]["endpoint"], timeout=20) as robot:
            assert "urn:edge-gateway:simulators:robot" in await robot.get_namespace_array()
        assert told["opcua"]["certificate"].endswith(".der")
        report = await send(told["control"]["port"], {"device": "modbus", "do": "report"})
        assert report["function_codes"] == [3]
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == (0, "")


async def test_every_modbus_way_that_is_asked_for_leads_to_the_same_units() -> None:
    ways = ("--udp-port", "0", "--tls-port", "0", "--rtu-tcp-port", "0", "--rtu")
    async with program(*FREE_PORTS, *ways, "--json-ready", "--no-opcua") as process:
        told = await ready(process)
        names = {"modbus", "modbus-udp", "modbus-tls", "modbus-rtu-over-tcp", "modbus-rtu"}
        assert names <= told.keys()
        assert {"ca_file", "cert_file", "key_file"} <= told["modbus-tls"].keys()
        client = AsyncModbusSerialClient(told["modbus-rtu"]["port"], parity="N", timeout=10, retries=0)
        assert await client.connect()
        assert not (await client.read_holding_registers(0, count=4, device_id=2)).isError()
        client.close()
        port = told["control"]["port"]
        report = await send(port, {"device": "modbus-rtu", "do": "report"})
        assert (report["requests"], report["units"]["meter-1"]["requests"]) == (1, 1)
        assert len(await send(port, {"device": "meter-1", "do": "arrivals"})) == 1
        process.send_signal(signal.SIGTERM)
        assert await ended(process) == (0, "")
        assert not Path(told["modbus-rtu"]["port"]).exists()
        assert not Path(told["modbus-tls"]["ca_file"]).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_with_clients_connected_and_frozen(number: signal.Signals) -> None:
    async with program(*FREE_PORTS, "--json-ready", "--no-opcua") as process:
        told = await ready(process)
        assert "opcua" not in told
        reader, _writer = await asyncio.open_connection("127.0.0.1", told["modbus"]["port"])
        await send(told["control"]["port"], {"device": "modbus", "do": "freeze"})
        process.send_signal(number)
        assert await ended(process) == (0, "")
        async with asyncio.timeout(LIMIT_S):
            assert await reader.read() == b""


async def test_a_person_gets_lines_with_the_addresses() -> None:
    async with program(*FREE_PORTS, "--no-opcua", "--volume-units", "1") as process:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("Modbus TCP  127.0.0.1:")
        assert "press-1 is unit 1, meter-1 is unit 2, volume-1 is unit 11" in line


async def test_a_taken_port_is_one_sentence_and_exit_1() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with program("--modbus-port", str(port), "--no-opcua", "--control-port", "0") as process:
            code, stderr = await ended(process)
    assert code == 1
    assert stderr.count("\n") == 1
    assert "choose other ports" in stderr


async def test_ctl_prints_the_result_or_one_sentence() -> None:
    async with program(*FREE_PORTS, "--json-ready", "--no-opcua") as process:
        port = str((await ready(process))["control"]["port"])
        async with program("ctl", "--port", port, '{"device": "meter-1", "do": "nan"}') as ctl:
            assert await ended(ctl) == (0, "")
        async with program("ctl", "--port", port, '{"device": "meter-1", "do": "dance"}') as ctl:
            code, stderr = await ended(ctl)
            assert code == 1
            assert stderr.startswith("simulators: meter-1 cannot 'dance'; it can freeze")


async def test_help_shows_examples() -> None:
    async with program("--help") as process:
        async with asyncio.timeout(LIMIT_S):
            stdout, _ = await process.communicate()
        assert b"examples:\n  python -m simulators\n" in stdout


async def test_modbus_alone_does_not_import_asyncua() -> None:
    code = "import sys, simulators, simulators.__main__; sys.exit('asyncua' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    async with asyncio.timeout(LIMIT_S):
        assert await process.wait() == 0
