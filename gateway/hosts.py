"""Hosts and ports as a config writes them."""

import ipaddress
import re
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def parse_host(text: str) -> str:
    """Give a DNS name or an IP address, without brackets. Raises ValueError with a sentence for the integrator."""
    if "://" in text:
        raise ValueError("write the host alone, without a scheme such as mqtts:// or http://")
    bare = text.removeprefix("[").removesuffix("]")
    if _is_ip(bare):
        return bare
    _, colon, port = text.rpartition(":")
    if colon and port.isdecimal():
        raise ValueError(f"write the port in a key of its own: port: {port}")
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must be a host's name or IP address, such as plc-1.example.com or 192.0.2.10")
    if labels[-1].isdecimal():
        raise ValueError("must be a host's name or IP address; an IPv4 address has four numbers from 0 to 255")
    return text


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def join(host: str, port: int) -> str:
    """Write `host:port`, with brackets round an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


Host = Annotated[str, AfterValidator(parse_host), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 253})]
"""A DNS name or an IP address."""


def parse_endpoint(text: str) -> tuple[str, int | None]:
    """Give host and port of `host`, `host:port` or `[host]:port`; None where no port is written. Raises ValueError."""
    head, colon, port = text.rpartition(":")
    if not colon or (head.count(":") and not head.endswith("]")) or not port.isdecimal():
        return parse_host(text), None
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"{port} is not a port; ports go from 1 to 65535")
    return parse_host(head), int(port)


def _checked_endpoint(text: str) -> str:
    parse_endpoint(text)
    return text


Endpoint = Annotated[str, AfterValidator(_checked_endpoint), WithJsonSchema({"type": "string", "minLength": 1})]
"""A host, with or without a port."""
