"""What a failed connection means to a person: the library's exceptions and StatusCodes as DeviceErrors."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Final

from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.exceptions import InvalidSignature

from gateway.drivers.opcua.types.values import status_name
from gateway.errors import DeviceError
from gateway.model import DeviceState

CONNECTION_LOST: Final = "connection-lost"

PROTOCOL_ERRORS: Final = (
    UaError,
    InvalidSignature,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
)
"""What the library raises, beside OSError, when a server answers with something else than OPC UA asks for."""

_LOGIN: Final = frozenset(
    {
        "BadUserAccessDenied",
        "BadIdentityTokenRejected",
        "BadIdentityTokenInvalid",
        "BadUserSignatureInvalid",
    }
)
_OUR_CERTIFICATE: Final = frozenset(
    {
        "BadSecurityChecksFailed",
        "BadNoValidCertificates",
        "BadApplicationSignatureInvalid",
    }
)
_CONFIG: Final = {
    "BadSecurityPolicyRejected": "Write the policy that the server has enabled, or enable this one there.",
    "BadSecurityModeRejected": "Write the mode that the server has enabled, or enable this one there.",
    "BadTcpEndpointUrlInvalid": "Check the endpoint's path.",
}
_HINTS: Final = {
    "BadTooManySessions": "The server has no free session: close other clients, or raise its limit.",
    "BadMaxConnectionsReached": "The server has no free connection: close other clients, or raise its limit.",
    "BadTcpServerTooBusy": "The server is overloaded: close other clients, or lengthen intervals.",
    "BadTooManySubscriptions": "The server has no free subscription: close other clients, or raise its limit.",
    "BadShutdown": "The server is shutting down.",
}
_CROWDED: Final = frozenset(
    {
        "BadTooManySessions",
        "BadMaxConnectionsReached",
        "BadTcpServerTooBusy",
        "BadTcpNotEnoughResources",
        "BadTooManySubscriptions",
    }
)
_CROWDED_S: Final = 5.0
"""First pause, in seconds, for a server that has no room: each attempt costs it the resources that it lacks."""
_LOGIN_S: Final = 30.0
"""First pause, in seconds, after a refused login: many PLCs lock an account after a few wrong passwords."""


@contextlib.contextmanager
def plain_cancellation() -> Iterator[None]:
    """Let a cancellation be asyncio's own, by its very type.

    Under Python 3.11 the library waits with wait_for2, whose cancellation carries the answer that came in the same
    moment; asyncio.timeout does not take that for the end of its time, and it would pass for a cancelled task.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        if type(error) is asyncio.CancelledError:
            raise
        raise asyncio.CancelledError from None


@contextlib.contextmanager
def device_errors(address: str, certificate: str = "") -> Iterator[None]:
    """Turn what the library raises into a DeviceError; `certificate` is the path of ours, where we showed one."""
    try:
        with plain_cancellation():
            yield
    except UaStatusCodeError as error:
        raise refused(error.code, address, certificate) from error
    except OSError as error:
        raise unreachable(error, address, certificate) from error
    except PROTOCOL_ERRORS as error:
        text = f"{address} answers with something that is not OPC UA as we know it ({type(error).__name__}: {error})"
        raise DeviceError(text, reason=CONNECTION_LOST, do="Check that an OPC UA server listens there.") from error


def unreachable(error: OSError, address: str, certificate: str = "") -> DeviceError:
    """Explain a link that cannot be made, or that broke; many servers just hang up on a certificate unknown to them."""
    check = "Check power and network of the PLC."
    match error:
        case asyncio.TimeoutError():
            text = f"{address} does not answer"
        case ConnectionRefusedError():
            text, check = f"{address} refuses the connection", "Check that its OPC UA server is on, and the port."
        case socket.gaierror():
            text, check = f"the name in {address} cannot be resolved", "Check the endpoint's host, and DNS."
        case ConnectionError():
            text = f"{address} closed the connection"
            check = f"It may not trust our certificate {certificate} yet: accept it there." if certificate else check
        case _:
            text = f"{address} cannot be reached: {error.strerror or error}"
    return DeviceError(text, reason=CONNECTION_LOST, do=check)


def refused(code: int, address: str, certificate: str = "") -> DeviceError:
    """Explain a StatusCode with which a server refused a whole request or connection."""
    name = status_name(code)
    if name in _LOGIN:
        return login_refused(address, name)
    if certificate and (name in _OUR_CERTIFICATE or name.startswith("BadCertificate")):
        text = f"{address} does not trust our certificate {certificate} ({name})"
        return DeviceError(text, reason=name, state=DeviceState.CERTIFICATE_ERROR, do="Accept it at the server.")
    if name in _CONFIG:
        return DeviceError(
            f"{address} refuses the connection: {name}", reason=name, state=DeviceState.CONFIG_ERROR, do=_CONFIG[name]
        )
    pause = _CROWDED_S if name in _CROWDED else 0.0
    return DeviceError(f"{address} refuses: {name}", reason=name, do=_HINTS.get(name, ""), retry_after_s=pause)


def login_refused(address: str, name: str) -> DeviceError:
    """Explain a refused user name, password or anonymous login."""
    return DeviceError(
        f"{address} refuses the login ({name})",
        reason=name,
        state=DeviceState.AUTH_ERROR,
        do="Check username and password of the device, or the user's certificate, and the user's rights at the server.",
        retry_after_s=_LOGIN_S,
    )


def untrusted(address: str, reason: str, text: str, do: str) -> DeviceError:
    """Explain why a server that did answer is not taken for what it should be."""
    state = DeviceState.CERTIFICATE_ERROR
    return DeviceError(f"{address} is not trusted: {text}", reason=reason, state=state, do=do)
