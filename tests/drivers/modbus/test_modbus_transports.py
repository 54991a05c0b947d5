"""UDP, TLS, and a device's addresses: each way to a PLC says why it failed, and none gives a value that is not one."""

import asyncio
import concurrent.futures
import contextlib
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from modbus_lines import Datagram, Secured, link_of, over_udp, secured_link
from modbus_peer import Request, client_socket, closed_port, device, link_to, serving, within

from gateway.drivers.modbus.connection import WrongAnswer
from gateway.drivers.modbus.link import ModbusLink
from gateway.drivers.modbus.section import ModbusTcpDevice, ModbusUdpDevice
from gateway.errors import DeviceError
from gateway.model import DeviceState

SHORT_S = 0.2


async def read(link: ModbusLink, start: int = 0, count: int = 2, timeout: float = 20.0, unit: int = 1) -> list[int]:
    payload = (await within(link.read(unit, "holding", start, count, timeout=timeout))).payload
    return [int.from_bytes(payload[at : at + 2]) for at in range(0, len(payload), 2)]


# UDP


async def test_registers_are_read_in_datagrams() -> None:
    async with over_udp() as (peer, link):
        assert await read(link, 40, 125) == list(range(40, 165))
        assert [(asked.start, asked.count) for asked in peer.asked] == [(40, 125)]


async def test_p5_a_datagram_that_comes_late_or_twice_is_never_taken_for_the_next_answer() -> None:
    held: list[Datagram] = []
    async with over_udp(held.append) as (peer, link):
        with pytest.raises(TimeoutError):
            await read(link, 1000, timeout=SHORT_S)

        def late_and_twice(asked: Datagram) -> None:
            for answer in (held[0].good(), asked.good(), asked.good()):
                asked.answer(answer)

        peer.script = late_and_twice
        for start in range(5):
            assert await read(link, start) == [start, start + 1]


WRONG: dict[str, Callable[[Datagram], bytes]] = {
    "half a frame": lambda asked: asked.good()[:-1],
    "a frame and a half": lambda asked: asked.good() + asked.good()[:4],
    "another unit": lambda asked: asked.good(unit=9),
    "a transaction of the future": lambda asked: asked.good(transaction=asked.transaction % 0xFFFF + 1),
    "a register too few": lambda asked: asked.good(1),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_p5_a_wrong_datagram_is_never_a_value(wrong: Callable[[Datagram], bytes]) -> None:
    async with over_udp(lambda asked: asked.answer(wrong(asked))) as (peer, link):
        with pytest.raises(WrongAnswer, match=r"127.0.0.1:\d+ \w+"):
            await read(link, 5)
        peer.script = lambda asked: asked.answer(asked.good())
        assert await read(link, 8) == [8, 9]


async def test_nobody_at_a_udp_port_is_found_at_once_and_comes_back() -> None:
    with closed_udp_port() as port:
        link = link_of(ModbusUdpDevice, host="127.0.0.1", port=port)
        with pytest.raises(DeviceError, match=f"nobody listens at 127.0.0.1:{port}") as refused:
            await read(link, timeout=3600.0)
        assert "UDP" in refused.value.do
    async with over_udp(port=port):
        assert await within(until_read(link)) == [0, 1]
    link.close()


@contextlib.contextmanager
def closed_udp_port() -> Iterator[int]:
    """Give a UDP port on which nobody listens."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    yield port


async def until_read(link: ModbusLink) -> list[int]:
    """Try again and again, as the supervisor does."""
    while True:
        try:
            return await read(link)
        except DeviceError:
            await asyncio.sleep(0.05)


# TLS


async def test_p9_registers_are_read_from_a_plc_that_is_verified_and_verifies_us(tmp_path: Path) -> None:
    async with Secured(tmp_path).serving() as server:
        link = secured_link(server)
        assert await read(link, 40, 125) == list(range(40, 165))
        assert server.versions <= {"TLSv1.2", "TLSv1.3"}
        link.close()


async def test_p9_a_certificate_for_another_name_is_refused_unless_that_name_is_configured(tmp_path: Path) -> None:
    async with Secured(tmp_path, "plc-1.example.com").serving() as server:
        error = await certificate_error(secured_link(server))
        assert "not for 127.0.0.1" in str(error)
        assert "tls.server_name" in error.do
        link = secured_link(server, server_name="plc-1.example.com")
        assert await read(link) == [0, 1]
        link.close()


async def test_p9_a_certificate_of_a_stranger_is_refused(tmp_path: Path) -> None:
    async with Secured(tmp_path).serving() as server:
        stranger = tmp_path / "other.pem"
        server.client_authority.cert_pem.write_to_path(stranger)
        error = await certificate_error(secured_link(server, ca_file=str(stranger)))
        assert "not signed by a trusted CA" in str(error)
        assert "tls.ca_file" in error.do


async def test_p9_a_certificate_that_has_expired_is_refused(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    async with Secured(tmp_path, not_before=past - timedelta(days=9), not_after=past).serving() as server:
        error = await certificate_error(secured_link(server))
        assert "expired" in str(error)
        assert "clock" in error.do


async def test_a_plc_that_does_not_trust_our_certificate_says_so_though_it_let_us_connect(tmp_path: Path) -> None:
    """In TLS 1.3 the server checks the client's certificate after the client is through."""
    secured = Secured(tmp_path)
    secured.write_client(secured.authority.issue_cert("gateway"))
    with distrustful(secured):
        link = secured_link(secured)
        await within(link.connect(5.0))
        await within(gone(link))
        error = await certificate_error(link)
    assert "does not trust the CA of the client certificate" in str(error)
    assert "tls.cert_file" in error.do


@contextlib.contextmanager
def distrustful(server: Secured) -> Iterator[None]:
    """Serve TLS with OpenSSL on sockets: asyncio's own server closes without saying what it did not like."""
    context = server.context()
    with socket.create_server(("127.0.0.1", 0)) as listening, concurrent.futures.ThreadPoolExecutor(1) as thread:
        server.port = listening.getsockname()[1]

        def refuse() -> None:
            with contextlib.suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True):
                pass

        refused = thread.submit(refuse)
        yield
        refused.result(timeout=30)


