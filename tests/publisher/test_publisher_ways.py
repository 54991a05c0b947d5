"""Ways out of the plant: WebSocket, HTTP proxy, ALPN, several brokers; TLS is verified on each of them."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.config.mqtt import MqttSection
from gateway.model import MqttState
from tests.broker import Broker, free_port, require_mosquitto
from tests.publisher.connect_proxy import ConnectProxy
from tests.publisher.line import Line, meta, sample, samples, section


class WithWebSocket(Broker):
    """A mosquitto with a second listener, which takes MQTT in WebSockets over TLS."""

    def __init__(self, folder: Path, **options: Any) -> None:
        require_mosquitto()
        self.websocket_port = free_port()
        pem = folder / "server.pem"
        listener = f"listener {self.websocket_port}\nprotocol websockets\ncertfile {pem}\nkeyfile {pem}"
        super().__init__(folder, settings=listener, **options)


async def deliver(line: Line, broker: Broker) -> None:
    """See one reading arrive that was stored during the connection."""
    consumer = await broker.subscribe()
    async with line.running():
        await line.until(MqttState.CONNECTED)
        line.rows.put(meta(), sample(7))
        await line.rows.until_empty()
        await consumer.until(lambda _: samples(consumer.messages))


async def test_mqtt_goes_through_a_websocket_over_tls(tmp_path: Path) -> None:
    with WithWebSocket(tmp_path / "broker") as broker:
        await deliver(Line(section(broker, port=broker.websocket_port, transport="websocket")), broker)


async def test_many_large_messages_go_through_a_websocket_whole_and_in_order(tmp_path: Path) -> None:
    with WithWebSocket(tmp_path / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        text = meta(names=("text",), codes=("j",))
        line = Line(section(broker, port=broker.websocket_port, transport="websocket"), metas=[text])
        for count in range(600):
            line.rows.put(text, sample(f"{count}-" + "x" * 8000))
        async with line.running():
            await line.rows.until_empty()
            await consumer.until(lambda _: len(samples(consumer.messages)) == 600)
    assert [one["seq"] for one in samples(consumer.messages)] == list(range(1, 601))


async def test_a_websocket_to_a_broker_of_another_ca_is_refused(tmp_path: Path) -> None:
    """P9."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with WithWebSocket(tmp_path / "broker") as broker:
        way: dict[str, Any] = {"port": broker.websocket_port, "transport": "websocket"}
        error = await Line(section(broker, tls={"ca_file": str(other)}, **way)).failure()
    assert error.state is MqttState.CERTIFICATE_ERROR


async def test_a_path_without_a_websocket_is_said(tmp_path: Path) -> None:
    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n")

    async with listening(listen, tmp_path) as keys:
        error = await Line(plain(transport="websocket", websocket_path="/wrong", **keys)).failure()
    assert str(error) == f"127.0.0.1:{keys['port']} answers 404 Not Found to /wrong: there is no WebSocket"
    assert "mqtt.websocket_path" in error.do


async def test_mqtt_goes_through_a_proxy_that_wants_a_login_and_reads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P9: what passes the proxy is TLS with the broker. The broker's name is the proxy's to resolve."""
    monkeypatch.setenv("PROXY_PASSWORD", "s3cret:word")
    authority = trustme.CA()
    leaf = authority.issue_cert("broker.plant.invalid", "localhost")
    with Broker(tmp_path / "broker", authority=authority, certificate=leaf) as broker:
        async with ConnectProxy(login="hall:s3cret:word") as proxy:
            proxy.names["broker.plant.invalid"] = "127.0.0.1"
            password = {"env": "PROXY_PASSWORD"}
            keys = {"host": "127.0.0.1", "port": proxy.port, "username": "hall", "password": password}
            await deliver(Line(section(broker, host="broker.plant.invalid", proxy=keys)), broker)
    assert proxy.requests[0].startswith(f"CONNECT broker.plant.invalid:{broker.port} HTTP/1.1\r\n")
    assert proxy.passed[0] == 0x16, "a TLS handshake record (RFC 8446 section 5.1)"
    assert b"MQTT" not in proxy.passed


async def test_a_websocket_goes_through_a_proxy(tmp_path: Path) -> None:
    with WithWebSocket(tmp_path / "broker") as broker:
        async with ConnectProxy() as proxy:
            keys = {"host": "127.0.0.1", "port": proxy.port}
            line = Line(section(broker, port=broker.websocket_port, transport="websocket", proxy=keys))
            await deliver(line, broker)
    assert len(proxy.requests) == 1


async def test_a_proxy_does_not_make_a_wrong_certificate_right(tmp_path: Path) -> None:
    """P9."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with Broker(tmp_path / "broker") as broker:
        async with ConnectProxy() as proxy:
            keys = {"host": "127.0.0.1", "port": proxy.port}
            error = await Line(section(broker, tls={"ca_file": str(other)}, proxy=keys)).failure()
    assert error.state is MqttState.CERTIFICATE_ERROR


