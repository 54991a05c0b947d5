"""How an OPC UA server is configured."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.checked import Checked, Fault
from gateway.drivers.base import ALIKE, DeviceSection, Driver, Shared
from gateway.drivers.opcua.limits import Service
from gateway.drivers.opcua.security.section import Security
from gateway.drivers.opcua.subtree import Subtree
from gateway.drivers.opcua.tag import OpcuaTag
from gateway.files import CertificateFile, ReadablePath
from gateway.hosts import Endpoint, join, parse_host
from gateway.hosts import parse_endpoint as parse_host_and_port
from gateway.secret import Secret

DEFAULT_PORT: Final = 4840
_OWN_ENDS: Final = (
    "If the gateway made it: let the servers trust next.der beside it too; it is used from the last day on. "
    "If a CA signed it: have a new one signed (edge-gateway certs init --csr), and install it (certs install FILE)."
)
_TRUSTED_ENDS: Final = "Renew it at the server, and trust the new one (edge-gateway certs trust)."


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


def parse_timezone(text: str | None) -> str | None:
    """Check a time zone's name. Raises ValueError with a sentence."""
    try:
        if text is not None:
            ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone's name such as Europe/Oslo") from None
    return text


def _as_list(value: object) -> object:
    if isinstance(value, Mapping):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


class OpcuaDevice(Checked, DeviceSection):
    """A device that is an OPC UA server, or stands behind one."""

    protocol: Literal["opcua"]
    hosts: tuple[Endpoint, ...] = Field(
        default=(),
        description="redundant servers beside the endpoint, each with a port of its own if it has one; "
        "chosen by ServiceLevel, one session at a time",
    )
    endpoint: Annotated[
        str, AfterValidator(parse_endpoint), WithJsonSchema({"type": "string", "pattern": r"^opc\.tcp://"})
    ] = Field(description="the server's address, opc.tcp://host:port/path")
    mode: Literal["subscribe", "poll"] = Field(
        default="subscribe", description="subscribe: the server reports changes; poll: the gateway reads"
    )
    timestamp: Literal["source", "server", "gateway"] = Field(default="source", description="whose clock is `ts`")
    timezone: Annotated[str | None, AfterValidator(parse_timezone)] = Field(
        default=None, description="such as Europe/Oslo, of a PLC whose source timestamps are local time"
    )
    max_requests_per_second: int = Field(
        default=100, ge=1, le=10_000, description="that the server gets at most; notifications are not counted"
    )
    limits: dict[Service, Annotated[int, Field(ge=1, le=500)]] = Field(
        default_factory=dict, description="operations a request, where the server tells wrong limits or none"
    )
    history: bool = Field(
        default=False,
        description="read what an outage left out from the server's history; of tags that say no other",
    )
    security: Security = Security()
    username: str | None = Field(default=None, min_length=1, description="omitted: anonymous")
    password: Secret | None = None
    user_cert_file: ReadablePath | None = Field(
        default=None, description="PEM or DER; the user's certificate, instead of username and password"
    )
    user_key_file: ReadablePath | None = Field(default=None, description="PEM or DER; the key of user_cert_file")
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
    def urls(self) -> tuple[str, ...]:
        """The addresses of the redundant servers, in order of preference."""
        parts = urlsplit(self.endpoint)
        others = (parse_host_and_port(text) for text in self.hosts)
        ports = ((host, port or parts.port or DEFAULT_PORT) for host, port in others)
        return (self.endpoint, *(parts._replace(netloc=join(*each)).geturl() for each in ports))

    @property
    def is_insecure(self) -> bool:
        """Whether the config allows an open channel."""
        return self.security.policy == "None"

    @property
    def certificate_files(self) -> dict[str, CertificateFile]:
        """The gateway's own certificate, which the server must trust, those that it trusts itself, and the user's."""
        if self.is_insecure:
            return {}
        folder = self.security.pki_dir
        own = CertificateFile(folder / "own" / "cert.der", _OWN_ENDS)
        trusted = CertificateFile(folder / "trusted", _TRUSTED_ENDS)
        files = {f"opcua client ({folder})": own, f"opcua trusted ({folder})": trusted}
        if self.user_cert_file is not None:
            files[f"{self.name} user"] = CertificateFile(self.user_cert_file)
        return files

    @property
    def private_keys(self) -> tuple[Path, ...]:
        """The key of the gateway's own certificate, and that of the user's."""
        own = () if self.is_insecure else (self.security.pki_dir / "own" / "key.pem",)
        return own if self.user_key_file is None else (*own, self.user_key_file)

    def history_of(self, tag: OpcuaTag) -> bool:
        """Whether an outage's values of this tag are read from the server's history."""
        return self.history if tag.history is None else tag.history

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
        if self.timezone is not None and self.timestamp != "source":
            yield Fault(("timezone",), "is about source timestamps; remove it, or write timestamp: source")
        if self.timestamp != "source" and any(map(self.history_of, self.tags)):
            text = "history is told by source timestamps; write timestamp: source, or history: false"
            yield Fault(("timestamp",), text)
        if self.password is not None and self.username is None:
            yield Fault(("password",), "a password needs a username; write username: too")
        if self.username is not None and self.password is None:
            yield Fault(("username",), "a username needs a password; write password: {file: /path/to/secret} too")
        if self.password is not None and self.security.policy == "None":
            yield Fault(("password",), "with policy None the password would be sent in clear; write another policy")
        yield from self._faults_of_user_certificate()

    def _faults_of_user_certificate(self) -> Iterator[Fault]:
        given = [key for key in ("user_cert_file", "user_key_file") if getattr(self, key) is not None]
        if len(given) == 1:
            missing = "user_key_file" if given == ["user_cert_file"] else "user_cert_file"
            yield Fault((given[0],), f"{given[0]} needs {missing}; write {missing}: too")
        if given and self.username is not None:
            yield Fault((given[0],), "a user has a password or a certificate; remove username and password, or this")
        if given and self.security.policy == "None":
            text = "with policy None anybody on the way could take over the user's session; write another policy"
            yield Fault((given[0],), text)
