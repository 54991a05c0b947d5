"""Who logs in to a session, and how the proof of it travels (OPC 10000-4 sections 5.7.3, 7.40, 7.41).

A password goes encrypted by itself, or in an encrypted channel; a user's certificate goes with a signature over the
server's certificate and its nonce. Both only to the server that was verified, and never under a withdrawn policy.
"""

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from asyncua import ua
from asyncua.client.client import Client
from asyncua.ua.uaerrors import UaStatusCodeError
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.drivers.opcua.faults import login_refused
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.security.pki import certificates_of
from gateway.drivers.opcua.security.policies import BY_URI, NO_POLICY, encrypt, sign, wanted
from gateway.drivers.opcua.security.trust import KEY_BITS
from gateway.drivers.opcua.types.values import status_name
from gateway.errors import DeviceError, GatewayError
from gateway.files import reason
from gateway.model import DeviceState

_LOCALES: Final = ["en"]


@dataclass(frozen=True, slots=True)
class Created:
    """A session that waits for its user: the certificate that the server proved to own (None: it needed to prove
    nothing), its nonce, and how it lets users in."""

    certificate: x509.Certificate | None
    nonce: bytes
    policies: Sequence[ua.UserTokenPolicy]

    @property
    def challenge(self) -> bytes:
        """What is signed: only the holder of this certificate has use for the signature, and only once."""
        return (self.certificate.public_bytes(Encoding.DER) if self.certificate else b"") + self.nonce

    def policies_of(self, kind: ua.UserTokenType) -> list[ua.UserTokenPolicy]:
        """Give the ways in for one kind of user."""
        return [policy for policy in self.policies if policy.TokenType == kind]


async def log_in(client: Client, section: OpcuaDevice, created: Created) -> Created:
    """Activate the session as the configured user; gives what its next login answers to.

    Raises DeviceError, or what the library raises.
    """
    security: Any = client.security_policy
    parameters = ua.ActivateSessionParameters()
    parameters.LocaleIds = _LOCALES
    if security.AsymmetricSignatureURI:
        signature = security.asymmetric_cryptography.signature(created.challenge)
        parameters.ClientSignature = ua.SignatureData(Algorithm=security.AsymmetricSignatureURI, Signature=signature)
    if section.user_cert_file is not None and section.user_key_file is not None:
        await _with_certificate(parameters, section, created, section.user_cert_file, section.user_key_file)
    elif section.username is not None:
        parameters.UserIdentityToken = await _with_password(section, created)
    else:
        parameters.UserIdentityToken = _anonymous(section, created)
    try:
        activated = await client.uaclient.activate_session(parameters)
    except UaStatusCodeError as error:
        name = status_name(error.code)
        if section.user_cert_file is not None and name.startswith("BadCertificate"):
            raise login_refused(section.address, name) from error  # it speaks of the user's, having taken ours before
        raise
    return replace(created, nonce=activated.ServerNonce or b"")


def _anonymous(section: OpcuaDevice, created: Created) -> ua.AnonymousIdentityToken:
    policies = created.policies_of(ua.UserTokenType.Anonymous)
    if created.policies and not policies:
        raise login_refused(section.address, "BadIdentityTokenRejected")
    return ua.AnonymousIdentityToken(PolicyId=policies[0].PolicyId if policies else "anonymous")


async def _with_password(section: OpcuaDevice, created: Created) -> ua.UserNameIdentityToken:
    policy, uri = password_policy(created.policies_of(ua.UserTokenType.UserName), section)
    password = (await asyncio.to_thread(_password, section)).encode()
    token = ua.UserNameIdentityToken(PolicyId=policy.PolicyId, UserName=section.username, Password=password)
    if uri != NO_POLICY:
        key = created.certificate.public_key() if created.certificate else None
        if not isinstance(key, rsa.RSAPublicKey):
            raise login_refused(section.address, "BadIdentityTokenRejected")
        secret = struct.pack("<I", len(password) + len(created.nonce)) + password + created.nonce
        token.Password, token.EncryptionAlgorithm = encrypt(secret, key, uri)
    return token


