"""RTU, on a serial port and through a converter: without transaction ids only silence keeps answers apart."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from math import inf
from pathlib import Path
from typing import Any

import pytest
from modbus_lines import Asked, Slaves, answer, framed, link_of, on_pty, over_tcp
from modbus_peer import open_files, within

from gateway.drivers.modbus.connection import WrongAnswer
from gateway.drivers.modbus.link import ModbusLink
from gateway.drivers.modbus.section import ModbusRtuDevice
from gateway.drivers.modbus.silence import Silence, gap_of
from gateway.drivers.modbus.unit import Unit
from gateway.errors import DeviceError

SHORT_S = 0.15
Opened = Callable[..., AbstractAsyncContextManager[tuple[Slaves, ModbusLink]]]
both = pytest.mark.parametrize("opened", [on_pty, over_tcp], ids=["a serial port", "a converter"])


async def read(link: ModbusLink, start: int = 0, count: int = 2, unit: int = 1, timeout: float = 20.0) -> list[int]:
    payload = (await within(link.read(unit, "holding", start, count, timeout=timeout))).payload
    return [int.from_bytes(payload[at : at + 2]) for at in range(0, len(payload), 2)]


@both
async def test_registers_are_read_and_a_refusal_is_an_answer(opened: Opened, tmp_path: Path) -> None:
    async with opened(tmp_path) as (slaves, link):
        assert await read(link, 40, 125) == list(range(40, 165))
        slaves.script = lambda asked: asked.send(framed(asked.unit, b"\x83\x02"))
        assert (await within(link.read(1, "holding", 0, 1, timeout=20.0))).refusal == 2


@both
async def test_an_answer_that_dribbles_in_is_put_together(opened: Opened, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    def dribble(asked: Asked) -> None:
        for at, byte in enumerate(asked.good()):
            loop.call_later(0.003 * at, asked.send, bytes((byte,)))

    async with opened(tmp_path, dribble) as (_, link):
        assert await read(link, 7) == [7, 8]


@both
async def test_a_unit_is_identified(opened: Opened, tmp_path: Path) -> None:
    pdu = bytes.fromhex("2B 0E 01 01 00 00 01") + b"\x00\x04ACME"

    def name_plate(data: bytes, send: Callable[[bytes], None]) -> None:
        send(framed(1, pdu))

    async with opened(tmp_path) as (slaves, link):
        slaves.take = name_plate  # type: ignore[method-assign]
        assert await within(link.identify(1, timeout=20.0)) == {0: "ACME"}


@both
async def test_p5_a_late_answer_to_a_request_that_timed_out_is_never_taken_for_the_next_one(
    opened: Opened, tmp_path: Path
) -> None:
    """Same unit, same function, same size: nothing but time tells the answers apart."""
    loop = asyncio.get_running_loop()

    def late_once(asked: Asked) -> None:
        slow = len(slaves.asked) == 2
        loop.call_later(2.5 * SHORT_S if slow else 0.0, asked.send, asked.good())

    async with opened(tmp_path, late_once) as (slaves, link):
        assert await read(link, 100) == [100, 101]
        with pytest.raises(TimeoutError):
            await read(link, 200, timeout=SHORT_S)
        assert await read(link, 300) == [300, 301]
        assert slaves.asked[2].at - slaves.asked[1].at >= 2.5 * SHORT_S


@both
async def test_p5_after_a_cancelled_request_the_next_one_gets_its_own_answer(opened: Opened, tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()

    def slow(asked: Asked) -> None:
        loop.call_later(0.1, asked.send, asked.good())

    async with opened(tmp_path, slow) as (slaves, link), asyncio.TaskGroup() as group:
        asked = group.create_task(read(link, 300, timeout=60.0), name="asked")
        await slaves.until_asked(1)
        asked.cancel()
        assert await read(link, 400, timeout=60.0) == [400, 401]
        assert asked.cancelled()
        assert slaves.asked[1].at - slaves.asked[0].at >= 0.1


@both
async def test_p6_a_neighbour_waits_for_a_silent_unit_no_longer_than_its_answers_take(
    opened: Opened, tmp_path: Path
) -> None:
    """Unit 2 has always answered at once: after it missed, the line is quiet for a moment and not for a timeout."""
    async with opened(tmp_path) as (slaves, link):
        await read(link, unit=1)
        await read(link, unit=2)
        slaves.script = lambda asked: None if asked.unit == 2 else answer(asked)
        with pytest.raises(TimeoutError):
            await read(link, unit=2, timeout=1.0)
        missed = slaves.asked[-1].at
        await read(link, unit=1)
        assert 1.0 <= slaves.asked[-1].at - missed < 1.7


WRONG: dict[str, Callable[[Asked], bytes]] = {
    "another unit": lambda asked: asked.good(unit=9),
    "a wrong checksum": lambda asked: asked.good()[:-1] + b"\x00",
    "a register too few": lambda asked: asked.good(1),
    "a register too many": lambda asked: asked.good(1, 2, 3),
    "noise before it": lambda asked: b"\x00" + asked.good(),
    "a second frame behind it": lambda asked: asked.good(1, 2) + asked.good(),
}


@both
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_p5_a_wrong_frame_is_never_a_value_and_does_not_harm_the_next_request(
    opened: Opened, tmp_path: Path, wrong: Callable[[Asked], bytes]
) -> None:
    async with opened(tmp_path, lambda asked: asked.send(wrong(asked))) as (slaves, link):
        with pytest.raises(WrongAnswer, match=r"(ttyUSB0|127.0.0.1:\d+) (answers|announces) "):
            await read(link, 5, timeout=0.3)
        slaves.script = answer
        assert await read(link, 8) == [8, 9]


async def test_p5_what_comes_while_the_line_is_left_alone_is_dropped(tmp_path: Path) -> None:
    async with on_pty(tmp_path, lambda asked: asked.send(b"\x00" + asked.good())) as (line, link):
        with pytest.raises(WrongAnswer):
            await read(link, timeout=0.3)
        line.send(framed(1, b"\x03\x04\xde\xad\xbe\xef") * 3)
        line.script = answer
        assert await read(link, 8) == [8, 9]


async def test_an_adapter_that_hears_itself_is_understood_without_being_told(tmp_path: Path) -> None:
    async with on_pty(tmp_path, lambda asked: asked.send(asked.frame + asked.good())) as (line, link):
        for start in range(3):
            assert await read(link, start) == [start, start + 1]
        line.script = lambda asked: asked.send(asked.frame)
        with pytest.raises(TimeoutError):
            await read(link, timeout=SHORT_S)


async def test_frames_are_apart_by_three_and_a_half_characters(tmp_path: Path) -> None:
    """At 1200 baud they are 32 ms, more than any delay of the machine's own."""
    async with on_pty(tmp_path, serial={"baudrate": 1200}) as (line, link):
        for start in range(4):
            await read(link, start)
    gaps = [after.at - before.at for before, after in itertools.pairwise(line.asked)]
    assert min(gaps) >= 3.5 * 11 / 1200


