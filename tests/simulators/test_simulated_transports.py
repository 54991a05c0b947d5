"""One and the same unit answers on every transport: pymodbus' clients and raw octets look at it."""

import asyncio
import contextlib
import os
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient, AsyncModbusTlsClient, AsyncModbusUdpClient

from simulators import (
    Endpoint,
    ModbusRtuOverTcpSimulator,
    ModbusRtuSimulator,
    ModbusSimulator,
    ModbusTlsSimulator,
    ModbusUdpSimulator,
    TlsFiles,
    Unit,
)
from simulators.modbus_framing import RTU, crc
from simulators.modbus_identity import identification

LIMIT_S = 20.0
SILENCE_S = 0.2
READ_TWO = bytes((3, 3, 0, 0, 0, 2))
GOOD = bytes((3, 3, 4, 0, 10, 0, 11))


def sealed(body: bytes) -> bytes:
    return body + crc(body).to_bytes(2, "little")


def trusting(files: TlsFiles, *, certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.authority))
    if certificate:
        context.load_cert_chain(files.client, files.client_key)
    return context


class Octets:
    """A serial port at its barest."""

    def __init__(self, port: str) -> None:
        self.fd = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def send(self, octets: bytes) -> None:
        os.write(self.fd, octets)

    async def take(self, count: int, limit_s: float = LIMIT_S) -> bytes:
        got = b""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self.fd, readable.set)
        try:
            async with asyncio.timeout(limit_s):
                while len(got) < count:
                    await readable.wait()
                    readable.clear()
                    with contextlib.suppress(BlockingIOError):  # the loop had told of octets that were taken since
                        got += os.read(self.fd, count - len(got))
        finally:
            loop.remove_reader(self.fd)
        return got

    async def ask(self, octets: bytes, count: int) -> bytes:
        self.send(octets)
        return await self.take(count)

    async def is_silent(self) -> bool:
        try:
            await self.take(1, SILENCE_S)
        except TimeoutError:
            return True
        return False


@contextmanager
def opened(port: str) -> Iterator[Octets]:
    octets = Octets(port)
    try:
        yield octets
    finally:
        os.close(octets.fd)


