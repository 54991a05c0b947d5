"""How a connection to an OPC UA server is protected: the key `security` of a device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from gateway.checked import Checked, Fault
from gateway.drivers.base import Section
from gateway.files import ConfigPath


class Security(Checked, Section):
    """How the connection is protected, and where the certificates are."""

    policy: Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "None"] = Field(
        default="Basic256Sha256", description="None needs insecure: true"
    )
    mode: Literal["Sign", "SignAndEncrypt"] = Field(default="SignAndEncrypt", description="no meaning with policy None")
    pki_dir: ConfigPath = Field(
        default=Path("/var/lib/edge-gateway/pki"), description="holds own/ trusted/ issuers/ rejected/"
    )
    insecure: bool = Field(default=False, description="true: allow policy None; health says so")

    @model_serializer(mode="wrap")
    def _without_mode(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the mode where there is none, so that what was written out can be read again."""
        return {key: value for key, value in dump(self).items() if key != "mode" or self.policy != "None"}

    def faults(self) -> Iterator[Fault]:
        """Give an open channel that nobody asked for in so many words."""
        yield from super().faults()
        if self.policy == "None" and not self.insecure:
            yield Fault(("policy",), "None sends everything in clear; write insecure: true beside it if that is wanted")
        if self.policy == "None" and "mode" in self.model_fields_set:
            yield Fault(("mode",), f"{self.mode} needs a policy; write policy: Basic256Sha256, or remove mode")
        if self.policy != "None" and self.insecure:
            yield Fault(("insecure",), "insecure: true goes with policy: None only; remove it")
