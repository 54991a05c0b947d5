"""From an endpoint's address to an open session whose server is who it should be, before any secret goes out.

On every connect: ask the server for its endpoints, take the one with exactly the configured policy and mode, verify
its certificate, open the channel with that certificate and no other, let the server prove in CreateSession that it
holds the certificate's key and offers what it offered before, and only then log in (OPC 10000-4 sections 5.5.4,
5.7.2, 6.1.3). Where a broken link has left a session, that one is logged into first, to be closed: its server was
proved when it was made, and the channel proves it again.
"""

import asyncio
import contextlib
import shlex
import socket
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.drivers.opcua.channel import open_channel
from gateway.drivers.opcua.faults import untrusted
from gateway.drivers.opcua.leftover import close_leftover, take_leftover
from gateway.drivers.opcua.login import Created, log_in
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.security import own, pki
from gateway.drivers.opcua.security.policies import NO_POLICY, POLICIES, wanted
from gateway.drivers.opcua.security.trust import Claim, UntrustedError, uris, verify
from gateway.errors import DeviceError
from gateway.model import DeviceState

SESSION_MS: Final = 60_000
CHANNEL_S: Final = 3600.0
"""How long the keys of a channel may be used, if the server agrees."""
_NONCE_BYTES: Final = 32
"""The least that proves anything (OPC 10000-4 section 5.7.2)."""
_RENEWAL_S: Final = 6 * 3600.0
"""How often an open connection looks whether our own certificate needs a successor."""


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


async def connect(
    client: Client,
    section: OpcuaDevice,
    identity: own.Identity | None,
    gateway_id: str,
    memory: MutableMapping[str, Any],
) -> Created:
    """Open a verified, logged-in session on a fresh client; the caller drops the client if this fails.

    `identity` is None where the section asks for no security; a session that a broken link has left (`memory`) is
    closed before. Gives what the session's next login answers to. Raises DeviceError, or what the library raises.
    """
    client.name = client.description = f"edge-gateway {gateway_id}"
    client.product_uri = "urn:edge-gateway"
    offers = await _offers(section, client.uaclient._timeout)
    offer = choose(offers, section)
    if identity is None:
        client.application_uri = own.application_uri(gateway_id, socket.gethostname())
    else:
        client.application_uri = identity.application_uri
        pinned = await _verified(offer, section)
        policy, (_, mode) = POLICIES[section.security.policy], wanted(section.security)
        client.security_policy = policy(
            pinned, identity.certificate, identity.key, mode, host_cert_chain=list(identity.chain)
        )
        client.uaclient.set_security(client.security_policy)
    await open_channel(client, section.address)
    # Only now: a server that cannot be reached keeps it.
    if (left := take_leftover(section, memory)) is not None:
        await close_leftover(client, section, left)
    return await log_in(client, section, await _create_session(client, section, offers))


def load_identity(section: OpcuaDevice, gateway_id: str) -> own.Identity:
    """Give our certificate and key; made, or renewed, where it is time. Blocks. Raises DeviceError."""
    pki.prepare(section.security.pki_dir)
    return own.identity(section.security.pki_dir, gateway_id)


async def keep_identity(section: OpcuaDevice, gateway_id: str) -> NoReturn:
    """Make the successor of our certificate in time though the connection never breaks, for ever."""
    while True:
        await asyncio.sleep(_RENEWAL_S)
        if section.security.policy != "None":
            with contextlib.suppress(DeviceError):  # told at the next connect; this connection needs no certificate
                await asyncio.to_thread(load_identity, section, gateway_id)


async def _offers(section: OpcuaDevice, timeout: float) -> list[ua.EndpointDescription]:
    client = client_of(section, timeout)
    try:
        await open_channel(client, section.address)
        offers: list[ua.EndpointDescription] = await client.get_endpoints()
        await client.close_secure_channel()
        return offers
    finally:
        drop(client)


def choose(offers: Iterable[ua.EndpointDescription], section: OpcuaDevice) -> ua.EndpointDescription:
    """Take the endpoint with exactly the configured policy and mode. There is no second choice: raises DeviceError."""
    policy, mode = wanted(section.security)
    tcp = [offer for offer in offers if _is_tcp(offer)]
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
        raise untrusted(
            section.address, "BadCertificateInvalid", "its certificate cannot be read", "Renew it there."
        ) from None
    claim = Claim(offer.Server.ApplicationUri or "", urlsplit(section.endpoint).hostname or "")
    trust = await asyncio.to_thread(pki.load_trust, folder)
    try:
        verify(chain, claim, trust, datetime.now(UTC))
    except UntrustedError as error:
        do = error.do
        if not error.known:
            path = await asyncio.to_thread(pki.reject, folder, chain[0].public_bytes(Encoding.DER))
            command = f"edge-gateway certs --pki-dir {shlex.quote(str(folder))}"
            do = f"{do} See it with: {command} show {path.stem} and trust it with: {command} trust {path.stem}"
        raise untrusted(section.address, error.reason, str(error), do) from error
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


async def _create_session(client: Client, section: OpcuaDevice, offers: list[ua.EndpointDescription]) -> Created:
    """Create the session; the server signs with the key of the certificate that we verified, or we leave."""
    try:
        created: ua.CreateSessionResult = await client.create_session()
    except UaStatusCodeError:
        raise
    except (UaError, InvalidSignature, TypeError) as error:  # the last where there is no signature at all
        text = "it did not prove in CreateSession that the certificate it showed is its own"
        do = "Check that nobody answers in the server's place; restart the server if it has a new certificate."
        raise untrusted(section.address, "BadCertificateInvalid", text, do) from error
    offer = choose(created.ServerEndpoints, section)
    policies = offer.UserIdentityTokens or []
    if section.security.policy == "None":
        return Created(None, created.ServerNonce or b"", policies)
    certificate = certificate_chain(created.ServerCertificate or b"")[0]
    if offer.Server.ApplicationUri not in uris(certificate):
        text = f"its certificate is not made out to {offer.Server.ApplicationUri}"
        raise untrusted(section.address, "BadCertificateUriInvalid", text, "Renew the certificate at the server.")
    if _essence(created.ServerEndpoints) != _essence(offers):
        text = "it offers other endpoints in the secured channel than it, or somebody in between, did before"
        raise untrusted(
            section.address, "BadSecurityChecksFailed", text, "Check that nobody answers in the server's place."
        )
    if len(created.ServerNonce or b"") < _NONCE_BYTES:
        text = "its nonce is too short to prove anything"
        raise untrusted(section.address, "BadNonceInvalid", text, "Update the server's firmware.")
    return Created(certificate, created.ServerNonce, policies)


def _essence(offers: Iterable[ua.EndpointDescription]) -> set[Any]:
    """Give what a client compares of the endpoints (OPC 10000-4 section 5.7.2, serverEndpoints).

    Not their URLs: a server with many addresses may name another one in each answer, and we go to the configured one.
    """
    return {
        (
            offer.SecurityPolicyUri or NO_POLICY,
            offer.SecurityMode,
            offer.Server.ApplicationUri,
            offer.TransportProfileUri,
            offer.SecurityLevel,
            frozenset(
                (token.PolicyId, token.TokenType, token.SecurityPolicyUri or "", token.IssuedTokenType or "")
                for token in offer.UserIdentityTokens or []
            ),
        )
        for offer in offers
        if _is_tcp(offer)
    }


def _is_tcp(offer: ua.EndpointDescription) -> bool:
    return (offer.EndpointUrl or "").startswith("opc.tcp:")