async def test_certificates_are_read_anew_for_every_connection(tmp_path: Path) -> None:
    async with Secured(tmp_path).serving() as server:
        server.write_client(server.authority.issue_cert("gateway"))
        link = secured_link(server)
        with pytest.raises(DeviceError) as refused:
            await read(link, timeout=5.0)
        assert "client certificate" in refused.value.do
        server.write_client(server.client_authority.issue_cert("gateway"))
        assert await within(until_read(link)) == [0, 1]
        link.close()


async def test_a_key_that_is_not_the_certificates_says_so(tmp_path: Path) -> None:
    async with Secured(tmp_path).serving() as server:
        server.client_authority.issue_cert("other").private_key_pem.write_to_path(tmp_path / "client.key")
        error = await certificate_error(secured_link(server))
        assert "client.pem" in str(error)
        assert "belong together" in error.do


async def test_a_plc_without_tls_says_so(tmp_path: Path) -> None:
    secured = Secured(tmp_path)
    plain = await asyncio.start_server(speak_in_clear, "127.0.0.1", 0)
    secured.port = plain.sockets[0].getsockname()[1]
    with pytest.raises(DeviceError, match="does not speak TLS") as wrong:
        await within(secured_link(secured).connect(5.0))
    assert "802" in wrong.value.do
    plain.close()
    await plain.wait_closed()


async def speak_in_clear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(100)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


async def certificate_error(link: ModbusLink) -> DeviceError:
    """Connect and read until that fails, and expect the certificate to be the reason."""
    with pytest.raises(DeviceError) as failed:
        await read(link, timeout=5.0)
    link.close()
    assert failed.value.state is DeviceState.CERTIFICATE_ERROR
    assert failed.value.reason == "connection-lost"
    return failed.value


# Several addresses of one device, and endpoints that are dead


def several(*ports: int, **keys: object) -> ModbusLink:
    hosts = [f"127.0.0.1:{port}" for port in ports]
    section = {"name": "press-1", "protocol": "modbus-tcp", "hosts": hosts, "tags": [], **keys}
    return ModbusLink(ModbusTcpDevice.model_validate(section))


async def test_the_second_address_is_taken_where_the_first_is_dead_and_the_first_again_when_it_is_back() -> None:
    async with serving() as second:
        with closed_port() as dead:
            link = several(dead, second.port)
            assert await read(link) == [0, 1]
            assert second.connections == 1
        first = await asyncio.start_server(second.serve, "127.0.0.1", dead)
        assert await read(link) == [0, 1]
        assert second.connections == 1, "one connection, and no change without need"
        second.requests[-1].reset()
        await within(gone(link))
        assert await read(link) == [0, 1]
        peers = {request.writer.get_extra_info("sockname")[1] for request in second.requests[-1:]}
        assert peers == {dead}, "each new connection begins with the preferred address"
        link.close()
        second.requests[-1].writer.transport.abort()
        first.close()
        await first.wait_closed()


async def gone(link: ModbusLink) -> None:
    while link.is_open:
        await asyncio.sleep(0.01)


async def test_an_address_that_takes_connections_but_never_answers_is_left_for_the_next() -> None:
    async with serving(lambda request: None) as standby, serving() as active:
        link = several(standby.port, active.port)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await read(link, timeout=SHORT_S)
        assert await read(link) == [0, 1]
        assert (standby.connections, active.connections) == (1, 1)
        link.close()


async def test_where_no_address_leads_anywhere_all_are_named() -> None:
    with closed_port() as first, closed_port() as second:
        with pytest.raises(DeviceError, match=f"{first} refuses.*{second} refuses") as dead:
            await within(several(first, second).connect(1.0))
        assert dead.value.reason == "connection-lost"


