"""`edge-gateway browse`: what an OPC UA server has, and the tags that a config would name it by."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
import yaml
from rich.console import Console

from gateway.cli.output import shown
from gateway.cli.read import device_named
from gateway.commissioning.refusal import section_of
from gateway.config import load
from gateway.control.client import reach
from gateway.drivers.base import Shared
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.tag import parse_node
from gateway.logs import printable

if TYPE_CHECKING:
    from gateway.drivers.opcua.browse import Node
    from gateway.drivers.opcua.exploring import Explorer, View
    from gateway.drivers.opcua.reading import OpcuaDriver

_Write = Callable[["Node", "View | None"], str]
_OBJECTS: Final = "i=85"
_PASSWORD: Final = "EDGE_GATEWAY_PASSWORD"  # noqa: S105 -- the name of a variable
_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the server is shown, and how: `form` is list, yaml or json."""

    start: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    depth: int
    form: str


def _node(_context: click.Context, _option: click.Parameter, text: str) -> str:
    try:
        return parse_node(text)
    except ValueError as error:
        raise click.BadParameter(printable(str(error))) from error


@click.command()
@click.argument("what", metavar="ENDPOINT | DEVICE")
@click.option("-c", "--config", "path", type=click.Path(path_type=Path), help="The config that DEVICE is in.")
@click.option(
    "--from", "start", callback=_node, default=_OBJECTS, metavar="NODE", help="Begin below this node. Default: Objects."
)
@click.option("--include", multiple=True, metavar="GLOB", help='Only paths below NODE that match, such as "*.Speed".')
@click.option("--exclude", multiple=True, metavar="GLOB", help="Leave out paths that match, and what is below them.")
@click.option("--depth", type=click.IntRange(1, 64), default=64, help="Levels below NODE. Default: all.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print variables as tags for a config.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@click.option("--direct", is_flag=True, help="Connect to the device, past a running gateway.")
@click.option("--insecure", is_flag=True, help="ENDPOINT without security (policy None).")
@click.option("--username", help=f"Log in; the password is asked for, or taken from {_PASSWORD}.")
@click.option("--pki-dir", type=click.Path(path_type=Path), help="Certificates for ENDPOINT.")
def browse(
    what: str, path: Path | None, as_yaml: bool, as_json: bool, direct: bool, insecure: bool,
    username: str | None, pki_dir: Path | None, **keys: Any,
) -> None:  # fmt: skip
    """Show the nodes of an OPC UA server: path, node id, value, type, unit and description.

    ENDPOINT is an address; DEVICE one of the config's, browsed through the running gateway's session if there is one.

    \b
    Example:
      edge-gateway browse opc.tcp://192.0.2.20:4840 --include "*.Speed" --yaml
      edge-gateway browse -c gateway.yaml robot-1 --depth 2
    """
    if as_yaml and as_json:
        raise click.UsageError("give --yaml or --json, not both.")
    form = "yaml" if as_yaml else "json" if as_json else "list"
    wanted = Wanted(keys["start"], keys["include"], keys["exclude"], keys["depth"], form)
    if path is None:
        asyncio.run(_show(wanted, _own(_section(what, insecure, username, pki_dir))))
        return
    if insecure or username or pki_dir:
        raise click.UsageError("--insecure, --username and --pki-dir go with an ENDPOINT; a config says all that.")
    asyncio.run(_show(wanted, _of_config(path, what, direct)))


def _section(endpoint: str, insecure: bool, username: str | None, pki_dir: Path | None) -> OpcuaDevice:
    if not endpoint.startswith("opc.tcp:"):
        raise click.UsageError(f"{printable(endpoint)} is no opc.tcp:// address; for a device give its config (-c).")
    security: dict[str, Any] = {"policy": "None", "insecure": True} if insecure else {}
    if pki_dir is not None:
        security["pki_dir"] = str(pki_dir.absolute())
    device: dict[str, Any] = {"name": "browse", "protocol": "opcua", "endpoint": endpoint, "mode": "poll"}
    if username is not None:
        if _PASSWORD not in os.environ:
            os.environ[_PASSWORD] = click.prompt("Password", hide_input=True, err=True)
        device |= {"username": username, "password": {"env": _PASSWORD}}
    try:
        return section_of(OpcuaDevice, {**device, "security": security})
    except ValueError as error:
        raise click.UsageError(printable(str(error))) from error


@contextlib.asynccontextmanager
async def _own(section: OpcuaDevice) -> AsyncIterator["Explorer"]:
    """Open a session of our own; neither its tags nor its subtrees are of interest."""
    bare = section.model_copy(update={"tags": (), "browse": (), "mode": "poll"})
    async with bare.open(Shared("command")) as driver:
        yield cast("OpcuaDriver", driver).explorer


@contextlib.asynccontextmanager
async def _of_config(path: Path, name: str, direct: bool) -> AsyncIterator["Explorer"]:
    """Go through the running gateway's session; else open one."""
    from gateway.control.exploring import RemoteExplorer

    config = load(path, elsewhere=True)
    if not isinstance(device_named(config.devices, name), OpcuaDevice):
        raise click.UsageError(f"{printable(name)} is no OPC UA device.")
    if not direct:
        async with reach(config.control.socket) as daemon:
            if daemon is not None and any(device["name"] == name for device in daemon.devices):
                yield RemoteExplorer(daemon, name)
                return
    section = device_named(load(path).devices, name)
    async with _own(cast("OpcuaDevice", section)) as explorer:
        yield explorer


async def _show(wanted: Wanted, opening: contextlib.AbstractAsyncContextManager["Explorer"]) -> None:
    from gateway.drivers.opcua.browse import Bounds, Choice, Walk

    choice = Choice(wanted.include, wanted.exclude)
    forms: dict[str, _Write] = {"yaml": _Yaml(), "json": _json, "list": _line}
    write = forms[wanted.form]
    async with opening as explorer:
        with _progress() as tell:
            walk = Walk(explorer, wanted.start, bounds=Bounds(depth=wanted.depth), choice=choice, tell=tell)
            batch: list[Node] = []
            async for node in walk.nodes():
                if choice.takes(node.path) and (node.is_variable or wanted.form != "yaml"):
                    batch.append(node)
                if len(batch) == _AT_ONCE:
                    await _write(explorer, batch, write)
                    batch = []
            await _write(explorer, batch, write)


async def _write(explorer: "Explorer", nodes: list["Node"], write: "_Write") -> None:
    from gateway.drivers.opcua.exploring import UNIT

    variables = [node for node in nodes if node.is_variable]
    views = await explorer.look([(node.node, node.properties.get(UNIT, "")) for node in variables]) if variables else []
    view_of = dict(zip((node.node for node in variables), views, strict=True))
    for node in nodes:
        click.echo(write(node, view_of.get(node.node)))


def _line(node: "Node", view: "View | None") -> str:
    words = [printable(node.path), printable(node.node)]
    if view is not None:
        words.append(shown(view.value) if view.quality == "good" else printable(view.quality))
        words += [printable(text) for text in (view.type, view.unit, view.description) if text]
    if node.fault:
        words.append(f"({node.fault})")
    return "  ".join(words)


def _json(node: "Node", view: "View | None") -> str:
    found: dict[str, Any] = {"path": node.path, "node": node.node, "kind": "variable" if view else "object"}
    if view is not None:
        found |= view._asdict()
    return json.dumps(found, ensure_ascii=False)


class _Yaml:
    """Writes variables as tags with names of their own."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def __call__(self, node: "Node", view: "View | None") -> str:
        """Write one tag on one line."""
        from gateway.drivers.opcua.subtree import marked, named

        ((name, _),) = named([(node.path, node.node)])
        if name in self._names:
            name = marked(name, node.node)
        self._names.add(name)
        keys = {"name": name, "node": node.node}
        if view is not None and view.unit:
            keys["unit"] = view.unit
        text = yaml.safe_dump(keys, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1 << 20).strip()
        kind = f"  # {printable(view.type)}" if view is not None and view.type else ""
        return f"- {text}{kind}"


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Tell on a terminal how many nodes were met; how many there are nobody knows before the end."""
    if not sys.stderr.isatty():
        yield lambda _met: None
        return
    with Console(stderr=True).status("connected") as status:
        yield lambda met: status.update(f"{met} nodes met")
