"""`edge-gateway plan`: the requests, the lines' time and the messages that a config leads to."""

import asyncio
import json
import sys
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gateway.cli.output import count
from gateway.cli.plan_opcua import not_known, server
from gateway.commissioning.forecast import DevicePlan, LinkPlan, Poll, document_of, forecast, links_of, planned
from gateway.commissioning.known import ask_gateway
from gateway.commissioning.traffic import DAY_S, MONTH_DAYS, NOTHING, Traffic
from gateway.config import load
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.logs import printable
from gateway.quantities import format_duration

_WIDTH_WITHOUT_TERMINAL: Final = 120
_ASSUMED: Final = (
    "Bus time is an estimate (a request on a network 5 ms, on a serial line by its characters and 10 ms of the "
    "device). Sent is MQTT's topic and payload, for values of usual length; TLS, TCP, metas and health come on top."
)


@click.command(epilog="Example: edge-gateway plan -c /etc/edge-gateway/gateway.yaml press-1")
@click.argument("devices", nargs=-1, metavar="[DEVICE…]")
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The config file.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(devices: tuple[str, ...], path: Path, as_json: bool) -> None:
    """Show what a config leads to, without connecting to any device.

    For each device: the blocks that are read, what of them no tag needs, the line's time they take, what another
    max_gap would save, and what is sent. For each line: how much of its time its devices need. For an OPC UA server:
    subscriptions, requests and limits; where the gateway runs, it is asked for the server's limits and the tags that
    `browse` took.
    """
    config = load(path, elsewhere=True)
    names = {device.name for device in config.devices}
    for name in devices:
        if name not in names:
            raise click.UsageError(f"the config has no device {printable(name)}.")
    servers = [section for section in planned(config, devices) if isinstance(section, OpcuaDevice)]
    known, why = asyncio.run(ask_gateway(config.control.socket, servers)) if servers else ({}, {})
    plans = forecast(config, devices, known)
    links = links_of(config, plans)
    if as_json:
        click.echo(json.dumps(_document(plans, links)))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    for part in _screen(plans, links):
        console.print(part, soft_wrap=isinstance(part, Text))
    click.echo(_ASSUMED, err=True)
    if note := not_known(plans, why):
        click.echo(note, err=True)


def _document(plans: Sequence[DevicePlan], links: Sequence[LinkPlan]) -> dict[str, Any]:
    return {
        "devices": [document_of(each) for each in plans],
        "links": [
            {
                "protocol": link.protocol, "address": link.address, "devices": link.devices,
                "load": round(link.load, 6),
            }
            for link in links
        ],
        "sent_at_most": sum((each.most for each in plans), NOTHING).document(),
        "sent_at_least": sum((each.least for each in plans), NOTHING).document(),
    }  # fmt: skip


def _screen(plans: Sequence[DevicePlan], links: Sequence[LinkPlan]) -> Iterator[RenderableType]:
    for alike in _alike(plans):
        yield from _device(alike)
        yield Text("")
    if links:
        yield _links(links)
    most = sum((each.most for each in plans), NOTHING)
    least = sum((each.least for each in plans), NOTHING)
    yield Text(f"sent in all: {_sent(most, least)}")


def _alike(plans: Sequence[DevicePlan]) -> list[list[DevicePlan]]:
    """Put devices together that differ in name and address only."""
    groups: dict[Hashable, list[DevicePlan]] = {}
    for each in plans:
        protocol = getattr(each.section, "protocol", "")
        alone = each.section.name if each.known is not None else ""
        key = (
            protocol,
            each.polls,
            each.outlook,
            each.saving,
            len(each.section.tags),
            round(each.most.bytes / 8),
            alone,
        )
        groups.setdefault(key, []).append(each)
    return list(groups.values())


def _device(alike: Sequence[DevicePlan]) -> Iterator[RenderableType]:
    first = alike[0]
    section = first.section
    others = f" and {len(alike) - 1} alike" if len(alike) > 1 else ""
    unit = f", unit {section.unit_id}" if isinstance(section, ModbusDevice) else ""
    protocol = getattr(section, "protocol", "")
    yield Text.assemble(
        (section.name, "bold"), f"{others}: {protocol} {section.address}{unit}, {count(len(section.tags), 'tag')}"
    )
    yield from map(Text, server(first))
    for poll in first.polls if isinstance(section, ModbusDevice) else ():
        yield from _poll(poll, sum(each.rate for each in first.polls))
    if first.models:
        yield Text("  what lies in SunSpec models is not in it: where they are, only the device knows")
    if first.saving is not None:
        saving = first.saving
        yield Text(
            f"  max_gap: {saving.max_gap} would save {count(saving.requests, 'request')} and {_time(saving.seconds)} "
            f"each time, and read {count(saving.registers, 'register')} more that no tag needs"
        )
    yield Text(f"  sent: {_sent(first.most, first.least)}")


def _poll(poll: Poll, polls_per_second: float) -> Iterator[RenderableType]:
    every = format_duration(round(1 / polls_per_second, 3))
    share = poll.rate / polls_per_second
    spare = sum(poll.unneeded)
    yield Text(
        f"  every {every}{'' if share > 0.999 else f', in {100 * share:.2g} % of the polls'}: "
        f"{count(len(poll.columns), 'tag')} in {count(len(poll.blocks), 'request')}, "
        f"{count(poll.registers, 'register')} of which {spare} not needed, {_time(poll.busy_s)} of the line's time"
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("    table", "start", "count", "tags", "not needed"):
        table.add_column(heading, justify="left" if heading == "    table" else "right")
    for block, unneeded in zip(poll.blocks, poll.unneeded, strict=True):
        table.add_row(
            f"    {block.table}", str(block.start), str(block.count), str(len(block.columns)), str(unneeded or "")
        )
    yield table


def _links(links: Sequence[LinkPlan]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("line", "devices"):
        table.add_column(heading, overflow="fold")
    for heading in ("busy", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for link in sorted(links, key=lambda link: -link.load):
        names = ", ".join(link.devices[:5]) + (f" and {len(link.devices) - 5} more" if len(link.devices) > 5 else "")
        note = Text("cannot keep up: raise intervals, or read fewer tags", "bold red") if link.load > 1 else Text("")
        table.add_row(f"{link.protocol} {link.address}", names, f"{100 * link.load:.1f} %", note)
    return table


def _sent(most: Traffic, least: Traffic) -> str:
    text = f"{_traffic(most)}"
    return text if least.bytes > 0.999 * most.bytes else f"{text}; if nothing changes {_traffic(least)}"


def _traffic(found: Traffic) -> str:
    day = found.bytes * DAY_S / 1e6
    return f"{found.messages * DAY_S:,.0f} messages and {_mb(day)} a day, {_mb(day * MONTH_DAYS)} a month"


def _mb(amount: float) -> str:
    return f"{amount / 1000:,.1f} GB" if amount >= 1000 else f"{amount:,.0f} MB" if amount >= 10 else f"{amount:.2g} MB"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
