"""What comes over the wire is the answer to what was asked, or it is no answer; a dead connection is found at once."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from modbus_peer import Request, client_socket, closed_port, device, link_to, open_files, serving, within

from gateway.drivers.base import Shared
from gateway.drivers.modbus.connection import Answer, WrongAnswer
from gateway.drivers.modbus.link import ModbusLink, shared_link
from gateway.errors import DeviceError

SHORT_S = 0.3
"""For requests that are to time out: those that are answered get far more."""


async def read(link: ModbusLink, start: int = 0, count: int = 2, **keys: Any) -> Answer:
    return await within(
        link.read(keys.pop("unit", 1), keys.pop("table", "holding"), start, count, timeout=keys.pop("timeout", 20.0))
    )


def registers(answer: Answer) -> list[int]:
    return list(struct.unpack(f">{len(answer.payload) // 2}H", answer.payload))


def undecodable_function(request: Request) -> bytes:
    return request.frame(b"\x41\x00\x00")


WRONG: dict[str, Callable[[Request], bytes]] = {
    "a register too few": lambda r: r.frame(bytes((3, 2, 0, 7))),
    "a register too many": lambda r: r.good(7, 7, 7),
    "no register": lambda r: r.frame(b"\x03\x00"),
    "a byte count that says more than there is": lambda r: r.frame(bytes((3, 6, 0, 7, 0, 7))),
    "a byte count that says less than there is": lambda r: r.frame(bytes((3, 2, 0, 7, 0, 7))),
    "less than the byte count says": lambda r: r.frame(bytes((3, 4, 0, 7))),
    "more than the byte count says": lambda r: r.frame(bytes((3, 4, 0, 7, 0, 7, 0, 7))),
    "input registers for holding registers": lambda r: r.frame(bytes((4, 4, 0, 7, 0, 7))),
    "coils for holding registers": lambda r: r.frame(bytes((1, 1, 7))),
    "a function that nobody knows": undecodable_function,
    "an exception to another function": lambda r: r.frame(b"\x84\x02"),
    "an exception without a code": lambda r: r.frame(b"\x83"),
    "an exception with too much": lambda r: r.frame(b"\x83\x02\x00"),
    "function zero": lambda r: r.frame(b"\x00\x04\x00\x07\x00\x07"),
    "exception to function zero": lambda r: r.frame(b"\x80\x02"),
    "another unit": lambda r: r.good(7, 7, unit=9),
    "transaction zero": lambda r: r.good(7, 7, transaction=0),
    "a transaction of the future": lambda r: r.good(7, 7, transaction=r.transaction + 1),
    "another protocol": lambda r: r.good(7, 7, protocol=1),
    "an absurd length": lambda r: struct.pack(">HHHBB", r.transaction, 0, 0xFFFF, 1, 3),
    "a web server": lambda r: b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_p5_a_wrong_answer_is_never_a_value_and_ends_the_connection(wrong: Callable[[Request], bytes]) -> None:
    async with serving(lambda request: request.send(wrong(request))) as peer:
        link = link_to(peer.port)
        with pytest.raises(WrongAnswer, match=rf"127.0.0.1:{peer.port} \w+"):
            await read(link)
        await within(peer.closed.wait())
        peer.script = lambda request: request.send(request.good())
        assert registers(await read(link, 40)) == [40, 41]
        assert peer.connections == 2
        link.close()


async def test_p5_a_late_frame_that_announces_more_than_there_can_be_ends_the_connection_at_once() -> None:
    async with serving() as peer:
        link = link_to(peer.port)
        await read(link)
        peer.script = lambda request: request.send(
            struct.pack(">HHHBB", peer.requests[0].transaction, 0, 0xFFFF, 1, 3) + request.good()
        )
        with pytest.raises(WrongAnswer, match="does not speak Modbus TCP"):
            await read(link)
        link.close()


async def test_p5_unit_zero_does_not_take_the_answer_of_another_unit() -> None:
    async with serving(lambda request: request.send(request.good(7, 7, unit=1))) as peer:
        link = link_to(peer.port)
        with pytest.raises(WrongAnswer, match="unit 1 instead of 0"):
            await read(link, unit=0)
        link.close()


async def test_an_exception_is_an_answer_and_keeps_the_connection() -> None:
    async with serving(lambda request: request.send(request.refused(2))) as peer:
        link = link_to(peer.port)
        assert [(await read(link)).refusal for _ in range(3)] == [2, 2, 2]
        assert peer.connections == 1
        link.close()


@pytest.mark.parametrize(
    ("table", "function", "body"),
    [
        ("coil", 1, b"\x01\x05"),
        ("discrete", 2, b"\x01\x05"),
        ("holding", 3, b"\x06abcdef"),
        ("input", 4, b"\x06abcdef"),
    ],
)
async def test_p10_each_table_is_read_with_its_own_function_code(table: str, function: int, body: bytes) -> None:
    async with serving(lambda request: request.send(request.frame(bytes((request.function,)) + body))) as peer:
        link = link_to(peer.port)
        assert (await read(link, 5, 3, table=table)).payload == body[1:]
        assert (peer.requests[0].function, peer.requests[0].start, peer.requests[0].count) == (function, 5, 3)
        link.close()


async def test_an_answer_in_pieces_is_put_together() -> None:
    loop = asyncio.get_running_loop()

    def dribble(request: Request) -> None:
        for at, byte in enumerate(request.good()):
            loop.call_later(0.005 * at, request.send, bytes((byte,)))

    async with serving(dribble) as peer:
        link = link_to(peer.port)
        assert registers(await read(link, 10)) == [10, 11]
        assert peer.connections == 1
        link.close()


async def test_p5_a_late_answer_is_never_taken_for_the_next_one() -> None:
    """The answers to two requests that timed out come in one piece with that to a third."""
    held: list[bytes] = []
    async with serving(lambda request: held.append(request.good())) as peer:
        link = link_to(peer.port)
        with pytest.raises(TimeoutError):
            await read(link, 1000, 125, timeout=SHORT_S)
        peer.script = lambda request: request.send(held[0] + request.good())
        assert registers(await read(link, 2000, 125)) == list(range(2000, 2125))
        assert peer.connections == 1
        link.close()


async def test_p5_a_late_answer_between_two_requests_is_dropped() -> None:
    async with serving(lambda request: None) as peer:
        link = link_to(peer.port)
        with pytest.raises(TimeoutError):
            await read(link, 1000, timeout=SHORT_S)
        peer.requests[0].send(peer.requests[0].good())
        peer.script = lambda request: request.send(request.good())
        assert registers(await read(link, 5)) == [5, 6]
        assert registers(await read(link, 8)) == [8, 9]
        link.close()


async def test_p5_half_an_answer_is_never_completed_by_the_next_one() -> None:
    async with serving(lambda request: request.send(request.good()[:9])) as peer:
        link = link_to(peer.port)
        with pytest.raises(TimeoutError):
            await read(link, 1000, timeout=SHORT_S)
        peer.script = lambda request: request.send(request.good())
        assert registers(await read(link, 5)) == [5, 6]
        assert peer.connections == 2
        link.close()


async def test_p5_after_a_cancelled_request_the_next_one_gets_its_own_answer() -> None:
    async with serving(lambda request: None) as peer, asyncio.TaskGroup() as group:
        link = link_to(peer.port)
        asked = group.create_task(read(link, 1000), name="asked")
        await peer.asked(1)
        asked.cancel()
        peer.script = lambda request: request.send(peer.requests[0].good() + request.good())
        assert registers(await read(link, 5)) == [5, 6]
        assert asked.cancelled()
        assert peer.connections == 1
        link.close()


async def test_a_reset_fails_the_request_at_once() -> None:
    async with serving(Request.reset) as peer:
        link = link_to(peer.port)
        with pytest.raises(DeviceError, match="closed the connection") as lost:
            await read(link, timeout=3600.0)
        assert lost.value.reason == "connection-lost"
        assert len(peer.requests) == 1
        peer.script = lambda request: request.send(request.good())
        assert registers(await read(link)) == [0, 1]
        link.close()


async def test_a_close_in_the_middle_of_an_answer_fails_the_request_at_once() -> None:
    def half_and_close(request: Request) -> None:
        request.send(request.good()[:8])
        request.writer.close()

    async with serving(half_and_close) as peer:
        link = link_to(peer.port)
        with pytest.raises(DeviceError, match="closed the connection"):
            await read(link, timeout=3600.0)
        link.close()


async def test_closing_the_link_fails_the_request_in_flight_at_once_and_for_good() -> None:
    async with serving() as peer, asyncio.TaskGroup() as group:
        link = link_to(peer.port)
        await read(link)
        peer.script = lambda request: None

        async def ask() -> str:
            with pytest.raises(DeviceError) as lost:
                await read(link, timeout=3600.0)
            return lost.value.reason

        asked = group.create_task(ask(), name="asked")
        await peer.asked(2)
        link.close()
        assert await within(asked) == "connection-lost"
        assert peer.connections == 1


async def test_a_peer_that_closes_after_each_answer_is_connected_anew_for_the_next() -> None:
    def answer_and_close(request: Request) -> None:
        request.send(request.good())
        request.writer.close()

    async with serving(answer_and_close) as peer:
        link = link_to(peer.port)
        for turn in range(3):
            assert registers(await read(link, turn)) == [turn, turn + 1]
        assert peer.connections == 3
        link.close()


async def test_a_connection_that_served_well_and_is_lost_in_flight_is_tried_anew_once_and_no_more() -> None:
    async with serving() as peer:
        link = link_to(peer.port)
        await read(link)
        peer.script = Request.reset
        with pytest.raises(DeviceError, match="closed the connection"):
            await read(link, timeout=3600.0)
        assert (len(peer.requests), peer.connections) == (3, 2)
        link.close()


async def test_a_silent_peer_is_given_up_after_two_requests_in_a_row() -> None:
    async with serving(lambda request: None) as peer:
        link = link_to(peer.port)
        for _ in range(2):
            assert not peer.closed.is_set()
            with pytest.raises(TimeoutError):
                await read(link, timeout=SHORT_S)
        await within(peer.closed.wait())
        peer.script = lambda request: request.send(request.good())
        assert registers(await read(link)) == [0, 1]
        assert peer.connections == 2
        link.close()


async def test_p6_a_silent_unit_does_not_cost_its_neighbour_the_connection() -> None:
    async with serving(lambda request: request.unit == 2 and request.send(request.good())) as peer:
        link = link_to(peer.port)
        for turn in range(3):
            with pytest.raises(TimeoutError):
                await read(link, unit=1, timeout=SHORT_S)
            assert registers(await read(link, turn, unit=2)) == [turn, turn + 1]
        assert peer.connections == 1
        link.close()


async def test_one_request_is_in_flight_at_a_time_and_of_live_units_the_first_to_ask_is_served_first() -> None:
    unanswered: list[Request] = []
    most = 0
    loop = asyncio.get_running_loop()

    def answer_later(request: Request) -> None:
        nonlocal most
        unanswered.append(request)
        most = max(most, len(unanswered))
        loop.call_later(0.005, lambda: request.send(unanswered.pop().good()))

    async with serving(answer_later) as peer:
        link = link_to(peer.port)
        for unit in range(3):
            await read(link, unit=unit)
        answers = await asyncio.gather(*(read(link, start, unit=start % 3) for start in range(30)))
        assert [registers(answer) for answer in answers] == [[start, start + 1] for start in range(30)]
        assert [request.start for request in peer.requests[3:]] == list(range(30))
        assert (most, peer.connections) == (1, 1)
        link.close()


async def test_a_request_waits_for_the_delay_after_the_answer_before_it() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def note(request: Request) -> None:
        times.append(loop.time())
        request.send(request.good())

    async with serving(note) as peer:
        link = link_to(peer.port)
        for _ in range(4):
            await within(link.read(1, "holding", 0, 1, timeout=20.0, delay=0.05))
        assert min(after - before for before, after in itertools.pairwise(times)) >= 0.049
        link.close()


async def test_a_refused_connection_says_so_and_what_to_do() -> None:
    with closed_port() as port:
        link = link_to(port)
        with pytest.raises(DeviceError, match=f"^127.0.0.1:{port} refuses the connection$") as refused:
            await read(link)
    assert refused.value.reason == "connection-lost"
    assert "port" in refused.value.do


async def test_a_host_name_that_nobody_knows_is_a_lost_connection() -> None:
    with pytest.raises(DeviceError, match=r"not known|does not answer") as unknown:
        await within(link_to(502, host="plc.invalid").connect(timeout=10.0))
    assert unknown.value.reason == "connection-lost"


@contextlib.contextmanager
def swallowing_port() -> Iterator[int]:
    """Give a port that neither accepts nor refuses: one connection fills its backlog, further SYNs are dropped."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):
            yield full.getsockname()[1]


