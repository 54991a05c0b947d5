"""How an OPC UA server and its tags are configured."""

import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, WithJsonSchema, model_serializer

from gateway.checked import Checked, Fault, later, later_values
from gateway.drivers.base import ALIKE, DeviceSection, Driver, Section, Shared
from gateway.drivers.checks import CheckedTag
from gateway.files import ConfigPath
from gateway.hosts import join, parse_host
from gateway.quantities import Duration
from gateway.secret import Secret

DEFAULT_PORT: Final = 4840
_NODE: Final = re.compile(
    r"(?:ns=(?P<index>0|[1-9][0-9]{0,8});|nsu=(?P<uri>[^;]+);)?"
    r"(?:i=(?P<number>0|[1-9][0-9]{0,10})|s=(?P<text>.+)"
    r"|g=[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|b=[A-Za-z0-9+/]+={0,2})",
    re.DOTALL,
)
_NODES: Final = "ns=2;i=1042, nsu=urn:acme:robot;s=Axis1.Speed or i=2258"


def parse_node(text: str) -> str:
    """Check the text of a NodeId (OPC 10000-6 section 5.3.1.10). Raises ValueError with a sentence."""
    match = _NODE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a node id; write {_NODES}")
    if int(match["index"] or 0) > 65535:
        raise ValueError(f"{text!r} is not a node id: a namespace index goes up to 65535")
    if int(match["number"] or 0) > 0xFFFFFFFF:
        raise ValueError(f"{text!r} is not a node id: a number goes up to 4294967295")
    if len(match["text"] or "") > 4096:
        raise ValueError("is not a node id: its text is longer than 4096 characters")
    return text


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


class OpcuaTag(CheckedTag):
    """A node of an OPC UA server."""

    node: Annotated[str, AfterValidator(parse_node), WithJsonSchema({"type": "string", "pattern": "[isgb]="})] = Field(
        description=f"the node's id, such as {_NODES}"
    )
    sampling: Duration | None = Field(
        default=None, description="how often the server looks at the node; default: the device's interval; 0s: fastest"
    )
    queue: int | None = Field(
        default=None, ge=1, le=100_000, description="values the server keeps between two publishings; default: enough"
    )

    @property
    def source(self) -> str:
        """The node id, as configured."""
        return self.node

    @property
    def value_type(self) -> None:
        """Only the server knows the type."""
        return

    @property
    def code(self) -> str:
        """The type shows with each value: a node may hold anything, arrays too; or a name, or a number without one."""
        return "*" if self.map is None else "j"

    def faults(self) -> Iterator[Fault]:
        """Give a deadband that is a share of nothing."""
        yield from super().faults()
        yield from self.wrong_beside_map()
        if self.relative_deadband and self.range is None:
            text = f"{self.deadband} of what? Write range: [low, high] too; the server's EURange is not read yet"
            yield Fault(("deadband",), text)


class Security(Checked, Section):
    """How the connection is protected, and where the certificates are."""

    policy: Annotated[
        Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "None"],
        later_values("Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", instead="write Basic256Sha256"),
    ] = Field(default="Basic256Sha256", description="None needs insecure: true")
    mode: Literal["Sign", "SignAndEncrypt"] = Field(default="SignAndEncrypt", description="no meaning with policy None")
    pki_dir: ConfigPath = Field(
        default=Path("/var/lib/edge-gateway/pki"), description="holds own/ trusted/ issuers/ rejected/"
    )
    insecure: bool = Field(default=False, description="true: allow policy None; health says so")

    @model_serializer(mode="wrap")
    def _without_mode(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the mode where there is none, so that what was written out can be read again."""
        return {key: value for key, value in dump(self).items() if key != "mode" or self.policy != "None"}

    def faults(self) -> Iterator[Fault]:
        """Give an open channel that nobody asked for in so many words."""
        yield from super().faults()
        if self.policy == "None" and not self.insecure:
            yield Fault(("policy",), "None sends everything in clear; write insecure: true beside it if that is wanted")
        if self.policy == "None" and "mode" in self.model_fields_set:
            yield Fault(("mode",), f"{self.mode} needs a policy; write policy: Basic256Sha256, or remove mode")
        if self.policy != "None" and self.insecure:
            yield Fault(("insecure",), "insecure: true goes with policy: None only; remove it")


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
