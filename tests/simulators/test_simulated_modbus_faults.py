"""The Modbus simulator does wrong exactly what it is told to: a raw socket looks at every octet."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators import ModbusSimulator, PressUnit, Unit
from simulators.modbus_faults import WRONGS, Wrong
from simulators.modbus_pdu import pack_bits
from simulators.registers import encode

LIMIT_S = 20.0
SILENCE_S = 0.2


class Peer:
    """A client made of octets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int) -> Self:
        async with asyncio.timeout(LIMIT_S):
            return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, pdu: bytes, *, transaction: int = 1, unit: int = 3) -> None:
        self.writer.write(struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu)

    async def take(self, octets: int) -> bytes:
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.readexactly(octets)

    async def frame(self) -> tuple[int, int, bytes]:
        transaction, _, length, unit = struct.unpack(">HHHB", await self.take(7))
        return transaction, unit, await self.take(length - 1)

    async def ask(self, pdu: bytes, *, transaction: int = 1, unit: int = 3) -> tuple[int, int, bytes]:
        self.send(pdu, transaction=transaction, unit=unit)
        return await self.frame()

    async def is_closed(self) -> bool:
        async with asyncio.timeout(LIMIT_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def is_silent(self) -> bool:
        try:
            async with asyncio.timeout(SILENCE_S):
                await self.reader.readexactly(1)
        except TimeoutError:
            return True
        return False


READ_TWO = struct.pack(">BHH", 3, 0, 2)
GOOD = bytes((3, 4, 0, 10, 0, 11))


@pytest.fixture
def unit() -> Unit:
    return Unit("plain", 3, coils=[1] * 20, holdings=[10, 11, 12])


@pytest.fixture
async def simulator(unit: Unit) -> AsyncIterator[ModbusSimulator]:
    async with ModbusSimulator([unit, Unit("other", 4, holdings=[1, 2, 3])]) as simulator:
        yield simulator


@pytest.fixture
async def peer(simulator: ModbusSimulator) -> AsyncIterator[Peer]:
    peer = await Peer.connect(simulator.port)
    yield peer
    peer.writer.close()


@pytest.mark.parametrize(("kind", "answer"), [
    ("short", (1, 3, bytes((3, 2, 0, 10)))),
    ("long", (1, 3, bytes((3, 6, 0, 10, 0, 11, 0, 0)))),
    ("byte-count", (1, 3, bytes((3, 5, 0, 10, 0, 11)))),
    ("function", (1, 3, bytes((4, 4, 0, 10, 0, 11)))),
    ("transaction", (2, 3, GOOD)),
    ("unit", (1, 4, GOOD)),
])  # fmt: skip
async def test_a_wrong_answer_is_wrong_in_one_way_only(
    peer: Peer, unit: Unit, kind: Wrong, answer: tuple[int, int, bytes]
) -> None:
    unit.faults.wrong(kind, times=1)
    assert await peer.ask(READ_TWO) == answer
    assert await peer.ask(READ_TWO) == (1, 3, GOOD)


@pytest.mark.parametrize(("kind", "octets"), [
    ("check", struct.pack(">HHHB", 1, 1, 7, 3) + GOOD),
    ("noise", b"\xff\x00\xf8" + struct.pack(">HHHB", 1, 0, 7, 3) + GOOD),
    ("echo", struct.pack(">HHHB", 1, 0, 6, 3) + READ_TWO + struct.pack(">HHHB", 1, 0, 7, 3) + GOOD),
    ("twice", 2 * (struct.pack(">HHHB", 1, 0, 7, 3) + GOOD)),
    ("split", struct.pack(">HHHB", 1, 0, 7, 3) + GOOD),
])  # fmt: skip
async def test_what_stands_beside_a_frame_is_told_to_the_octet(
    peer: Peer, unit: Unit, kind: Wrong, octets: bytes
) -> None:
    unit.faults.wrong(kind, times=1)
    peer.send(READ_TWO)
    assert await peer.take(len(octets)) == octets
    assert await peer.ask(READ_TWO) == (1, 3, GOOD)


async def test_garbage_is_no_modbus_and_half_an_answer_ends_in_the_middle(peer: Peer, unit: Unit) -> None:
    unit.faults.wrong("garbage", times=1)
    peer.send(READ_TWO)
    assert await peer.take(20) == b"\xde\xad\xbe\xef" * 5
    unit.faults.wrong("half", times=1)
    peer.send(READ_TWO)
    assert await peer.take(6) == struct.pack(">HHH", 1, 0, 7)
    assert await peer.is_silent()


async def test_short_and_long_answers_of_coils_differ_by_eight(peer: Peer, unit: Unit) -> None:
    unit.faults.wrong("short", times=1)
    assert (await peer.ask(struct.pack(">BHH", 1, 0, 20)))[2] == bytes((1, 2, 255, 255))
    unit.faults.wrong("long", times=1)
    assert (await peer.ask(struct.pack(">BHH", 1, 0, 20)))[2] == bytes((1, 4, 255, 255, 15, 0))


async def test_an_exception_code_stays_until_it_is_cleared(peer: Peer, unit: Unit) -> None:
    unit.faults.exception(0x0B)
    for _ in range(3):
        assert (await peer.ask(READ_TWO))[2] == bytes((0x83, 0x0B))
    unit.faults.clear()
    assert (await peer.ask(READ_TWO))[2] == GOOD


async def test_a_refused_register_costs_only_the_requests_that_touch_it(peer: Peer, unit: Unit) -> None:
    unit.faults.refuse("holding", [2])
    assert (await peer.ask(struct.pack(">BHH", 3, 0, 3)))[2] == bytes((0x83, 2))
    assert (await peer.ask(READ_TWO))[2] == GOOD
    unit.faults.accept("holding", [2])
    assert (await peer.ask(struct.pack(">BHH", 3, 2, 1)))[2] == bytes((3, 2, 0, 12))


async def test_a_frozen_unit_never_answers_what_came_while_it_was_frozen(peer: Peer, unit: Unit) -> None:
    unit.faults.freeze()
    peer.send(READ_TWO, transaction=1)
    assert await peer.is_silent()
    assert (await peer.ask(READ_TWO, unit=4))[2] == bytes((3, 4, 0, 1, 0, 2)), "its neighbour goes on"
    unit.faults.resume()
    assert await peer.ask(READ_TWO, transaction=2) == (2, 3, GOOD)


async def test_a_request_that_came_while_frozen_is_not_answered_by_way_of_a_delay(peer: Peer, unit: Unit) -> None:
    unit.faults.delay(SILENCE_S)
    unit.faults.freeze()
    peer.send(READ_TWO, transaction=1)
    await peer.ask(READ_TWO, unit=4)
    unit.faults.resume()
    assert await peer.ask(READ_TWO, transaction=2) == (2, 3, GOOD)


async def test_a_frozen_endpoint_silences_all_units(peer: Peer, simulator: ModbusSimulator) -> None:
    simulator.faults.freeze()
    peer.send(READ_TWO, unit=3)
    peer.send(READ_TWO, unit=4)
    assert await peer.is_silent()
    assert simulator.requests == 2


async def test_a_delayed_answer_comes_late_under_its_own_transaction(peer: Peer, unit: Unit) -> None:
    unit.faults.delay(5 * SILENCE_S)
    peer.send(READ_TWO, transaction=7)
    assert await peer.is_silent()
    assert await peer.frame() == (7, 3, GOOD)


async def test_the_connection_is_closed_after_each_answer_if_told(peer: Peer, unit: Unit) -> None:
    unit.faults.close_after_answer()
    assert (await peer.ask(READ_TWO))[2] == GOOD
    assert await peer.is_closed()


async def test_a_stopped_endpoint_refuses_connections_and_starts_again_on_its_port(simulator: ModbusSimulator) -> None:
    port = simulator.port
    before = await Peer.connect(port)
    await before.ask(READ_TWO)
    await simulator.stop()
    assert await before.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await Peer.connect(port)
    await simulator.start()
    assert simulator.port == port
    assert (await (await Peer.connect(port)).ask(READ_TWO))[2] == GOOD


async def test_a_cut_closes_connections_and_goes_on_listening(peer: Peer, simulator: ModbusSimulator) -> None:
    await peer.ask(READ_TWO)
    simulator.cut()
    assert await peer.is_closed()
    assert (await (await Peer.connect(simulator.port)).ask(READ_TWO))[2] == GOOD
    assert simulator.connections == 2


async def test_a_broken_sensor_reads_nan_until_repaired() -> None:
    press = PressUnit()
    async with ModbusSimulator([press]) as simulator:
        peer = await Peer.connect(simulator.port)
        press.nan()
        press.step(0.1)
        assert math.isnan(struct.unpack(">f", (await peer.ask(struct.pack(">BHH", 3, 20, 2), unit=1))[2][2:])[0])
        press.nan(on=False)
        assert not math.isnan(struct.unpack(">f", (await peer.ask(struct.pack(">BHH", 3, 20, 2), unit=1))[2][2:])[0])


async def test_bad_text_is_not_utf8_until_put_right() -> None:
    press = PressUnit()
    async with ModbusSimulator([press]) as simulator:
        peer = await Peer.connect(simulator.port)
        press.bad_text()
        octets = (await peer.ask(struct.pack(">BHH", 4, 100, 8), unit=1))[2][2:]
        with pytest.raises(UnicodeDecodeError):
            octets.decode()
        press.bad_text(on=False)
        assert (await peer.ask(struct.pack(">BHH", 4, 100, 8), unit=1))[2][2:] == b"EG-PRESS-0000001"


@pytest.mark.parametrize("count", [0, 126, 65535])
async def test_an_impossible_count_is_exception_3(peer: Peer, count: int) -> None:
    assert (await peer.ask(struct.pack(">BHH", 3, 0, count)))[2] == bytes((0x83, 3))


async def test_a_request_of_wrong_length_is_exception_3(peer: Peer) -> None:
    assert (await peer.ask(struct.pack(">BH", 3, 0)))[2] == bytes((0x83, 3))


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">HHHB", 1, 0, 1, 3), struct.pack(">HHHB", 1, 1, 6, 3)]
)
async def test_what_is_not_modbus_closes_the_connection(peer: Peer, octets: bytes) -> None:
    peer.writer.write(octets)
    assert await peer.is_closed()


