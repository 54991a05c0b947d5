"""Who may ask the local endpoint: clients that name this machine, and where a token is set, those that hold it."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from multidict import CIMultiDictProxy

from gateway.config.local import HttpSection
from gateway.errors import GatewayError
from gateway.hosts import is_loopback

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
OPEN_PATHS: Final = frozenset({"/live", "/ready"})
"""What a supervisor may ask without a token; the answers tell nothing but yes or no."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request gets no answer: an HTTP status, a sentence, and headers that go with it."""

    status: int
    text: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Access:
    """The rules of one endpoint. `token` is None where there is none; `local` if only this machine can connect."""

    local: bool
    token: bytes | None

    @classmethod
    def of(cls, section: HttpSection) -> "Access":
        """Read the token now. Raises GatewayError if it cannot be read, or the endpoint would be open to others."""
        local = is_loopback(section.host)
        if not local and (section.tls is None or section.token is None):
            raise GatewayError(
                f"http.listen {section.listen} can be reached from outside without encryption or without a token",
                do="Set http.tls and http.token, or listen at 127.0.0.1.",
            )
        token = None if section.token is None else section.token.reveal().encode()
        if token == b"":
            raise GatewayError("the token of http.token is empty", do="Write a long random text as the token.")
        return cls(local, token)

    def refuse(self, path: str, headers: CIMultiDictProxy[str]) -> Refusal | None:
        """Say why a request is refused, or None if it may be answered."""
        if self.local and not all(_names_this_machine(host) for host in headers.getall("Host", ())):
            # A page from elsewhere may point its own name at 127.0.0.1 (DNS rebinding); its name still shows here.
            return Refusal(403, "Ask for this page as http://localhost or http://127.0.0.1.", {})
        if self.token is not None and path not in OPEN_PATHS:
            scheme, _, given = headers.get("Authorization", "").partition(" ")
            known = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self.token)
            if scheme.lower() != "bearer" or not known:
                text = "Send the token of http.token as `Authorization: Bearer TOKEN`."
                return Refusal(401, text, {"WWW-Authenticate": "Bearer"})
        return None


def _names_this_machine(host: str) -> bool:
    name, colon, port = host.lower().rpartition(":")
    return (name if colon and port.isdecimal() else host.lower()) in LOCAL_NAMES
