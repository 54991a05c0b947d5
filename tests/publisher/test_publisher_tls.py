"""TLS to the broker: nothing goes to a peer that does not verify, on the first connect or any later one."""

import asyncio
import datetime
import socket
from pathlib import Path

import pytest
import trustme

from gateway.model import MqttState
from tests.broker import Broker, free_port
from tests.publisher.line import Line, meta, sample, samples, section

PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2090, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


async def test_a_broker_of_another_ca_is_refused(tmp_path: Path) -> None:
    """P9."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with Broker(tmp_path / "broker") as broker:
        error = await Line(section(broker, tls={"ca_file": str(other)})).failure()
    assert error.state is MqttState.CERTIFICATE_ERROR
    assert f"not signed by a trusted CA ({other})" in str(error)
    assert "mqtt.tls.ca_file" in error.do


async def test_a_broker_under_another_name_is_refused(tmp_path: Path) -> None:
    """P9."""
    authority = trustme.CA()
    leaf = authority.issue_cert("broker.example.com")
    with Broker(tmp_path / "broker", authority=authority, certificate=leaf) as broker:
        error = await Line(section(broker)).failure()
    assert error.state is MqttState.CERTIFICATE_ERROR
    assert str(error) == f"the certificate of localhost:{broker.port} is for broker.example.com, not for localhost"


@pytest.mark.parametrize(
    ("since", "until", "says"),
    [
        (PAST - DAY, PAST, "expired on 2020-01-01 00:00 UTC"),
        (FUTURE, FUTURE + DAY, "is not valid before 2090-01-01 00:00 UTC"),
    ],
)
async def test_a_broker_with_a_certificate_of_another_time_is_refused(
    tmp_path: Path, since: datetime.datetime, until: datetime.datetime, says: str
) -> None:
    """P9."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", not_before=since, not_after=until)
    with Broker(tmp_path / "broker", authority=authority, certificate=leaf) as broker:
        error = await Line(section(broker)).failure()
    assert error.state is MqttState.CERTIFICATE_ERROR
    assert says in str(error)
    assert "clock" in error.do


async def test_a_certificate_that_goes_bad_is_refused_on_the_reconnect(tmp_path: Path) -> None:
    """P9: a later connect verifies like the first."""
    authority = trustme.CA()
    with Broker(tmp_path / "broker", authority=authority) as broker:
        line = Line(section(broker))
        async with line.running():
            await line.until(MqttState.CONNECTED)
            broker.stop()
            broker.use_certificate(trustme.CA().issue_cert("localhost"))
            broker.start()
            line.rows.put(meta(), sample(1))
            await line.until(MqttState.CERTIFICATE_ERROR)
            assert line.rows.acknowledged == []
            broker.stop()
            broker.use_certificate(authority.issue_cert("localhost"))
            broker.start()
            await line.until(MqttState.CONNECTED)
            await line.rows.until_empty()