def test_the_silence_between_frames_is_that_of_the_standard() -> None:
    """Modbus over Serial Line V1.02, section 2.5.1.1."""

    def gap(**serial: Any) -> float:
        keys = {"name": "a", "protocol": "modbus-rtu", "serial": {"port": "/dev/ttyS0", **serial}}
        return gap_of(ModbusRtuDevice.model_validate(keys))

    assert gap(baudrate=9600, parity="N", stopbits=1) == pytest.approx(3.5 * 10 / 9600)
    assert gap(baudrate=19200) == pytest.approx(3.5 * 11 / 19200)
    assert gap(baudrate=38400) == gap(baudrate=115200) == 0.00175


def test_a_line_is_quiet_for_as_long_as_the_unit_was_ever_slow() -> None:
    silence, unit = Silence(0.002), Unit(1)
    silence.give_up(unit, 0.0, 1.0, 1.0)
    assert silence.until(0.0, 0.5, 1.0) == 2.0, "never heard: as long as its timeout"
    unit.slowest = 0.02
    silence.give_up(unit, 10.0, 1.0, 11.0)
    assert silence.until(0.0, 0.5, 11.0) == pytest.approx(11.07)
    assert unit.hold_until == 13.0, "the unit itself is left alone for longer"


def test_what_came_late_tells_how_slow_a_unit_may_be() -> None:
    silence, unit = Silence(0.002), Unit(1, slowest=0.02)
    silence.give_up(unit, 0.0, 1.0, 1.0)
    silence.rested_at = 1.0
    assert silence.until(0.0, 0.5, 1.0) > 1.05
    silence.settle(1.05)
    assert silence.until(0.0, 1.05, 1.05) == 1.052, "nothing is waited for any more"
    assert (unit.slowest, unit.hold_until) == (1.05, -inf)


