"""Who answers in a server's place, or offers less in the secured channel than before, gets no login on any connect."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncua
import pytest
from asyncua.server.uaprocessor import UaProcessor
from opcua_peer import BOUND_S, ENCRYPTED, SHARED, SIGNED, Peer, failure, section, secured, trust

from gateway.model import DeviceState

ua: Any = asyncua.ua
Spoil = Callable[[Any], None]


def of_keys(change: Callable[[Any], None]) -> Spoil:
    def spoil(response: Any) -> None:
        if isinstance(response, ua.OpenSecureChannelResponse):
            change(response.Parameters)

    return spoil


def of_session(change: Callable[[Any], None]) -> Spoil:
    def spoil(response: Any) -> None:
        if isinstance(response, ua.CreateSessionResponse):
            change(response.Parameters)

    return spoil


def nonce(value: bytes | None) -> Callable[[Any], None]:
    return lambda parameters: setattr(parameters, "ServerNonce", value)


def wrong_signature(parameters: Any) -> None:
    parameters.ServerSignature.Signature = bytes(256)


def no_signature(parameters: Any) -> None:
    parameters.ServerSignature = ua.SignatureData()


def fewer_endpoints(parameters: Any) -> None:
    parameters.ServerEndpoints = parameters.ServerEndpoints[:-1]


def more_ways_in(parameters: Any) -> None:
    token = ua.UserTokenPolicy(PolicyId="open", TokenType=ua.UserTokenType.UserName)
    token.SecurityPolicyUri = "http://opcfoundation.org/UA/SecurityPolicy#None"
    for endpoint in parameters.ServerEndpoints:
        endpoint.UserIdentityTokens = [token, *endpoint.UserIdentityTokens]


def other_level(parameters: Any) -> None:
    for endpoint in parameters.ServerEndpoints:
        endpoint.SecurityLevel += 1


PROOF = ("BadCertificateInvalid", "did not prove in CreateSession that the certificate it showed is its own")
OFFERS = ("BadSecurityChecksFailed", "offers other endpoints in the secured channel")
SHORT = ("BadNonceInvalid", "its nonce is too short")


@pytest.mark.parametrize(
    ("spoil", "reason", "says"),
    [
        (of_keys(nonce(bytes(8))), *SHORT),
        (of_keys(nonce(None)), *SHORT),
        (of_session(nonce(bytes(31))), *SHORT),
        (of_session(nonce(None)), *SHORT),
        (of_session(wrong_signature), *PROOF),
        (of_session(no_signature), *PROOF),
        (of_session(fewer_endpoints), *OFFERS),
        (of_session(more_ways_in), *OFFERS),
        (of_session(other_level), *OFFERS),
    ],
)
async def test_no_password_goes_to_who_proves_too_little_or_offers_less_on_connect_and_on_reconnect(
    peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, reason: str, says: str
) -> None:
    device = await guarded(peer, tmp_path, ENCRYPTED + SIGNED, "SignAndEncrypt")
    activations: list[Any] = []
    send, spoils = UaProcessor.send_response, True

    def send_spoilt(processor: Any, handle: Any, seqhdr: Any, response: Any, *kind: Any) -> None:
        if spoils and processor._connection.security_policy.URI.endswith("Basic256Sha256"):
            spoil(response)
        if isinstance(response, ua.ActivateSessionResponse):
            activations.append(response)
        send(processor, handle, seqhdr, response, *kind)

    monkeypatch.setattr(UaProcessor, "send_response", send_spoilt)
    for spoils in (True, False, True):
        if not spoils:
            async with asyncio.timeout(BOUND_S), device.open(SHARED):
                pass
            activations.clear()
            continue
        error = await failure(device)
        assert (error.reason, error.state) == (reason, DeviceState.CERTIFICATE_ERROR)
        assert says in str(error)
        assert error.do
        assert activations == []


async def test_a_password_that_would_go_in_clear_stays_here_on_connect_and_on_reconnect(
    peer: Peer, tmp_path: Path
) -> None:
    """In mode Sign all can be read on the way, unless the password is encrypted by itself."""
    device = await guarded(peer, tmp_path, SIGNED, "Sign")
    for in_clear in (True, False, True):
        for endpoint in peer.server.iserver.endpoints:
            for token in endpoint.UserIdentityTokens:
                policy = "None" if in_clear else "Basic256Sha256"
                token.SecurityPolicyUri = f"http://opcfoundation.org/UA/SecurityPolicy#{policy}"
        if not in_clear:
            async with asyncio.timeout(BOUND_S), device.open(SHARED):
                pass
            continue
        error = await failure(device)
        assert (error.reason, error.state) == ("BadSecurityModeInsufficient", DeviceState.CONFIG_ERROR)
        assert str(error) == f"{device.address} wants the password in a form that others on the way can read"
        assert "SignAndEncrypt" in error.do


async def guarded(peer: Peer, folder: Path, policies: list[Any], mode: str) -> Any:
    """Let the server offer these policies, to a device that logs in with a password."""
    await peer.restart(policies)
    trust(folder / "pki", peer.certificate)
    (folder / "password").write_text("secret")
    login = {"username": "gateway", "password": {"file": str(folder / "password")}}
    return section(peer, [], security=secured(folder / "pki", mode), **login)