async def test_rotated_files_are_used_on_the_next_connect(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        line = Line(section(broker))
        async with line.running():
            await line.until(MqttState.CONNECTED)
            new = trustme.CA()
            broker.stop()
            broker.use_certificate(new.issue_cert("localhost"))
            new.cert_pem.write_to_path(broker.ca_file)
            broker.start()
            line.rows.put(meta(), sample(1))
            await line.rows.until_empty()


async def test_nothing_is_said_in_clear_to_a_peer_that_does_not_speak_tls(tmp_path: Path) -> None:
    """P9: all that a plain listener ever gets is the start of a TLS handshake."""
    got = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read(4096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await Line(section(_ca_only(tmp_path, port))).failure()
    assert "does not speak TLS" in str(error)
    assert got[0] == 0x16, "a TLS handshake record (RFC 8446 section 5.1)"
    assert b"MQTT" not in got


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker", client_certificates=True) as broker:
        certificate, key = broker.client_certificate("hall-3")
        mine = {"cert_file": certificate, "key_file": key}
        consumer = await broker.subscribe(**mine)
        line = Line(section(broker, tls={name: str(path) for name, path in mine.items()}))
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.rows.until_empty()
            await consumer.until(lambda _: samples(consumer.messages))


async def test_a_missing_client_certificate_is_named(tmp_path: Path) -> None:
    """Under TLS 1.3 the handshake succeeds first, and only an alert tells (RFC 8446 section 4.4.2.4)."""
    with Broker(tmp_path / "broker", client_certificates=True) as broker:
        error = await Line(section(broker)).failure()
    assert "client certificate" in f"{error} {error.do}"
    assert "mqtt.tls.cert_file" in error.do


async def test_an_expired_client_certificate_is_named(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker", client_certificates=True) as broker:
        certificate, key = broker.client_certificate("hall-3", not_before=PAST - DAY, not_after=PAST)
        tls = {"cert_file": str(certificate), "key_file": str(key)}
        error = await Line(section(broker, tls=tls)).failure()
    assert error.state is MqttState.CERTIFICATE_ERROR
    assert "expired" in str(error)
    assert "valid until 2020-01-01 00:00 UTC" in error.do


async def test_files_that_hold_no_certificate_are_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    with Broker(tmp_path / "broker") as broker:
        ca = await Line(section(broker, tls={"ca_file": str(empty)})).failure()
        own = await Line(section(broker, tls={"cert_file": str(empty), "key_file": str(empty)})).failure()
    assert str(empty) in str(ca)
    assert str(empty) in str(own)
    assert {ca.state, own.state} == {MqttState.CERTIFICATE_ERROR}


async def test_a_key_with_a_pass_phrase_asks_nobody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    with Broker(tmp_path / "broker") as broker:
        certificate, key = broker.client_certificate("hall-3")
        private = serialization.load_pem_private_key(key.read_bytes(), None)
        locked = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        key.write_bytes(locked)
        error = await Line(section(broker, tls={"cert_file": str(certificate), "key_file": str(key)})).failure()
    assert error.state is MqttState.CERTIFICATE_ERROR
    assert "no pass phrase" in error.do


async def test_plaintext_is_spoken_only_when_the_config_says_so(tmp_path: Path) -> None:
    with Broker(tmp_path / "broker", plain=True) as broker:
        consumer = await broker.subscribe()
        line = Line(section(broker))
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.rows.until_empty()
            await consumer.until(lambda _: samples(consumer.messages))
    assert not line.component.tls


async def test_a_broker_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    error = await Line(section(_ca_only(tmp_path, free_port()))).failure()
    assert error.state is MqttState.UNREACHABLE
    assert "refuses connections" in str(error)


async def test_a_name_that_cannot_be_resolved_is_unreachable(tmp_path: Path) -> None:
    error = await Line(section(_ca_only(tmp_path, 8883), host="broker.invalid")).failure()
    assert error.state is MqttState.UNREACHABLE
    assert str(error) == "the name broker.invalid cannot be resolved"


async def test_a_wrong_password_is_an_authentication_error(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("wrong\n")
    (tmp_path / "users").write_text("")
    settings = f"password_file {tmp_path}/users\nallow_anonymous false"
    with Broker(tmp_path / "broker", settings=settings) as broker:
        login = {"username": "hall-3", "password": {"file": str(tmp_path / "secret")}}
        for protocol in (5, "3.1.1"):
            error = await Line(section(broker, protocol=protocol, **login)).failure()
            assert error.state is MqttState.AUTH_ERROR
            assert "refuses the login" in str(error)
            assert "wrong" not in f"{error}{error.do}"


async def test_a_cancelled_connect_leaves_no_connection_behind(tmp_path: Path) -> None:
    """Nor does one that times out: such a peer takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        line = Line(section(_ca_only(tmp_path, silent.getsockname()[1])))
        attempt = asyncio.ensure_future(line.publisher.run_session())
        peer, _ = await asyncio.to_thread(silent.accept)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        with peer:
            peer.settimeout(30)
            peer.sendall(b"\x15\x03\x03\x00\x02\x02\x28")  # an alert ends the handshake, which a thread still waits in
            while await asyncio.to_thread(peer.recv, 4096):
                pass


class _ca_only:  # noqa: N801 -- stands for a Broker
    """What `section` needs of a broker, for a port on which there is none."""

    kind, plain, host = "mosquitto", False, "localhost"

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.ca_file = folder / "ca.pem"
        trustme.CA().cert_pem.write_to_path(self.ca_file)
