"""The local endpoint over real sockets: who gets an answer, what is in it, and who is cut off."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import orjson
import pytest
import trustme
from fake_parts import FakeBuffer, FakeLevel, fake_parts

from gateway.config.local import HttpSection, HttpTls
from gateway.errors import GatewayError
from gateway.health.clients import MAX_CLIENTS
from gateway.health.http import Endpoint, serve
from gateway.secret import Secret

TIMEOUT_S = 30
LOCAL = HttpSection(listen="127.0.0.1:0")
FAILING = fake_parts(buffer=FakeBuffer(status=FakeLevel(writable=False)))


class Answer:
    """What came back: status, headers and body."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> dict[str, object]:
        return orjson.loads(self.body)


async def ask(
    endpoint: Endpoint, path: str, method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str
) -> Answer:
    async with asyncio.timeout(TIMEOUT_S), aiohttp.ClientSession() as client:
        url = endpoint.url.rstrip("/") + path
        async with client.request(method, url, headers=headers, ssl=tls or True) as response:
            return Answer(response.status, response.headers, await response.read())


async def exchange(endpoint: Endpoint, sent: bytes) -> bytes:
    """Send bytes on a connection of their own, and give everything that comes back until it ends."""
    host, _, port = endpoint.address.rpartition(":")
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()


async def flood(writer: asyncio.StreamWriter, sent: bytes) -> None:
    """Send the same again and again, and read nothing, until the other side ends the connection."""
    while True:
        writer.write(sent)
        await writer.drain()


async def test_live_ready_and_health_answer_while_all_is_well() -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        assert (await ask(endpoint, "/live")).json == {"live": True}
        assert (await ask(endpoint, "/ready")).json == {"ready": True}
        health = await ask(endpoint, "/health")
    assert (health.status, health.json["status"], health.json["gateway"]) == (200, "ok", "hall-3")
    assert health.headers["Content-Type"].startswith("application/json")


async def test_ready_says_no_until_the_config_is_applied_and_the_buffer_open() -> None:
    async with serve(LOCAL, fake_parts(ready=lambda: False)) as endpoint:
        assert (await ask(endpoint, "/ready")).status == 503
        assert (await ask(endpoint, "/live")).status == 200


async def test_health_answers_503_only_when_failing() -> None:
    async with serve(LOCAL, fake_parts(clock=lambda: False)) as endpoint:
        assert (await ask(endpoint, "/health")).status == 200
    async with serve(LOCAL, FAILING) as endpoint:
        health = await ask(endpoint, "/health")
    assert (health.status, health.json["status"]) == (503, "failing")


async def test_every_answer_forbids_what_a_browser_need_not_do() -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        for path in ("/", "/page.js", "/page.css", "/health", "/metrics", "/nothing"):
            headers = (await ask(endpoint, path)).headers
            assert headers["Content-Security-Policy"].startswith("default-src 'self'; ")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert "Python" not in headers["Server"]


async def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_code() -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        page, script, style = [(await ask(endpoint, path)).body.decode() for path in ("/", "/page.js", "/page.css")]
    assert "://" not in page + script + style
    assert "<style" not in page
    assert " style=" not in page
    assert page.count("<script") == page.count("<script src=")
    assert "innerHTML" not in script


async def test_what_does_not_exist_is_404_with_a_sentence() -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        answer = await ask(endpoint, "/../etc/passwd")
    assert answer.status == 404
    text = "There is nothing at this path; there are /, /live, /ready, /health, /metrics."
    assert answer.json == {"error": text}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_nothing_can_be_changed_here(method: str) -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        answer = await ask(endpoint, "/health", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.json == {"error": "Nothing can be changed here; use GET."}


async def test_head_gets_the_headers_alone() -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        answer = await ask(endpoint, "/health", "HEAD")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:8080", "[::1]", "[::1]:9999", "127.0.0.1:1"])
async def test_requests_that_name_this_machine_are_answered(host: str) -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        assert (await ask(endpoint, "/health", Host=host)).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:80:80", "evil.example:8080", "[::2]"]
)
async def test_a_page_from_elsewhere_cannot_read_by_dns_rebinding(host: str) -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        for path in ("/health", "/live", "/"):
            answer = await ask(endpoint, path, Host=host)
            assert (answer.status, list(answer.json)) == (403, ["error"])


async def test_a_second_host_header_does_not_get_past_the_check() -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        sent = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        status = (await exchange(endpoint, sent)).split(b" ", 2)[1]
    assert status in {b"400", b"403"}


async def test_with_a_token_only_live_and_ready_answer_without_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right horse\n")
    section = HttpSection(listen="127.0.0.1:0", token=Secret(file=tmp_path / "token"))
    async with serve(section, fake_parts()) as endpoint:
        for path in ("/", "/health", "/metrics", "/page.js", "/nothing"):
            answer = await ask(endpoint, path)
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        for path in ("/live", "/ready"):
            assert (await ask(endpoint, path)).status == 200
        assert (await ask(endpoint, "/health", Authorization="Bearer right horse")).status == 200
        assert (await ask(endpoint, "/health", Authorization="bearer right horse")).status == 200
        for wrong in ("Bearer wrong horse", "Bearer", "Basic right horse", "right horse", "Bearer rïght horse", ""):
            answer = await ask(endpoint, "/health", Authorization=wrong)
            assert answer.status == 401
            assert b"right horse" not in answer.body