async def test_a_host_that_swallows_packets_does_not_answer() -> None:
    with swallowing_port() as port, pytest.raises(DeviceError, match=r"does not answer$") as silent:
        await within(link_to(port).connect(timeout=SHORT_S))
    assert silent.value.reason == "connection-lost"


async def test_the_last_user_closes_the_shared_link() -> None:
    shared = Shared("hall-3")
    async with serving() as peer:
        with shared_link(shared, device(peer.port, [])) as first:
            with shared_link(shared, device(peer.port, [])) as second:
                assert first is second
                await read(second)
            assert registers(await read(first)) == [0, 1]
            assert not peer.closed.is_set()
        await within(peer.closed.wait())
    assert peer.connections == 1


async def test_the_socket_finds_a_vanished_peer_by_itself_and_sends_at_once() -> None:
    async with serving() as peer:
        link = link_to(peer.port)
        await within(link.connect(timeout=20.0))
        with client_socket(peer.port) as ours:
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert 0 < ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
            assert 0 < ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000
        link.close()


async def refused_open() -> None:
    with closed_port() as port, shared_link(Shared("hall-3"), device(port, [])) as link, pytest.raises(DeviceError):
        await within(link.connect(timeout=20.0))


async def reset_read(port: int) -> None:
    with shared_link(Shared("hall-3"), device(port, [])) as link, pytest.raises(DeviceError):
        await read(link)


async def abandoned_open(port: int) -> None:
    with shared_link(Shared("hall-3"), device(port, [])) as link, pytest.raises(TimeoutError):
        await asyncio.wait_for(link.connect(timeout=20.0), timeout=0.001)


async def test_two_hundred_failed_opens_leak_no_socket_and_no_task() -> None:
    with swallowing_port() as swallowing:
        async with serving(Request.reset) as peer:
            before, tasks = open_files(), asyncio.all_tasks()
            for _ in range(200):
                await refused_open()
                await reset_read(peer.port)
                await abandoned_open(swallowing)
            await within(peer.idle())
            assert asyncio.all_tasks() == tasks
            assert open_files() <= before
