"""The demo's picture: a live table on a terminal, a line a second elsewhere."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from gateway.demo.consumer import Consumer, Received

_COLOURS = {"ok": "green", "connected": "green", "degraded": "yellow", "connecting": "yellow"}
_SHOWN_VALUES = 4


def picture(consumer: Consumer, page: str, seconds: float) -> Group:
    """Draw what the broker received, and below it what the gateway says of itself."""
    table = Table(title=f"Received at the broker, over TLS, after {seconds:.0f} s", title_justify="left", expand=True)
    for heading in ("device", "state", "samples", "readings", "missing", "twice", "gaps", "age"):
        table.add_column(heading, justify="left" if heading in ("device", "state") else "right", no_wrap=True)
    table.add_column("some values", no_wrap=True, overflow="ellipsis", ratio=1)
    for name, received in sorted(consumer.devices.items()):
        table.add_row(
            name, _coloured(received.state), f"{received.samples:,}", f"{received.readings:,}",
            str(received.missing), str(received.duplicates), str(received.gaps), _age(received), _values(received),
        )  # fmt: skip
    return Group(table, Text(_gateway(consumer.health)), Text(f"Page: {page}   Ctrl-C ends it all", style="bold"))


def line(consumer: Consumer, seconds: float) -> str:
    """Say the same in one line."""
    parts = [
        f"{name}: {received.state}, {received.samples} samples, {received.readings} readings, "
        f"{received.missing} missing, age {_age(received)}"
        for name, received in sorted(consumer.devices.items())
    ]
    return f"{seconds:4.0f} s  " + ("; ".join(parts) or "nothing received yet")


def _coloured(state: str) -> Text:
    return Text(state, style=_COLOURS.get(state, "red"))


def _age(received: Received) -> str:
    return "-" if received.age_s is None else f"{received.age_s:.1f} s"


def _values(received: Received) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in list(received.values.items())[:_SHOWN_VALUES])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _gateway(health: dict[str, Any]) -> str:
    if not health:
        return "The gateway has not reported yet."
    buffer, ledger = health["buffer"], health["ledger"]
    return (
        f"Gateway {health['gateway']}: {health['status']}, broker {health['mqtt']['state']}, "
        f"{buffer['pending_readings']} readings wait in the buffer; ledger: {ledger['sampled']:,} sampled = "
        f"{ledger['acked']:,} acked + {ledger['suppressed']:,} suppressed + {ledger['pending']:,} pending + "
        f"{ledger['dropped']:,} dropped, {ledger['unaccounted']} unaccounted"
    )
