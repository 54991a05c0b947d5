"""What is said on the control socket: a JSON object a line, each request answered by one response, in order.

A request names what to `do`; nothing can be asked for that writes to a PLC. A response has `"ok": true` and the
answer, or `"ok": false`, a `code`, and what went wrong as a `text` and what to `do` about it, for a person.
"""

from collections.abc import Hashable
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gateway.drivers.base import Section
from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.tag import BIT_TABLES, MAX_BITS, MAX_REGISTERS

LONGEST_REQUEST: Final = 256 << 10
LONGEST_RESPONSE: Final = 8 << 20
TIMEOUT: Final = "timeout"
WRONG_ANSWER: Final = "wrong-answer"
WRONG_REQUEST: Final = "wrong-request"
UNKNOWN: Final = "unknown"
TOO_LARGE: Final = "too-large"
FULL: Final = "full"
"""Codes of failures; others are the reasons of a DeviceError."""


NodeText = Annotated[str, Field(min_length=3, max_length=8192)]


class _Request(Section):
    model_config = ConfigDict(strict=True)


class Hello(_Request):
    """Asks who the daemon is, and which devices it reads over which links."""

    do: Literal["hello"]


class _OnLink(_Request):
    link: str = Field(min_length=1, max_length=4096)
    timeout: float = Field(ge=0.001, le=600)


class Connect(_OnLink):
    """Asks to open a link unless it is open."""

    do: Literal["connect"]


class Read(_OnLink):
    """Asks for registers or coils of a unit: function codes 1 to 4."""

    do: Literal["read"]
    unit: int = Field(ge=0, le=255)
    table: Table
    start: int = Field(ge=0, le=65535)
    count: int = Field(ge=1, le=MAX_BITS)
    delay: float = Field(default=0.0, ge=0, le=60)

    @model_validator(mode="after")
    def _fits(self) -> "Read":
        if self.table not in BIT_TABLES and self.count > MAX_REGISTERS:
            raise ValueError(f"one request reads {MAX_REGISTERS} registers at most")
        if self.start + self.count > 65536:
            raise ValueError("addresses end at 65535")
        return self


class Identify(_OnLink):
    """Asks a unit for its identification: function code 43/14."""

    do: Literal["identify"]
    unit: int = Field(ge=0, le=255)
    delay: float = Field(default=0.0, ge=0, le=60)


class Sample(_Request):
    """Asks the open driver of a device that is no Modbus device to read tags now."""

    do: Literal["sample"]
    device: str = Field(min_length=1, max_length=128)
    tags: tuple[str, ...] = Field(max_length=100_000, description="none: all that the device has")

    model_config = ConfigDict(strict=False)  # JSON has lists, no tuples


class Browse(_Request):
    """Asks an OPC UA device for the references of nodes, or for those that follow at continuation points: one step."""

    do: Literal["browse"]
    device: str = Field(min_length=1, max_length=128)
    nodes: tuple[NodeText, ...] = Field(default=(), max_length=100)
    points: tuple[Annotated[str, Field(max_length=8192, pattern="^([0-9a-f]{2})+$")], ...] = Field(
        default=(), max_length=100
    )
    release: bool = False

    model_config = ConfigDict(strict=False)


class About(_Request):
    """Asks what the gateway knows of a device by its open connection; nothing is sent to the device."""

    do: Literal["about"]
    device: str = Field(min_length=1, max_length=128)


class View(_Request):
    """Asks an OPC UA device what variables hold, each with the node of its unit or an empty text: one step."""

    do: Literal["view"]
    device: str = Field(min_length=1, max_length=128)
    nodes: tuple[tuple[NodeText, str], ...] = Field(min_length=1, max_length=100)

    model_config = ConfigDict(strict=False)


class Buffer(_Request):
    """Asks what lies in the buffer, one step at a time, or for something to be sent again."""

    do: Literal["buffer"]
    ask: Literal["info", "check", "books", "export", "resend"]
    after: int = 0
    device: str = Field(default="", max_length=128)
    from_ms: int = 0
    to_ms: int = 0


AnyRequest = Hello | Connect | Read | Identify | Sample | Browse | View | About | Buffer
Request = Annotated[AnyRequest, Field(discriminator="do")]
_REQUEST: Final[TypeAdapter[Any]] = TypeAdapter(Request)


class WrongRequest(Exception):  # noqa: N818 -- it is what came
    """A line is no request. Says why."""


def parse(line: bytes) -> AnyRequest:
    """Read a request. Raises WrongRequest."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise WrongRequest("a request is a JSON object on one line") from error
    try:
        return _REQUEST.validate_python(document)  # type: ignore[no-any-return]
    except ValidationError as error:
        first = error.errors()[0]
        raise WrongRequest(f"{'.'.join(map(str, first['loc'])) or 'request'}: {first['msg']}") from error


def failure(code: str, text: str, do: str = "") -> dict[str, Any]:
    """Make the response that says that something went wrong."""
    return {"ok": False, "code": code, "text": text, "do": do}


def write(message: dict[str, Any]) -> bytes:
    """Write a message as a line."""
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


def name_of(link_key: Hashable) -> str:
    """Give the name that a link has on the socket: its key, as JSON."""
    return orjson.dumps(link_key, default=str).decode()
