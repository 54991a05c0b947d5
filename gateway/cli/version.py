"""`edge-gateway version`: this program's version, and those of what it runs on."""

import json
import platform
import sqlite3
import ssl
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import click

from gateway.version import VERSION

_LIBRARIES = (
    "aiohttp",
    "aiomqtt",
    "asyncua",
    "cryptography",
    "orjson",
    "paho-mqtt",
    "pydantic",
    "pyserial",
    "zstandard",
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def version(as_json: bool) -> None:
    """Print the versions of edge-gateway and of what it runs on.

    \b
    Example:
      edge-gateway version --json
    """
    versions = {"edge-gateway": VERSION, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    versions["openssl"] = ssl.OPENSSL_VERSION.split()[1]
    for library in _LIBRARIES:
        try:
            versions[library] = installed_version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    if as_json:
        click.echo(json.dumps(versions))
    else:
        for name, number in versions.items():
            click.echo(f"{name:14}{number}")
