"""`edge-gateway browse`: what an OPC UA server has, and the tags that a config would name it by."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from gateway.cli.read import device_named
from gateway.commissioning.refusal import section_of
from gateway.config import load
from gateway.control.client import reach
from gateway.drivers.base import Shared
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.tag import parse_node
from gateway.logs import printable

if TYPE_CHECKING:
    from gateway.drivers.opcua.exploring import Explorer
    from gateway.drivers.opcua.reading import OpcuaDriver

_OBJECTS: Final = "i=85"
_FIRST_LOOK: Final = 3
"""Levels of a tree that nobody asked to be deeper or narrower: a line's machines, their parts, and what these show."""
_PASSWORD: Final = "EDGE_GATEWAY_PASSWORD"  # noqa: S105 -- the name of a variable


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
@click.option("--depth", type=click.IntRange(1, 64), help="Levels below NODE. Default: all; a tree of everything: 3.")
@click.option("--tree", "form", flag_value="tree", help="Print a tree. Default on a terminal.")
@click.option("--list", "form", flag_value="list", help="Print a line a node, with tabs. Default into a file or pipe.")
@click.option("--yaml", "form", flag_value="yaml", help="Print variables as tags, to be pasted below `tags:`.")
@click.option("--json", "form", flag_value="json", help="Print a JSON object a node and line.")
@click.option("--direct", is_flag=True, help="Connect to the device, past a running gateway.")
@click.option("--insecure", is_flag=True, help="ENDPOINT without security (policy None).")
@click.option("--username", help=f"Log in; the password is asked for, or taken from {_PASSWORD}.")
@click.option("--pki-dir", type=click.Path(path_type=Path), help="Certificates for ENDPOINT.")
def browse(
    what: str, path: Path | None, form: str | None, direct: bool, insecure: bool,
    username: str | None, pki_dir: Path | None, **keys: Any,
) -> None:  # fmt: skip
    """Show the nodes of an OPC UA server: path, node id, value, type, unit and description.

    ENDPOINT is an address; DEVICE one of the config's, browsed through the running gateway's session if there is one.

    \b
    Example:
      edge-gateway browse opc.tcp://192.0.2.20:4840 --include "*.Speed" --yaml
      edge-gateway browse -c gateway.yaml robot-1 --depth 2
    """
    from gateway.cli.browse_show import Wanted, show

    form = form or ("tree" if sys.stdout.isatty() else "list")
    depth = keys["depth"] or (_FIRST_LOOK if form == "tree" and not keys["include"] else 64)
    wanted = Wanted(keys["start"], keys["include"], keys["exclude"], depth, form)
    if path is None:
        asyncio.run(show(wanted, _own(_section(what, insecure, username, pki_dir))))
        return
    if insecure or username or pki_dir:
        raise click.UsageError("--insecure, --username and --pki-dir go with an ENDPOINT; a config says all that.")
    asyncio.run(show(wanted, _of_config(path, what, direct)))


def _section(endpoint: str, insecure: bool, username: str | None, pki_dir: Path | None) -> OpcuaDevice:
    if not endpoint.startswith("opc.tcp:"):
        address = f" (such as opc.tcp://{printable(endpoint)})" if ":" in endpoint or "." in endpoint else ""
        text = f"{printable(endpoint)} is no opc.tcp:// address{address}; for a device give its config (-c)."
        raise click.UsageError(text)
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
