"""The sections of what stays on this machine: `buffer`, `http`, `control`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.checked import Checked, Fault
from gateway.drivers.base import Section
from gateway.files import ConfigPath, ReadablePath
from gateway.hosts import is_loopback, parse_host
from gateway.quantities import PositiveDuration, duration, size
from gateway.secret import Secret

_STATE: Final = Path("/var/lib/edge-gateway")
_LONGEST_SOCKET: Final = 107
"""What the kernel takes (unix(7), sun_path), without the NUL at its end."""
_SOCKET: Final = Path("/run/edge-gateway/control.sock")


class BufferSection(Section):
    """The store-and-forward file."""

    path: ConfigPath = _STATE / "buffer.db"
    max_bytes: Annotated[int, *size(1 << 20)] = Field(default=1 << 30, description="of the file")
    max_age: PositiveDuration | None = Field(default=None, description="omitted: no limit")
    when_full: Literal["drop-oldest", "drop-newest"] = Field(
        default="drop-oldest", description="every reading that is dropped is told to the consumer in a gap record"
    )
    commit_interval: Annotated[float, *duration(0.001, 60)] = Field(
        default=0.2, description="group commit: what a power cut can cost"
    )
    keep_acked: Annotated[float, *duration()] = Field(
        default=0.0,
        description="how long acknowledged data stays for `buffer resend`, within max_bytes; running time",
    )


def parse_listen(text: object) -> str:
    """Check `address:port`. Raises ValueError with a sentence for the integrator."""
    host, _, port = text.rpartition(":") if isinstance(text, str) else ("", "", "")
    if not host or not port.isdecimal() or not port.isascii() or int(port) > 65535:
        raise ValueError("must be an address and a port, such as 127.0.0.1:8080")
    if ":" in host and not host.startswith("["):
        raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port}")
    parse_host(host)
    return f"{host}:{port}"


class HttpTls(Section):
    """The certificate of the local HTTP endpoint."""

    cert_file: ReadablePath
    key_file: ReadablePath


class HttpSection(Checked, Section):
    """The local HTTP endpoint: health, metrics, dashboard."""

    listen: Annotated[
        str, BeforeValidator(parse_listen), WithJsonSchema({"type": "string", "pattern": ":[0-9]{1,5}$"})
    ] = Field(default="127.0.0.1:8080", description="anything but loopback needs tls and token; port 0: any free port")
    tls: HttpTls | None = None
    token: Secret | None = Field(default=None, description="what clients send as Authorization: Bearer")

    @property
    def host(self) -> str:
        """The address to listen at, without brackets."""
        return self.listen.rpartition(":")[0].removeprefix("[").removesuffix("]")

    @property
    def port(self) -> int:
        """The port to listen at; 0 for any free one."""
        return int(self.listen.rpartition(":")[2])

    def faults(self) -> Iterator[Fault]:
        """Give an endpoint that others could reach, and read, without a token."""
        yield from super().faults()
        if not is_loopback(self.host) and (self.tls is None or self.token is None):
            yield Fault(
                ("listen",),
                f"{self.listen} can be reached from outside; write tls: {{cert_file: …, key_file: …}} and "
                "token: {file: …} beside it, or listen at 127.0.0.1",
            )


def _short(path: Path) -> Path:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"a socket's path has {_LONGEST_SOCKET} bytes at most; write a shorter one, such as {_SOCKET}")
    return path


class ControlSection(Section):
    """The local socket through which commands reach the running daemon."""

    socket: Annotated[ConfigPath, AfterValidator(_short)] = Field(
        default=_SOCKET, description="mode 0660, group edge-gateway"
    )