async def test_requests_cut_into_single_octets_or_sent_together_are_each_answered(peer: Peer) -> None:
    whole = struct.pack(">HHHB", 5, 0, 6, 3) + READ_TWO
    for octet in whole:
        peer.writer.write(bytes((octet,)))
        await peer.writer.drain()
    assert await peer.frame() == (5, 3, GOOD)
    peer.writer.write(whole + whole)
    assert [await peer.frame(), await peer.frame()] == [(5, 3, GOOD)] * 2


def test_every_wrong_way_has_a_name_that_the_control_channel_knows() -> None:
    of_the_answer = {"short", "long", "byte-count", "function", "transaction", "unit", "check"}
    assert set(WRONGS) == of_the_answer | {"garbage", "half", "noise", "echo", "twice", "split"}


@given(st.floats(width=32, allow_nan=False))
def test_the_four_byte_orders_of_a_float_hold_the_same_octets(value: float) -> None:
    a, b, c, d = struct.pack(">f", value)
    expected = {"ABCD": (a, b, c, d), "CDAB": (c, d, a, b), "BADC": (b, a, d, c), "DCBA": (d, c, b, a)}
    for order, octets in expected.items():
        assert struct.pack(">2H", *encode(value, "float32", order)) == bytes(octets)  # type: ignore[arg-type]


@given(st.lists(st.booleans(), max_size=60))
def test_packed_bits_are_least_significant_first(bits: list[bool]) -> None:
    octets = pack_bits(bits)
    assert len(octets) == (len(bits) + 7) // 8
    assert [bool(octets[i // 8] >> i % 8 & 1) for i in range(len(bits))] == bits
