"""From an endpoint's address to an open session whose server is who it should be, before any secret goes out.

On every connect: ask the server for its endpoints, take the one with exactly the configured policy and mode, verify
its certificate, open the channel with that certificate and no other, let the server prove in CreateSession that it
holds the certificate's key, and only then log in (OPC 10000-4 sections 5.5.4, 5.7.2, 6.1.3).
"""

import asyncio
import socket
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
    SecurityPolicyNone,
)
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.drivers.opcua.faults import login_refused
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.security import pki
from gateway.drivers.opcua.security.trust import Claim, UntrustedError, uris, verify
from gateway.errors import DeviceError, GatewayError
from gateway.model import DeviceState

SESSION_MS: Final = 60_000
CHANNEL_S: Final = 3600.0
"""How long the keys of a channel may be used, if the server agrees."""
_POLICIES: Final = {"Basic256Sha256": SecurityPolicyBasic256Sha256}
_STRONG: Final = frozenset(
    policy.URI
    for policy in (SecurityPolicyBasic256Sha256, SecurityPolicyAes128Sha256RsaOaep, SecurityPolicyAes256Sha256RsaPss)
)
_MODES: Final = {"Sign": ua.MessageSecurityMode.Sign, "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt}


def client_of(section: OpcuaDevice, timeout: float, channel_s: float = CHANNEL_S) -> Client:
    """Make a client that has not connected yet. It goes to the configured host, whatever the server announces."""
    url = urlsplit(section.endpoint)._replace(netloc=section.address).geturl()
    client = Client(url, timeout=timeout)
    client.session_timeout = SESSION_MS
    client.secure_channel_timeout = int(channel_s * 1000)
    return client


def drop(client: Client) -> None:
    """Close the socket now, whatever state the client is in."""
    protocol = client.uaclient.protocol
    if protocol is not None and protocol.transport is not None:
        protocol.transport.abort()


async def connect(client: Client, section: OpcuaDevice, identity: pki.Identity | None, gateway_id: str) -> None:
    """Open a verified, logged-in session on a fresh client; the caller drops the client if this fails.

    `identity` is None where the section asks for no security. Raises DeviceError, or what the library raises.
    """
    client.name = client.description = f"edge-gateway {gateway_id}"
    client.product_uri = "urn:edge-gateway"
    offer = choose(await _offers(section, client.uaclient._timeout), section)
    if identity is None:
        client.application_uri = pki.application_uri(gateway_id, socket.gethostname())
    else:
        client.application_uri = identity.application_uri
        pinned = await _verified(offer, section)
        policy: Any = _POLICIES[section.security.policy]
        mode = _MODES[section.security.mode]
        client.security_policy = policy(pinned, identity.certificate, identity.key, mode)
        client.uaclient.set_security(client.security_policy)
    await _open_channel(client)
    await _create_session(client, section)
    await _log_in(client, section)


async def _offers(section: OpcuaDevice, timeout: float) -> list[ua.EndpointDescription]:
    client = client_of(section, timeout)
    try:
        await _open_channel(client)
        offers: list[ua.EndpointDescription] = await client.get_endpoints()
        await client.close_secure_channel()
        return offers
    finally:
        drop(client)


async def _open_channel(client: Client) -> None:
    timeout = client.uaclient._timeout
    # With a timeout of its own, connect_socket would use asyncio.wait_for, which in Python 3.11 forgets a
    # cancellation that comes at the moment at which the connection is made.
    client.uaclient._timeout = None  # type: ignore[assignment]
    async with asyncio.timeout(timeout):
        await client.connect_socket()
    client.uaclient._timeout = timeout
    if client.uaclient.protocol is not None:
        client.uaclient.protocol.timeout = timeout
    await client.send_hello()
    await client.open_secure_channel()


def choose(offers: Iterable[ua.EndpointDescription], section: OpcuaDevice) -> ua.EndpointDescription:
    """Take the endpoint with exactly the configured policy and mode. There is no second choice: raises DeviceError."""
    policy, mode = _wanted(section)
    tcp = [offer for offer in offers if (offer.EndpointUrl or "").startswith("opc.tcp:")]
    for offer in tcp:
        if offer.SecurityPolicyUri == policy and offer.SecurityMode == mode:
            return offer
    offered = ", ".join(sorted({_named(offer) for offer in tcp})) or "no opc.tcp endpoint"
    raise DeviceError(
        f"{section.address} does not offer {_named_wanted(section)}, but {offered}",
        reason="BadSecurityPolicyRejected",
        state=DeviceState.CONFIG_ERROR,
        do="Enable it at the server, or write under `security` what the server offers.",
    )


def _wanted(section: OpcuaDevice) -> tuple[str, ua.MessageSecurityMode]:
    if section.security.policy == "None":
        return SecurityPolicyNone.URI, ua.MessageSecurityMode.None_
    return _POLICIES[section.security.policy].URI, _MODES[section.security.mode]


def _named_wanted(section: OpcuaDevice) -> str:
    security = section.security
    return "policy None" if security.policy == "None" else f"{security.policy} with {security.mode}"


def _named(offer: ua.EndpointDescription) -> str:
    policy = (offer.SecurityPolicyUri or "").rpartition("#")[2]
    if offer.SecurityMode == ua.MessageSecurityMode.None_:
        return "policy None"
    return f"{policy} with {ua.MessageSecurityMode(offer.SecurityMode).name}"


async def _verified(offer: ua.EndpointDescription, section: OpcuaDevice) -> x509.Certificate:
    """Give the server's certificate if it is to be trusted, else leave it in rejected/ and raise DeviceError."""
    folder = section.security.pki_dir
    try:
        chain = certificate_chain(offer.ServerCertificate or b"")
    except ValueError:
        raise _untrusted(
            section, "BadCertificateInvalid", "its certificate cannot be read", "Renew it there."
        ) from None
    claim = Claim(offer.Server.ApplicationUri or "", urlsplit(section.endpoint).hostname or "")
    trust = await asyncio.to_thread(pki.load_trust, folder)
    try:
        verify(chain, claim, trust, datetime.now(UTC))
    except UntrustedError as error:
        do = "Renew the certificate at the server, and check the clocks there and here."
        if not error.known:
            path = await asyncio.to_thread(pki.reject, folder, chain[0].public_bytes(Encoding.DER))
            do = f"If {path.stem} is its SHA-256 fingerprint at the server, move {path} to {folder / 'trusted'}/."
        raise _untrusted(section, error.reason, str(error), do) from error
    return chain[0]


def certificate_chain(der: bytes) -> tuple[x509.Certificate, ...]:
    """Read certificates that stand one after the other, the server's own first. Raises ValueError."""
    chain = []
    while der:
        # A certificate is longer than 255 and shorter than 65536 bytes: its length has two bytes (X.690 8.1.3.5).
        if der[:2] != b"\x30\x82":
            raise ValueError("not a certificate")
        end = 4 + int.from_bytes(der[2:4], "big")
        chain.append(x509.load_der_x509_certificate(der[:end]))
        der = der[end:]
    if not chain:
        raise ValueError("no certificate")
    return tuple(chain)


def _untrusted(section: OpcuaDevice, reason: str, text: str, do: str) -> DeviceError:
    state = DeviceState.CERTIFICATE_ERROR
    return DeviceError(f"{section.address} is not trusted: {text}", reason=reason, state=state, do=do)


async def _create_session(client: Client, section: OpcuaDevice) -> None:
    """Create the session; the server signs with the key of the certificate that we verified, or we leave."""
    try:
        created: ua.CreateSessionResult = await client.create_session()
    except UaStatusCodeError:
        raise
    except (UaError, InvalidSignature) as error:
        text = "it did not prove in CreateSession that the certificate it showed is its own"
        do = "Check that nobody answers in the server's place; restart the server if it has a new certificate."
        raise _untrusted(section, "BadCertificateInvalid", text, do) from error
    if section.security.policy == "None":
        return
    certificate = certificate_chain(created.ServerCertificate or b"")[0]
    announced = choose(created.ServerEndpoints, section).Server.ApplicationUri
    if announced not in uris(certificate):
        text = f"its certificate is not made out to {announced}"
        raise _untrusted(section, "BadCertificateUriInvalid", text, "Renew the certificate at the server.")


async def _log_in(client: Client, section: OpcuaDevice) -> None:
    if section.username is None:
        if client._policy_ids and not _policies(client, ua.UserTokenType.Anonymous):
            raise login_refused(section.address, "BadIdentityTokenRejected")
        await client.activate_session()
        return
    client._policy_ids = [password_policy(_policies(client, ua.UserTokenType.UserName), section)]
    await client.activate_session(username=section.username, password=await asyncio.to_thread(_password, section))


def _policies(client: Client, kind: ua.UserTokenType) -> list[ua.UserTokenPolicy]:
    return [policy for policy in client._policy_ids if policy.TokenType == kind]


def password_policy(policies: list[ua.UserTokenPolicy], section: OpcuaDevice) -> ua.UserTokenPolicy:
    """Choose how to send the password: encrypted by itself if the server can, else in an encrypted channel only.

    Raises DeviceError where it would be readable on the way.
    """
    if not policies:
        raise login_refused(section.address, "BadIdentityTokenRejected")
    channel, mode = _wanted(section)
    secured = mode != ua.MessageSecurityMode.None_
    for policy in policies:
        if secured and (policy.SecurityPolicyUri or channel) in _STRONG:
            return policy
    if mode == ua.MessageSecurityMode.SignAndEncrypt:
        return policies[0]
    raise DeviceError(
        f"{section.address} wants the password in a form that others on the way can read",
        reason="BadSecurityModeInsufficient",
        state=DeviceState.CONFIG_ERROR,
        do="Write mode: SignAndEncrypt under `security`.",
    )


def _password(section: OpcuaDevice) -> str:
    try:
        return section.password.reveal() if section.password is not None else ""
    except GatewayError as error:
        reason = "BadIdentityTokenInvalid"
        raise DeviceError(str(error), reason=reason, state=DeviceState.AUTH_ERROR, do=error.do) from error
