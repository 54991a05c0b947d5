"""How an OPC UA server is configured."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.checked import Checked, Fault, later
from gateway.drivers.base import ALIKE, DeviceSection, Driver, Shared
from gateway.drivers.opcua.security.section import Security
from gateway.drivers.opcua.subtree import Subtree
from gateway.drivers.opcua.tag import OpcuaTag
from gateway.hosts import join, parse_host
from gateway.secret import Secret

DEFAULT_PORT: Final = 4840


def parse_endpoint(text: str) -> str:
    """Check an endpoint's address. Raises ValueError with a sentence that repeats no password."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("must be an address such as opc.tcp://192.0.2.20:4840") from None
    if "@" in parts.netloc:
        raise ValueError("write user and password in the keys username and password, not in the endpoint")
    if parts.scheme != "opc.tcp" or not parts.hostname or port == 0:
        raise ValueError("must be an address such as opc.tcp://192.0.2.20:4840")
    parse_host(parts.hostname)
    return text


def _as_list(value: object) -> object:
    if isinstance(value, Mapping):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class OpcuaDevice(Checked, DeviceSection):
    """A device that is an OPC UA server, or stands behind one."""

    protocol: Literal["opcua"]
    endpoint: Annotated[
        str, AfterValidator(parse_endpoint), WithJsonSchema({"type": "string", "pattern": r"^opc\.tcp://"})
    ] = Field(description="the server's address, opc.tcp://host:port/path")
    mode: Literal["subscribe", "poll"] = Field(
        default="subscribe", description="subscribe: the server reports changes; poll: the gateway reads"
    )
    timestamp: Literal["source", "server", "gateway"] = Field(default="source", description="whose clock is `ts`")
    timezone: Annotated[str | None, later("set the PLC's clock to UTC, or write timestamp: gateway")] = Field(
        default=None, description="of a PLC clock that runs local time"
    )
    security: Security = Security()
    username: str | None = Field(default=None, min_length=1, description="omitted: anonymous")
    password: Secret | None = None
    browse: Annotated[tuple[Subtree, ...], BeforeValidator(_as_list)] = Field(
        default=(), description="subtrees whose variables become tags at each connect; one, or a list of them"
    )
    tags: Annotated[tuple[OpcuaTag, ...], ALIKE] = ()

    @property
    def address(self) -> str:
        """`host:port`, as a person would write it."""
        parts = urlsplit(self.endpoint)
        return join(parts.hostname or "", parts.port or DEFAULT_PORT)

    @property
    def is_insecure(self) -> bool:
        """Whether the config allows an open channel."""
        return self.security.policy == "None"

    @property
    def certificate_files(self) -> dict[str, Path]:
        """The gateway's own certificate, which the server must trust."""
        own = self.security.pki_dir / "own" / "cert.der"
        return {} if self.is_insecure else {f"opcua client ({self.security.pki_dir})": own}

    def prepare(self) -> None:
        """Import asyncua."""
        import gateway.drivers.opcua.device  # noqa: F401

    def open(self, shared: Shared) -> AbstractAsyncContextManager[Driver]:
        """Connect. Raises DeviceError on entry if the server cannot be reached or refuses us."""
        from gateway.drivers.opcua.device import open_device

        return open_device(self, shared)

    def faults(self) -> Iterator[Fault]:
        """Give a login that cannot work, or that would show the password to anybody on the way."""
        yield from super().faults()
        if self.password is not None and self.username is None:
            yield Fault(("password",), "a password needs a username; write username: too")
        if self.username is not None and self.password is None:
            yield Fault(("username",), "a username needs a password; write password: {file: /path/to/secret} too")
        if self.password is not None and self.security.policy == "None":
            yield Fault(("password",), "with policy None the password would be sent in clear; write another policy")