@pytest.fixture
def unit() -> Unit:
    return Unit("plain", 3, coils=[1, 0, 1], discretes={7: 1}, holdings=[10, 11, 12], inputs={100: 7, 101: 8})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return TlsFiles.of(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def line(unit: Unit) -> AsyncIterator[ModbusRtuSimulator]:
    async with ModbusRtuSimulator([unit]) as line:
        yield line


@pytest.fixture
def port(line: ModbusRtuSimulator) -> Iterator[Octets]:
    with opened(line.port) as octets:
        yield octets


WAYS = ("tcp", "udp", "tls", "rtu-over-tcp", "rtu")


def endpoint(way: str, units: list[Unit], files: TlsFiles) -> Endpoint:
    made: dict[str, Callable[[], Endpoint]] = {
        "tcp": lambda: ModbusSimulator(units),
        "udp": lambda: ModbusUdpSimulator(units),
        "tls": lambda: ModbusTlsSimulator(units, files),
        "rtu-over-tcp": lambda: ModbusRtuOverTcpSimulator(units),
        "rtu": lambda: ModbusRtuSimulator(units),
    }
    return made[way]()


@asynccontextmanager
async def client(way: str, where: dict[str, Any], files: TlsFiles) -> AsyncIterator[Any]:
    keys: dict[str, Any] = {"timeout": 10, "retries": 0}
    if way == "rtu":
        made: Any = AsyncModbusSerialClient(where["port"], **keys, parity="N")
    elif way == "tls":
        made = AsyncModbusTlsClient("127.0.0.1", port=where["port"], sslctx=trusting(files), **keys)
    elif way == "udp":
        made = AsyncModbusUdpClient("127.0.0.1", port=where["port"], **keys)
    else:
        framer = FramerType.RTU if way == "rtu-over-tcp" else FramerType.SOCKET
        made = AsyncModbusTcpClient("127.0.0.1", port=where["port"], framer=framer, **keys)
    assert await made.connect()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("way", WAYS)
async def test_the_same_unit_is_read_over_each_transport_and_counts_what_came(
    way: str, unit: Unit, files: TlsFiles
) -> None:
    async with endpoint(way, [unit], files) as simulator, client(way, simulator.where, files) as peer:
        assert (await peer.read_coils(0, count=3, device_id=3)).bits[:3] == [True, False, True]
        assert (await peer.read_discrete_inputs(7, count=1, device_id=3)).bits[0] is True
        assert (await peer.read_holding_registers(0, count=3, device_id=3)).registers == [10, 11, 12]
        assert (await peer.read_input_registers(100, count=2, device_id=3)).registers == [7, 8]
        assert (await peer.read_input_registers(99, count=2, device_id=3)).exception_code == 2
        assert simulator.function_codes == {1, 2, 3, 4}
        assert (simulator.requests, unit.requests, simulator.connections, simulator.overlapping) == (5, 5, 1, 0)
        assert sorted(unit.arrivals) == list(unit.arrivals)


@pytest.mark.parametrize("way", WAYS)
async def test_a_unit_says_who_it_is_over_each_transport(way: str, unit: Unit, files: TlsFiles) -> None:
    async with endpoint(way, [unit], files) as simulator, client(way, simulator.where, files) as peer:
        answer = await peer.read_device_information(read_code=1, object_id=0, device_id=3)
        assert answer.information == {0: b"edge-gateway", 1: b"PLAIN", 2: b"1.0"}
        assert (simulator.function_codes, simulator.mei_types) == ({43}, {14})


@pytest.mark.parametrize("way", WAYS)
async def test_a_transport_stops_and_starts_at_the_same_place(way: str, unit: Unit, files: TlsFiles) -> None:
    async with endpoint(way, [unit], files) as simulator:
        where = simulator.where
        await simulator.stop()
        assert not simulator.is_open
        await simulator.start()
        assert simulator.where == where
        async with client(way, where, files) as peer:
            assert (await peer.read_holding_registers(0, count=1, device_id=3)).registers == [10]


async def first_octet(port: int, context: ssl.SSLContext) -> bytes:
    reader, _ = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    return await asyncio.wait_for(reader.readexactly(1), LIMIT_S)


async def test_a_client_without_a_certificate_is_not_let_in(unit: Unit, files: TlsFiles) -> None:
    async with ModbusTlsSimulator([unit], files) as simulator:
        stranger = trusting(files, certificate=False)
        with pytest.raises((OSError, asyncio.IncompleteReadError)):
            await first_octet(simulator.port, stranger)
        assert simulator.connections == 0


def test_certificates_that_are_there_are_used_again(tmp_path: Path) -> None:
    first = TlsFiles.of(tmp_path)
    authority = first.authority.read_bytes()
    assert TlsFiles.of(tmp_path) == first
    assert first.authority.read_bytes() == authority
    assert first.server_key.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("short", sealed(bytes((3, 3, 2, 0, 10)))),
        ("unit", sealed(bytes((4,)) + GOOD[1:])),
        ("function", sealed(bytes((3, 4)) + GOOD[2:])),
        ("check", sealed(GOOD)[:-1] + bytes((sealed(GOOD)[-1] ^ 0xFF,))),
        ("transaction", sealed(GOOD)),
        ("noise", b"\xff\x00\xf8" + sealed(GOOD)),
        ("echo", sealed(READ_TWO) + sealed(GOOD)),
        ("twice", sealed(GOOD) * 2),
        ("half", sealed(GOOD)[:4]),
        ("split", sealed(GOOD)),
    ],
)
async def test_on_a_serial_line_too_an_answer_is_wrong_in_one_way_only(
    port: Octets, unit: Unit, kind: Any, answer: bytes
) -> None:
    unit.faults.wrong(kind, times=1)
    assert await port.ask(sealed(READ_TWO), len(answer)) == answer
    assert await port.is_silent()
    assert await port.ask(sealed(READ_TWO), 9) == sealed(GOOD)


async def test_a_delayed_answer_comes_late_on_a_serial_line_whoever_waits_then(port: Octets, unit: Unit) -> None:
    unit.faults.delay(2 * SILENCE_S)
    port.send(sealed(READ_TWO))
    assert await port.is_silent()
    assert await port.take(9) == sealed(GOOD)


async def test_nobody_answers_for_a_unit_that_is_not_on_the_line(port: Octets, line: ModbusRtuSimulator) -> None:
    port.send(sealed(bytes((9,)) + READ_TWO[1:]))
    assert await port.is_silent()
    assert line.requests == 1