async def test_a_dead_endpoint_does_not_make_its_units_silent_ones() -> None:
    """When it is back, they are all asked at once, and not one after the other in pauses."""
    with closed_port() as port:
        link = link_to(port)
        for unit in (1, 2, 1, 2, 1, 2):
            with pytest.raises(DeviceError):
                await read(link, unit=unit)
    assert {unit.misses for unit in link._turns.units.values()} == {0}


async def test_fifty_devices_at_a_dead_endpoint_do_not_hammer_it() -> None:
    """Who comes after a failure gets the same error at once, for a while that grows."""
    connections = 0

    def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.transport.abort()

    server = await asyncio.start_server(count, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = link_to(port)

    async def try_on(until: float) -> None:
        while asyncio.get_running_loop().time() < until:
            with contextlib.suppress(DeviceError):
                await link.read(1, "holding", 0, 1, timeout=1.0)
            await asyncio.sleep(0.01)

    until = asyncio.get_running_loop().time() + 1.0
    await within(asyncio.gather(*(try_on(until) for _ in range(50))))
    assert 2 <= connections <= 8
    link.close()
    server.close()
    await server.wait_closed()


# Devices that need to be treated with care


async def test_a_device_that_needs_a_pause_after_connecting_gets_it_even_if_somebody_gave_up_waiting() -> None:
    loop = asyncio.get_running_loop()
    times: list[float] = []

    def note(request: Request) -> None:
        times.append(loop.time())
        request.send(request.good())

    async with serving(note) as peer:
        section = device(peer.port, [], connect_delay="300ms")
        link = ModbusLink(section)
        link.join(section)
        began = loop.time()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(link.connect(20.0), 0.1)
        assert await read(link) == [0, 1]
        assert await read(link) == [0, 1]
        assert times[0] - began >= 0.299
        assert peer.connections == 1
        link.leave(section)


async def test_after_a_cycle_the_connection_is_closed_where_others_need_it_but_not_under_a_neighbours_poll() -> None:
    async with serving() as peer:
        section = device(peer.port, [], close_after_cycle=True)
        link = ModbusLink(section)
        link.join(section)
        for turn in range(3):
            await read(link, unit=1)
            await read(link, unit=2)
            link.rest(1)
            assert link.is_open, "unit 2 is in the middle of its poll"
            link.rest(2)
            assert not link.is_open
            assert peer.connections == turn + 1
        link.leave(section)


async def test_a_peer_that_vanishes_is_noticed_within_two_timeouts() -> None:
    """The kernel gives a connection up whose bytes nobody acknowledges for so long (TCP_USER_TIMEOUT, tcp(7))."""
    async with serving() as peer:
        section = device(peer.port, [], timeout="1500ms")
        link = ModbusLink(section)
        link.join(section)
        await within(link.connect(1.5))
        with client_socket(peer.port) as ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        link.leave(section)


async def test_p6_dead_units_do_not_cost_the_connection_on_which_others_answer() -> None:
    async with serving(lambda request: request.unit == 1 and request.send(request.good())) as peer:
        link = link_to(peer.port)
        await read(link, unit=1)
        for unit in (2, 3, 4):
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await read(link, unit=unit, timeout=0.05)
        assert peer.connections == 1
        link.close()


async def test_when_all_fall_silent_the_connection_is_given_up_after_two_requests() -> None:
    async with serving() as peer:
        link = link_to(peer.port)
        for unit in (1, 2, 3):
            await read(link, unit=unit)
        peer.script = lambda request: None
        for unit in (1, 2):
            with pytest.raises(TimeoutError):
                await read(link, unit=unit, timeout=0.05)
        await within(peer.closed.wait())
        link.close()


async def test_a_plc_that_takes_one_client_only_is_given_its_own_connection_back() -> None:
    """It refuses a second connection while it has not noticed the end of the first."""
    async with serving() as peer:
        link = link_to(peer.port)
        assert await read(link) == [0, 1]
        peer.requests[-1].writer.close()
        await within(gone(link))
        assert await read(link) == [0, 1]
        assert peer.connections == 2
        link.close()


async def test_a_unit_is_identified_and_one_that_cannot_be_says_why() -> None:
    plate = bytes.fromhex("2B 0E 01 01 00 00 01") + b"\x00\x04ACME"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(asked := await reader.read(11)) == 11:
            pdu = plate if asked[6] == 1 else b"\xab\x01"
            writer.write(asked[:4] + (len(pdu) + 1).to_bytes(2) + asked[6:7] + pdu)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = link_to(server.sockets[0].getsockname()[1])
    assert await within(link.identify(1, timeout=20.0)) == {0: "ACME"}
    assert await within(link.identify(2, timeout=20.0)) == 1
    link.close()
    server.close()
    await server.wait_closed()
