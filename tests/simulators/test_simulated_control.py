"""The control channel carries orders out, and says in one sentence why it cannot."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from simulators import Control, ControlError, ModbusSimulator, PressUnit
from simulators.control import send

LIMIT_S = 20.0


@pytest.fixture
async def press() -> PressUnit:
    return PressUnit()


@pytest.fixture
async def modbus(press: PressUnit) -> AsyncIterator[ModbusSimulator]:
    async with ModbusSimulator([press]) as modbus:
        yield modbus


@pytest.fixture
async def control(press: PressUnit, modbus: ModbusSimulator) -> AsyncIterator[Control]:
    async with Control({"press-1": press.commands, "modbus": modbus.commands}) as control:
        yield control


async def order(control: Control, **fields: object) -> object:
    async with asyncio.timeout(LIMIT_S):
        return await send(control.port, fields)


async def test_each_fault_can_be_set_and_cleared_from_outside(control: Control, press: PressUnit) -> None:
    await order(control, device="press-1", do="freeze")
    assert press.faults.frozen
    await order(control, device="press-1", do="resume")
    await order(control, device="press-1", do="delay", s=0.5)
    await order(control, device="press-1", do="refuse", table="input", addresses=[1, 2])
    await order(control, device="press-1", do="wrong", kind="short", times=3)
    await order(control, device="press-1", do="close-after-answer")
    faults = press.faults
    assert (faults.frozen, faults.delay_s, faults.spoiled, faults.left) == (False, 0.5, "short", 3)
    assert faults.closing
    assert faults.refused == {("input", 1), ("input", 2)}
    await order(control, device="press-1", do="exception", code=6)
    assert (faults.code, faults.spoiled, faults.left) == (6, None, None)
    await order(control, device="press-1", do="clear")
    assert (faults.code, faults.delay_s, faults.refused) == (None, 0.0, set())


async def test_the_endpoint_stops_and_starts_from_outside(control: Control, modbus: ModbusSimulator) -> None:
    await order(control, device="modbus", do="stop")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", modbus.port)
    await order(control, device="modbus", do="start")
    _, writer = await asyncio.open_connection("127.0.0.1", modbus.port)
    writer.close()


async def test_a_report_shows_the_counters(control: Control, press: PressUnit) -> None:
    press.step(0.1)
    assert await order(control, device="press-1", do="report") == {"requests": 0, "ticks": 1, "served": 0}
    report = await order(control, device="modbus", do="report")
    assert isinstance(report, dict)
    assert report["function_codes"] == []


async def test_help_lists_what_each_device_can(control: Control) -> None:
    listed = await order(control, do="help")
    assert isinstance(listed, dict)
    assert "bad-text" in listed["press-1"]
    assert "stop" in listed["modbus"]


@pytest.mark.parametrize(("fields", "sentence"), [
    ({"device": "press-9", "do": "freeze"}, "no device 'press-9'; there are press-1, modbus"),
    ({"device": "press-1", "do": "explode"}, "press-1 cannot 'explode'; it can freeze"),
    ({"device": "press-1"}, "press-1 cannot ''; it can freeze"),
    ({"device": "press-1", "do": "delay"}, "delay: s: Missing required argument"),
    ({"device": "press-1", "do": "delay", "s": -1}, "delay: s: Input should be greater than or equal to 0"),
    ({"device": "press-1", "do": "freeze", "now": 1}, "freeze: now: Unexpected keyword argument"),
    ({"device": "press-1", "do": "refuse", "table": "coils", "addresses": [1]}, "refuse: table: Input should be"),
    ({"device": ["press-1"], "do": "freeze"}, "no device"),
    ({"device": "press-1", "do": {}}, "cannot"),
])  # fmt: skip
async def test_a_wrong_order_gets_one_sentence(control: Control, fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ControlError, match=sentence):
        await order(control, **fields)


async def test_a_line_that_is_no_order_is_answered_and_the_talk_goes_on(control: Control) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", control.port)
    async with asyncio.timeout(LIMIT_S):
        for line, error in ((b"freeze\n", "not JSON"), (b"[1]\n", "write an object"), (b"\xff\n", "not JSON")):
            writer.write(line)
            assert json.loads(await reader.readline())["error"].startswith(error)
        writer.write(b'{"do": "help"}\n')
        assert json.loads(await reader.readline())["ok"] is True
        writer.write(b"x" * 200_000)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()


async def test_nobody_listening_is_one_sentence(control: Control) -> None:
    await control.__aexit__()
    with pytest.raises(ControlError, match="no simulators take orders on"):
        await send(control.port, {"do": "help"})