def test_a_line_that_is_never_silent_is_not_waited_for_for_ever() -> None:
    silence = Silence(0.002)
    silence.rested_at = 1.0
    assert silence.until(0.0, 1.5, 1.5) == pytest.approx(1.502)
    assert silence.until(0.0, 9.0, 9.0) < 9.0


async def test_an_adapter_that_is_pulled_out_fails_the_request_at_once_and_works_when_it_is_back(
    tmp_path: Path,
) -> None:
    before = open_files()
    async with on_pty(tmp_path, lambda asked: None) as (line, link), asyncio.TaskGroup() as group:

        async def ask() -> DeviceError:
            with pytest.raises(DeviceError) as lost:
                await read(link, timeout=3600.0)
            return lost.value

        asked = group.create_task(ask(), name="asked")
        await line.until_asked(1)
        line.unplug()
        error = await within(asked)
        assert (error.reason, str(error)) == ("connection-lost", f"the serial port {line.port} is gone")
        assert "by-id" in error.do
        with pytest.raises(DeviceError, match="there is no serial port") as missing:
            await read(link)
        assert "/dev/serial/by-id" in missing.value.do
        line.script = answer
        line.plug()
        assert await within(until_back(link)) == [3, 4]
    assert open_files() <= before


async def until_back(link: ModbusLink) -> list[int]:
    """Try again and again, as the supervisor does."""
    while True:
        try:
            return await read(link, 3)
        except DeviceError:
            await asyncio.sleep(0.05)


async def test_a_port_that_another_program_has_locked_is_not_taken(tmp_path: Path) -> None:
    async with on_pty(tmp_path) as (line, link):
        await read(link)
        other = link_of(ModbusRtuDevice, serial={"port": str(line.port)})
        with pytest.raises(DeviceError, match="another program uses the serial port"):
            await within(other.connect(1.0))


@pytest.mark.parametrize(
    ("make", "text", "do"),
    [
        (lambda path: path.write_text(""), "is no serial port", "by-id"),
        (lambda path: path.mkdir(), "cannot be used", "Check"),
    ],
)
async def test_what_is_no_port_says_so(tmp_path: Path, make: Callable[[Path], Any], text: str, do: str) -> None:
    make(tmp_path / "port")
    with pytest.raises(DeviceError, match=text) as wrong:
        await within(link_of(ModbusRtuDevice, serial={"port": str(tmp_path / "port")}).connect(1.0))
    assert do in wrong.value.do


def test_a_port_that_we_may_not_open_names_the_group() -> None:
    from gateway.drivers.modbus.section import Serial
    from gateway.drivers.modbus.serial_line import SerialWay

    error = SerialWay(Serial(port="/dev/ttyUSB0")).explain(PermissionError(13, "Permission denied"))
    assert "may not open" in str(error)
    assert "dialout" in error.do


async def test_an_adapter_without_rs485_switching_says_so(tmp_path: Path) -> None:
    before = open_files()
    async with on_pty(tmp_path, serial={"rs485": True}) as (_, link):
        with pytest.raises(DeviceError, match="RS-485") as wrong:
            await within(link.connect(1.0))
        assert "rs485: false" in wrong.value.do
    assert open_files() <= before
