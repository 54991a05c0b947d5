"""How a node of an OPC UA server is configured as a tag."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, Field, PrivateAttr, WithJsonSchema

from gateway.checked import Fault
from gateway.drivers.checks import CheckedTag
from gateway.quantities import Duration

_NODE: Final = re.compile(
    r"(?:ns=(?P<index>0|[1-9][0-9]{0,8});|nsu=(?P<uri>[^;]+);)?"
    r"(?:i=(?P<number>0|[1-9][0-9]{0,10})|s=(?P<text>.+)"
    r"|g=[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|b=(?P<bytes>[A-Za-z0-9+/]+={0,2}))",
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
    if match["bytes"] and not _is_base64(match["bytes"]):
        raise ValueError(
            f"{text!r} is not a node id: what follows b= is not whole base64; it has 4 characters for 3 bytes"
        )
    return text


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True


class Told(NamedTuple):
    """What only the server knows of a node: the name of its type, what it is called for people, what its bits mean."""

    type: str | None = None
    display_name: str | None = None
    bits: Mapping[int, str] | None = None


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
    history: bool | None = Field(
        default=None, description="read from the server's history what an outage left out; default: the device's"
    )

    @property
    def source(self) -> str:
        """The node id, as configured."""
        return self.node

    _told: Told = PrivateAttr(default=Told())

    @property
    def told(self) -> Told:
        """What the server told of the node, once it is connected."""
        return self._told

    def with_told(self, told: Told, update: Mapping[str, Any]) -> "OpcuaTag":
        """Give the tag as it is at the server."""
        completed = self.model_copy(update=update)
        completed._told = told
        return completed

    @property
    def value_type(self) -> None:
        """The config does not say the type: a node may hold anything."""
        return

    @property
    def shown_type(self) -> str | None:
        """The type, by the server's word for it."""
        return self._told.type

    @property
    def display_name(self) -> str | None:
        """What the server calls the node for people."""
        return self._told.display_name

    @property
    def bits(self) -> Mapping[int, str] | None:
        """Names of the bits of a whole number, by their place: 0 is the lowest."""
        return self._told.bits

    @property
    def code(self) -> str:
        """The type shows with each value: a node may hold anything, arrays too; or a name, or a number without one."""
        return "*" if self.map is None else "j"

    def faults(self) -> Iterator[Fault]:
        """Give a deadband that is a share of nothing."""
        yield from super().faults()
        yield from self.wrong_beside_map()
        if self.relative_deadband and self.range is None and self.scaled:
            text = f"{self.deadband} of what? Write range: [low, high] of the scaled value too"
            yield Fault(("deadband",), text)
