"""The security policies that protect a channel or a secret, and no other (OPC 10000-7, SecurityPolicy facets).

Basic128Rsa15 and Basic256 rest on SHA-1 and are withdrawn: they are not here, not even for a user's token.
"""

from typing import Any, Final

from asyncua import ua
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyBasic256Sha256,
    SecurityPolicyNone,
)
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.drivers.opcua.security.section import Security

NO_POLICY: Final = SecurityPolicyNone.URI
POLICIES: Final[dict[str, Any]] = {
    "Basic256Sha256": SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": SecurityPolicyAes256Sha256RsaPss,
}
"""What a policy does, by the name that the config has for it."""
BY_URI: Final[dict[str, Any]] = {policy.URI: policy for policy in POLICIES.values()}
_MODES: Final = {"Sign": ua.MessageSecurityMode.Sign, "SignAndEncrypt": ua.MessageSecurityMode.SignAndEncrypt}
_PADDING: Final = {
    "Basic256Sha256": 42,
    "Aes128_Sha256_RsaOaep": 42,
    "Aes256_Sha256_RsaPss": 66,
}
"""Bytes of each RSA block that OAEP takes: twice the hash and two (RFC 8017, section 7.1.1)."""


def wanted(security: Security) -> tuple[str, ua.MessageSecurityMode]:
    """Give the URI of the configured policy, and the configured mode."""
    if security.policy == "None":
        return NO_POLICY, ua.MessageSecurityMode.None_
    return str(POLICIES[security.policy].URI), _MODES[security.mode]


def encrypt(secret: bytes, key: rsa.RSAPublicKey, policy_uri: str) -> tuple[bytes, str]:
    """Encrypt a user's secret in as many RSA blocks as it takes, and name the algorithm.

    The library would do so in one block, which is too short for a long password.
    """
    policy = BY_URI[policy_uri]
    size = key.key_size // 8 - _PADDING[policy_uri.rpartition("#")[2]]
    blocks = [secret[at : at + size] for at in range(0, len(secret), size)]
    return b"".join(policy.encrypt_asymmetric(key, block) for block in blocks), policy.AsymmetricEncryptionURI


def sign(message: bytes, key: rsa.RSAPrivateKey, policy_uri: str) -> ua.SignatureData:
    """Sign with a user's key."""
    policy = BY_URI[policy_uri]
    return ua.SignatureData(Algorithm=policy.AsymmetricSignatureURI, Signature=policy.sign_asymmetric(key, message))