async def test_an_empty_token_file_protects_nothing_and_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n")
    with pytest.raises(GatewayError, match="token is empty"):
        async with serve(HttpSection(listen="127.0.0.1:0", token=Secret(file=tmp_path / "token")), fake_parts()):
            pass


async def test_p9_an_address_that_others_reach_is_never_opened_without_tls_and_token() -> None:
    section = HttpSection.model_construct(listen="0.0.0.0:0", tls=None, token=None)
    with pytest.raises(GatewayError, match="can be reached from outside") as raised:
        async with serve(section, fake_parts()):
            pass
    assert raised.value.do == "Set http.tls and http.token, or listen at 127.0.0.1."


async def test_over_tls_the_endpoint_shows_its_certificate(tmp_path: Path) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost", "127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = HttpTls(cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem")
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    async with serve(HttpSection(listen="127.0.0.1:0", tls=tls), fake_parts()) as endpoint:
        assert endpoint.url.startswith("https://")
        assert (await ask(endpoint, "/health", tls=trusting)).status == 200
        assert await exchange(endpoint, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""


async def test_a_key_that_does_not_fit_its_certificate_is_one_sentence(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.issue_cert("localhost").cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    ca.issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    tls = HttpTls(cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem")
    with pytest.raises(GatewayError, match=r"cert\.pem and .*key\.pem are not a certificate and its key"):
        async with serve(HttpSection(listen="127.0.0.1:0", tls=tls), fake_parts()):
            pass


async def test_a_port_in_use_is_one_sentence_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(GatewayError) as raised:
            async with serve(HttpSection(listen=f"127.0.0.1:{port}"), fake_parts()):
                pass
    assert str(raised.value) == f"cannot listen at 127.0.0.1:{port}: another program uses this port"
    assert raised.value.do == "Stop that program, or set another port in http.listen."


async def test_the_port_is_free_again_once_the_context_is_left_and_open_clients_do_not_hold_it() -> None:
    async with asyncio.timeout(TIMEOUT_S):
        async with serve(LOCAL, fake_parts()) as endpoint:
            host, _, port = endpoint.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert await reader.read() is not None
        writer.close()
        async with serve(HttpSection(listen=endpoint.address), fake_parts()) as again:
            assert again.address == endpoint.address


async def test_an_error_of_the_body_leaves_the_context_as_it_is() -> None:
    with pytest.raises(GatewayError, match="from inside"):
        async with serve(LOCAL, fake_parts()):
            raise GatewayError("from inside")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"hello\r\n\r\n",
    ],
    ids=["long line", "long header", "tls", "not http"],
)
async def test_oversize_heads_and_what_is_not_http_are_refused(head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with serve(LOCAL, fake_parts()) as endpoint:
        assert (await exchange(endpoint, head)).startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
        assert (await ask(endpoint, "/live")).status == 200
    assert not caplog.records


@pytest.mark.parametrize("sent", [b"", b"GET /live HTT", b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\nGET /l"])
async def test_a_client_that_never_finishes_its_request_is_cut_off(sent: bytes) -> None:
    async with serve(LOCAL, fake_parts(), patience=0.3) as endpoint:
        await exchange(endpoint, sent)  # comes to its end only because the other side ends it
        assert (await ask(endpoint, "/live")).status == 200


async def test_a_client_that_drips_bytes_is_cut_off_all_the_same() -> None:
    async with asyncio.timeout(TIMEOUT_S), serve(LOCAL, fake_parts(), patience=0.3) as endpoint:
        host, _, port = endpoint.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        ended = asyncio.ensure_future(reader.read())
        writer.write(b"GET /live HTTP/1.1\r\n")
        while not ended.done():
            writer.write(b"X-Drip: 1\r\n")
            await asyncio.wait({ended}, timeout=0.05)
        writer.close()


async def test_a_client_that_does_not_take_its_answers_is_cut_off() -> None:
    async with asyncio.timeout(TIMEOUT_S), serve(LOCAL, fake_parts(), patience=0.3) as endpoint:
        host, _, port = endpoint.address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port), limit=1024)
        with pytest.raises(ConnectionError):
            await flood(writer, b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        assert (await ask(endpoint, "/live")).status == 200


async def test_more_clients_than_the_endpoint_takes_are_told_so() -> None:
    async with asyncio.timeout(TIMEOUT_S), serve(LOCAL, fake_parts()) as endpoint:
        host, _, port = endpoint.address.rpartition(":")
        idle = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_CLIENTS)]
        refused = await exchange(endpoint, b"")
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"Too many clients" in refused
        for _, writer in idle:
            writer.close()