async def _with_certificate(
    parameters: ua.ActivateSessionParameters, section: OpcuaDevice, created: Created, cert_file: Path, key_file: Path
) -> None:
    policy, uri = certificate_policy(created.policies_of(ua.UserTokenType.Certificate), section)
    certificate, key = await asyncio.to_thread(_user_certificate, cert_file, key_file)
    parameters.UserIdentityToken = ua.X509IdentityToken(
        PolicyId=policy.PolicyId, CertificateData=certificate.public_bytes(Encoding.DER)
    )
    parameters.UserTokenSignature = sign(created.challenge, key, uri)


def password_policy(policies: Sequence[ua.UserTokenPolicy], section: OpcuaDevice) -> tuple[ua.UserTokenPolicy, str]:
    """Choose how to send the password: encrypted by itself if the server can, else in an encrypted channel only.

    Gives the server's policy and the URI of the algorithms. Raises DeviceError where it would be readable on the way.
    """
    if (strong := _strong(policies, section)) is not None:
        return strong
    _, mode = wanted(section.security)
    for policy in policies:
        if mode == ua.MessageSecurityMode.SignAndEncrypt and policy.SecurityPolicyUri == NO_POLICY:
            return policy, NO_POLICY
    raise _insufficient(
        f"{section.address} wants the password in a form that others on the way can read",
        "Write mode: SignAndEncrypt under `security`, or let the server take passwords under a newer policy.",
    )


def certificate_policy(policies: Sequence[ua.UserTokenPolicy], section: OpcuaDevice) -> tuple[ua.UserTokenPolicy, str]:
    """Choose how to sign as a user: gives the server's policy and the URI of the algorithms. Raises DeviceError."""
    if (strong := _strong(policies, section)) is not None:
        return strong
    raise _insufficient(
        f"{section.address} wants the user's signature under a withdrawn policy, or under none",
        "Let the server take user certificates under one of the policies of the gateway's config.",
    )


def _strong(policies: Sequence[ua.UserTokenPolicy], section: OpcuaDevice) -> tuple[ua.UserTokenPolicy, str] | None:
    """Give the first policy that protects a secret by itself; one without a URI takes the channel's."""
    if not policies:
        raise login_refused(section.address, "BadIdentityTokenRejected")
    channel, _ = wanted(section.security)
    if channel == NO_POLICY:
        return None
    uris = [policy.SecurityPolicyUri or channel for policy in policies]
    return next(((policy, uri) for policy, uri in zip(policies, uris, strict=True) if uri in BY_URI), None)


def _insufficient(text: str, do: str) -> DeviceError:
    return DeviceError(text, reason="BadSecurityModeInsufficient", state=DeviceState.CONFIG_ERROR, do=do)


def _password(section: OpcuaDevice) -> str:
    try:
        return section.password.reveal() if section.password is not None else ""
    except GatewayError as error:
        raise _unusable(str(error), error.do) from error


def _user_certificate(cert_file: Path, key_file: Path) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    """Read the files as they are now: they may be rotated at any time."""
    do = "Write a certificate and its RSA key of 2048 to 4096 bits, as PEM or DER, the key without a passphrase."
    try:
        certificates, content = certificates_of(cert_file), key_file.read_bytes()
    except OSError as error:
        raise _unusable(f"cannot read {error.filename}: {reason(error)}", "Make it readable.") from error
    load: Any = serialization.load_der_private_key
    if b"-----BEGIN" in content:
        load = serialization.load_pem_private_key
    try:
        key = load(content, password=None)
    except (ValueError, TypeError):
        raise _unusable(f"{key_file} holds no private key that can be used without a passphrase", do) from None
    if not certificates:
        raise _unusable(f"{cert_file} holds no certificate", do)
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size not in KEY_BITS:
        raise _unusable(f"{key_file} is no RSA key of 2048 to 4096 bits", do)
    if key.public_key() != certificates[0].public_key():
        raise _unusable(f"{cert_file} does not belong to {key_file}", do)
    return certificates[0], key


def _unusable(text: str, do: str) -> DeviceError:
    return DeviceError(text, reason="BadIdentityTokenInvalid", state=DeviceState.AUTH_ERROR, do=do)