@pytest.mark.parametrize("octets", [b"\xde\xad\xbe\xef" * 5, sealed(READ_TWO)[:-1] + b"\x00", sealed(READ_TWO)[:5]])
async def test_what_is_no_request_is_forgotten_and_the_next_one_answered(port: Octets, octets: bytes) -> None:
    port.send(octets)
    assert await port.is_silent()
    assert await port.ask(sealed(READ_TWO), 9) == sealed(GOOD)


async def test_a_line_that_is_unplugged_ends_and_comes_back_at_its_path(line: ModbusRtuSimulator) -> None:
    with opened(line.port) as port:
        await line.stop()
        assert not Path(line.port).exists()
        assert os.read(port.fd, 1) == b""
    await line.start()
    with opened(line.port) as port:
        assert await port.ask(sealed(READ_TWO), 9) == sealed(GOOD)


async def test_a_paced_line_takes_the_time_of_its_characters_and_tells_of_crowding(unit: Unit) -> None:
    async with ModbusRtuSimulator([unit], baudrate=1200, paced=True) as line:
        with opened(line.port) as port:
            began = time.monotonic()
            await port.ask(sealed(READ_TWO), 9)
            assert time.monotonic() - began >= 17 * line.character_s + line.silence_s
            assert line.crowded == 0
            await asyncio.sleep(2 * line.silence_s)  # the silence that a request needs before it
            await port.ask(sealed(READ_TWO), 9)
            assert line.crowded == 0
            await port.ask(sealed(READ_TWO), 9)
            assert line.crowded == 1


async def test_requests_that_come_before_the_answer_are_counted(port: Octets, line: ModbusRtuSimulator) -> None:
    line.faults.delay(SILENCE_S)
    assert await port.ask(sealed(READ_TWO) + sealed(READ_TWO), 18) == sealed(GOOD) * 2
    assert line.overlapping == 1


def test_objects_that_do_not_fit_into_one_answer_follow_when_asked_for() -> None:
    objects = {0: "V" * 100, 1: "P" * 100, 2: "1.0", 3: "U" * 200, 5: "M", 0x80: "own"}
    told: dict[int, str] = {}
    first, answers = 0, 0
    while True:
        answer = identification(bytes((43, 14, 3, first)), objects)
        assert len(answer) <= 253
        assert answer[:4] == bytes((43, 14, 3, 0x83))
        told |= parsed(answer)
        answers += 1
        if not answer[4]:
            break
        first = answer[5]
    assert (told, answers) == (objects, 2)
    assert parsed(identification(bytes((43, 14, 1, 0)), objects)).keys() == {0, 1, 2}
    assert parsed(identification(bytes((43, 14, 4, 5)), objects)) == {5: "M"}


def parsed(answer: bytes) -> dict[int, str]:
    objects, at = {}, 7
    for _ in range(answer[6]):
        objects[answer[at]] = answer[at + 2 : at + 2 + answer[at + 1]].decode()
        at += 2 + answer[at + 1]
    assert at == len(answer)
    return objects


@pytest.mark.parametrize(("request_", "code"), [((14, 4, 9), 2), ((14, 9, 0), 3), ((14, 1), 3), ((13, 1, 0), 1)])
async def test_who_asks_for_what_a_unit_does_not_have_gets_the_exceptions_of_the_standard(
    request_: tuple[int, ...], code: int, unit: Unit
) -> None:
    async with ModbusSimulator([unit, Unit("mute", 4, identity={})]) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        for number, wanted in ((3, code), (4, 1)):
            pdu = bytes((43, *request_))
            writer.write(struct.pack(">HHHB", 1, 0, len(pdu) + 1, number) + pdu)
            assert (await asyncio.wait_for(reader.readexactly(9), LIMIT_S))[7:] == bytes((0xAB, wanted))
        writer.close()


def test_the_crc_is_that_of_the_standards_example() -> None:
    assert sealed(bytes((2, 7))) == bytes((2, 7, 0x41, 0x12))


@given(st.binary(min_size=1, max_size=40), st.integers(0, 39))
def test_no_octets_make_the_serial_framing_fail_and_a_whole_request_is_taken_as_it_is(octets: bytes, cut: int) -> None:
    whole = sealed(READ_TWO)
    buffer = bytearray(whole + octets)
    taken = RTU.take(buffer)
    assert taken is not None
    assert (taken.unit, taken.pdu, taken.wire, bytes(buffer)) == (3, READ_TWO[1:], whole, octets)
    part = bytearray(whole[: cut % 8])
    assert RTU.take(part) is None
