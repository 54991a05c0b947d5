"""The local HTTP endpoint: `/live`, `/ready`, `/health`, `/metrics` and a small page for a person on site."""

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web

from gateway.config.local import HttpSection
from gateway.errors import GatewayError
from gateway.health.access import Access
from gateway.health.clients import PATIENCE_S, Clients
from gateway.health.lag import LoopLag, ticking
from gateway.health.parts import Parts
from gateway.health.report import Status, report
from gateway.hosts import join

SHUTDOWN_S: Final = 1.0
_HANDSHAKE_S: Final = 10.0
_METHODS: Final = ("GET", "HEAD")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "edge-gateway",
    "X-Content-Type-Options": "nosniff",
}
_PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The open endpoint. `address` is `host:port`, with the port that was really taken."""

    address: str
    scheme: str

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        return f"{self.scheme}://{self.address}/"


@asynccontextmanager
async def serve(section: HttpSection, parts: Parts, *, patience: float = PATIENCE_S) -> AsyncIterator[Endpoint]:
    """Answer requests for as long as the context is open. `patience` is what a slow client gets (seconds).

    Raises GatewayError on entry if the address cannot be taken, or the certificate or token cannot be used.
    """
    lag = LoopLag()
    clients = Clients(_Site(parts, Access.of(section), lag).answer, patience=patience)
    server = await _listen(section, clients)

    def tick(late_s: float) -> None:
        lag.note(late_s)
        clients.cut_off_the_slow()

    try:
        with ticking(tick):
            yield Endpoint(_address(server), "http" if section.tls is None else "https")
    finally:
        server.close()
        clients.server.pre_shutdown()
        await clients.server.shutdown(SHUTDOWN_S)


async def _listen(section: HttpSection, clients: Clients) -> asyncio.Server:
    context = _tls(section)
    handshake = None if context is None else _HANDSHAKE_S
    try:
        return await asyncio.get_running_loop().create_server(
            clients.accept, section.host, section.port, ssl=context, ssl_handshake_timeout=handshake
        )
    except OSError as error:
        raise _not_listening(section.listen, error) from error


def _not_listening(listen: str, error: OSError) -> GatewayError:
    match error.errno:
        case errno.EADDRINUSE:
            why, do = "another program uses this port", "Stop that program, or set another port in http.listen."
        case errno.EACCES:
            why, do = "this user may not open this port", "Set a port from 1024 up in http.listen."
        case _:
            why, do = (
                "this machine does not have this address",
                "Set one of its own, such as 127.0.0.1, in http.listen.",
            )
    return GatewayError(f"cannot listen at {listen}: {why}", do=do)


def _tls(section: HttpSection) -> ssl.SSLContext | None:
    if section.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(section.tls.cert_file, section.tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise GatewayError(
            f"http.tls: {section.tls.cert_file} and {section.tls.key_file} are not a certificate and its key",
            do="Give both as PEM files, the key without a passphrase.",
        ) from error
    return context


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return join(host, port)


class _Site:
    """What is at each path."""

    def __init__(self, parts: Parts, access: Access, lag: LoopLag) -> None:
        self._parts = parts
        self._access = access
        self._lag = lag
        self._page = _read_page()
        self._paths: Mapping[str, Callable[[], Awaitable[web.Response]]] = {
            "/live": self._live,
            "/ready": self._ready,
            "/health": self._health,
            "/metrics": self._metrics,
        }

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer one request; what is wrong with it is said in one sentence."""
        response = await self._respond(request)
        response.headers.update(_HEADERS)
        return response

    async def _respond(self, request: web.BaseRequest) -> web.Response:
        if (refusal := self._access.refuse(request.path, request.headers)) is not None:
            return _json({"error": refusal.text}, refusal.status, refusal.headers)
        if request.method not in _METHODS:
            return _json({"error": "Nothing can be changed here; use GET."}, 405, {"Allow": ", ".join(_METHODS)})
        if request.path in self._page:
            content, content_type = self._page[request.path]
            return web.Response(body=content, content_type=content_type, charset="utf-8")
        if request.path in self._paths:
            return await self._paths[request.path]()
        there = ", ".join(("/", *self._paths))
        return _json({"error": f"There is nothing at this path; there are {there}."}, 404)

    async def _live(self) -> web.Response:
        return _json({"live": True})

    async def _ready(self) -> web.Response:
        ready = self._parts.ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def _health(self) -> web.Response:
        health = report(self._parts)
        return _json(health, 503 if health["status"] == Status.FAILING else 200)

    async def _metrics(self) -> web.Response:
        text = await asyncio.to_thread(_render, report(self._parts), self._lag.worst_s)
        return web.Response(body=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def _render(health: Mapping[str, Any], loop_lag_s: float) -> bytes:
    # Imported with the first scrape, in this thread: 14 MB and 0.1 s that a gateway nobody scrapes does not pay.
    from gateway.health import metrics

    return metrics.render(health, loop_lag_s)


def _read_page() -> Mapping[str, tuple[bytes, str]]:
    folder = Path(__file__).parent / "page"
    return {path: ((folder / name).read_bytes(), content_type) for path, (name, content_type) in _PAGE.items()}


def _json(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    body = orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
