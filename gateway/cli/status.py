"""`edge-gateway status`: one screen from the running daemon, and an exit code for scripts."""

import http.client
import ssl
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.config import load
from gateway.config.local import HttpSection
from gateway.errors import GatewayError
from gateway.health.reasons import Status, spell_duration
from gateway.hosts import is_loopback, join
from gateway.logs import printable

_TIMEOUT_S: Final = 5.0
_MOST_BYTES: Final = 64 << 20
_WIDTH_WITHOUT_TERMINAL: Final = 120
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_COLOURS: Final = {"ok": "green", "connected": "green", "degraded": "yellow", "connecting": "yellow", "paused": "cyan"}

_READ: Final = frozenset({"ok", "degraded"})

Health = dict[str, Any]


@click.command(epilog="Example: edge-gateway status -c /etc/edge-gateway/gateway.yaml")
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The daemon's config.")
@click.option("--json", "as_json", is_flag=True, help="Print the health report as JSON.")
def status(path: Path, as_json: bool) -> None:
    """Show how the running gateway is.

    Exits with 0 if it is ok; with 1 if it is degraded, failing or not running; with 2 if the config is wrong.
    """
    health = ask(load(path, elsewhere=True).http)
    if as_json:
        click.echo(orjson.dumps(health, option=orjson.OPT_INDENT_2))
    else:
        _show(health)
    sys.exit(0 if health["status"] == Status.OK else 1)


def ask(section: HttpSection) -> Health:
    """Get the health report of the gateway that listens where the config says.

    Raises GatewayError if none does, it refuses our token, or it is not the one that holds the config's certificate.
    """
    host = _EVERYWHERE.get(section.host, section.host)
    place = join(host, section.port)
    headers = {} if section.token is None else {"Authorization": f"Bearer {section.token.reveal()}"}
    connection = _connection(section, host)
    try:
        connection.request("GET", "/health", headers=headers)
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise _no_answer(place, error) from error
    finally:
        connection.close()
    if response.status == http.client.UNAUTHORIZED:
        raise GatewayError(
            f"the gateway at {place} does not accept the token of http.token", do="Restart it if the token was changed."
        )
    return _parse(place, body)


def _connection(section: HttpSection, host: str) -> http.client.HTTPConnection:
    if section.tls is None:
        if section.token is not None and not is_loopback(host):
            raise GatewayError(f"the token would go to {host} in clear", do="Set http.tls.")
        return http.client.HTTPConnection(host, section.port, timeout=_TIMEOUT_S)
    # Not the name counts but the very certificate in the config: it is usually self-signed, or for another name.
    context = ssl.create_default_context(cafile=str(section.tls.cert_file))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return http.client.HTTPSConnection(host, section.port, timeout=_TIMEOUT_S, context=context)


def _no_answer(place: str, error: Exception) -> GatewayError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return GatewayError(
            f"what answers at {place} does not hold the certificate of http.tls.cert_file",
            do="Restart the gateway if the certificate was changed.",
        )
    return GatewayError(
        f"no gateway answers at {place}",
        do="Start it (systemctl start edge-gateway), or see why it stopped (journalctl -u edge-gateway).",
    )


def _parse(place: str, body: bytes) -> Health:
    try:
        health = orjson.loads(body)
    except orjson.JSONDecodeError:
        health = None
    if not isinstance(health, dict) or "status" not in health or "gateway" not in health:
        raise GatewayError(f"what answers at {place} is not an edge-gateway", do="Set another port in http.listen.")
    return health


def _show(health: Health) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    for part in screen(health):
        console.print(part)


def screen(health: Health) -> Iterable[RenderableType]:
    """Lay the report out for a terminal: what needs attention first, then the figures."""
    yield _headline(health)
    for reason in health["reasons"]:
        yield _text(f"• {reason['text']}")
        if reason["do"]:
            yield _text(f"  {reason['do']}", "dim")
    yield _devices(health["devices"])
    yield _broker(health["mqtt"])
    yield _buffer(health["buffer"])
    yield _ledger(health["ledger"])
    for certificate in health["certificates"]:
        yield _text(f"certificate {certificate['name']}: {certificate['days_left']} days left")


def _headline(health: Health) -> Text:
    clock = {True: "synchronised", False: "not synchronised", None: "unknown"}[health["clock"]["synchronised"]]
    rest = f"  {health['gateway']}, version {health['version']}, up {spell_duration(health['uptime_s'])}, clock {clock}"
    return Text.assemble(_state(health["status"]), _text(rest))


def _devices(devices: dict[str, Health]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("device", "state", "address"):
        table.add_column(heading, overflow="fold")
    for heading in ("tags good", "poll", "skipped", "last good value"):
        table.add_column(heading, justify="right")
    for name, device in devices.items():
        table.add_row(
            _text(name),
            _state(device["state"]),
            _text(device["address"]),
            _good(device),
            _poll(device["cycle_s"]),
            str(device["skipped_cycles"]),
            _instant(device["last_good_ms"]),
        )
    return table


def _good(device: Health) -> str:
    """Count the good tags; of a device that is not read now, nobody knows."""
    good = device["tags"] - device["bad_tags"] if device["state"] in _READ else "–"
    return f"{good}/{device['tags']}"


def _poll(cycle: Health) -> str:
    return "–" if cycle["last"] is None else f"{cycle['last']:.3g}/{cycle['interval']:.3g} s"


def _broker(mqtt: Health) -> Text:
    ack = (
        "no answer yet" if mqtt["last_ack_age_s"] is None else f"answered {spell_duration(mqtt['last_ack_age_s'])} ago"
    )
    tls = "TLS" if mqtt["tls"] else "not encrypted"
    counts = f"{mqtt['published']} published, {mqtt['rejected']} refused, {mqtt['unmatched']} without subscriber"
    return Text.assemble("broker  ", _state(mqtt["state"]), _text(f"  {mqtt['address']}, {tls}, {ack}; {counts}"))


def _buffer(buffer: Health) -> Text:
    used = f"{buffer['bytes'] / 2**20:.1f} of {buffer['max_bytes'] / 2**20:.0f} MiB"
    waiting = "nothing waits"
    if buffer["pending_readings"]:
        oldest = spell_duration(buffer["oldest_age_s"])
        waiting = f"{buffer['pending_readings']} readings wait, the oldest for {oldest}"
    full = "" if buffer["full_in_s"] is None else f", full in {spell_duration(buffer['full_in_s'])}"
    state = Text("writable", "green") if buffer["writable"] else Text("not writable", "bold red")
    return Text.assemble("buffer  ", state, f"  {waiting}; {used}{full}")


def _ledger(ledger: Health) -> Text:
    return Text("ledger  " + ", ".join(f"{count} {name}" for name, count in ledger.items()))


def _state(state: str) -> Text:
    return _text(state, _COLOURS.get(state, "bold red"))


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def _instant(ms: int | None) -> str:
    return "never" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