@pytest.mark.parametrize(
    ("proxy", "says", "do"),
    [
        (ConnectProxy(login="a:b"), "answers 407 Proxy Authentication Required: it wants a login", "mqtt.proxy.user"),
        (ConnectProxy(status="403 Forbidden"), "it does not let us to localhost:", "owner"),
        (ConnectProxy(status="502 Bad Gateway"), "answers 502 Bad Gateway to the wish for localhost:", "mqtt.host"),
    ],
)
async def test_a_proxy_that_refuses_is_named_with_what_it_said(
    tmp_path: Path, proxy: ConnectProxy, says: str, do: str
) -> None:
    async with proxy:
        keys = {"host": "127.0.0.1", "port": proxy.port}
        error = await Line(plain(host="localhost", port=free_port(), proxy=keys)).failure()
    assert says in str(error)
    assert do in error.do


async def test_a_proxy_that_is_not_there_is_not_taken_for_the_broker() -> None:
    port = free_port()
    error = await Line(plain(host="localhost", proxy={"host": "127.0.0.1", "port": port})).failure()
    assert str(error) == f"the proxy 127.0.0.1:{port} refuses connections"


async def test_alpn_names_the_protocol_to_the_broker(tmp_path: Path) -> None:
    """AWS IoT tells MQTT from HTTPS on port 443 by it."""
    heard: list[str | None] = []

    async def listen(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        writer.close()

    async with listening(listen, tmp_path, alpn="x-amzn-mqtt-ca") as keys:
        tls = {"ca_file": str(tmp_path / "ca.pem"), "alpn": "x-amzn-mqtt-ca"}
        await Line(plain(**keys | {"tls": tls})).failure()
    assert heard == ["x-amzn-mqtt-ca"]


async def test_the_next_broker_takes_over_and_the_first_is_asked_first_again(tmp_path: Path) -> None:
    """`hosts`, one at a time; nothing is lost on the way."""
    authority = trustme.CA()
    with Broker(tmp_path / "a", authority=authority) as first, Broker(tmp_path / "b", authority=authority) as second:
        at_first, at_second = await first.subscribe("#"), await second.subscribe("#")
        line = Line(section(first, host=None, hosts=[f"localhost:{first.port}", f"localhost:{second.port}"]))
        async with line.running():
            await line.until(MqttState.CONNECTED)
            assert line.component.address == f"localhost:{first.port}"
            line.rows.put(meta(), sample(1))
            await at_first.until(lambda messages: len(samples(messages)) == 1)
            first.kill()
            line.rows.put(meta(), sample(2))
            await at_second.until(lambda messages: len(samples(messages)) == 1)
            assert line.component.address == f"localhost:{second.port}"
            first.start()
            await at_first.subscribed(2)
            second.kill()
            line.rows.put(meta(), sample(3))
            await at_first.until(lambda messages: len(samples(messages)) == 2)
            await line.rows.until_empty()
    told = [one["seq"] for one in samples(at_first.messages)] + [one["seq"] for one in samples(at_second.messages)]
    assert sorted(set(told)) == [1, 2, 3]


async def test_it_goes_back_to_the_preferred_broker_when_that_can_be_reached_and_verified_again(tmp_path: Path) -> None:
    """Politely: no last will goes out, and nothing is lost. One under a certificate of others is none (P9)."""
    authority = trustme.CA()
    with Broker(tmp_path / "a", authority=authority) as first, Broker(tmp_path / "b", authority=authority) as second:
        first.stop()
        at_second = await second.subscribe("#")
        hosts = [f"localhost:{first.port}", f"localhost:{second.port}"]
        line = Line(section(first, host=None, hosts=hosts), options={"first_look": 0.3})
        async with line.running():
            await line.until(MqttState.CONNECTED)
            assert line.component.address == f"localhost:{second.port}"
            first.use_certificate(trustme.CA().issue_cert("localhost"))
            first.start()
            # It is looked at, and not trusted.
            await asyncio.to_thread(first.wait_for_log, "alert", "error")
            line.rows.put(meta(), sample(1))
            await at_second.until(lambda messages: len(samples(messages)) == 1)
            assert len({json.loads(one.payload)["session"] for one in at_second.on("/status")}) == 1, "it stayed"
            first.stop()
            first.use_certificate(authority.issue_cert("localhost"))
            first.start()
            at_first = await first.subscribe("#")
            await at_first.until(lambda messages: any(one.topic.endswith("/status") for one in messages))
            line.rows.put(meta(), sample(2))
            await at_first.until(samples)
            await line.rows.until_empty()
            assert line.component.address == f"localhost:{first.port}"
        reasons = [json.loads(one.payload).get("reason") for one in at_second.on("/status")]
    assert reasons[-1] == "stopped"
    assert "lost" not in reasons


def plain(**keys: Any) -> MqttSection:
    """A `mqtt` section; without `tls` it is in clear."""
    return MqttSection.model_validate({"tls": {"insecure_plaintext": True}} | keys)


@contextlib.asynccontextmanager
async def listening(listen: Any, folder: Path, *, alpn: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """Serve TCP, or TLS where there is an ALPN protocol to choose; gives host and port."""
    context = None
    if alpn is not None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        context.set_alpn_protocols([alpn])
    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=context)
    async with server:
        yield {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]}
