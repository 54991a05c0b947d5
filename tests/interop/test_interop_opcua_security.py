"""Every policy, mode and kind of user against node-opcua, whose certificate is trusted, or is not."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gateway.drivers.base import Shared
from gateway.errors import DeviceError
from gateway.model import DeviceState
from simulators.opcua_server import utc_now
from tests.interop.node_opcua import BOUND_S, NodeServer

pytestmark = pytest.mark.asyncio(loop_scope="session")
POLICIES = ["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
MODES = ["Sign", "SignAndEncrypt"]


@pytest_asyncio.fixture(loop_scope="session", scope="module", autouse=True)
async def _variables(server: NodeServer) -> None:
    await server.add(speed=("Double", 1.5))


@pytest.fixture(scope="module")
def pki(server: NodeServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates in which the server's is trusted."""
    folder = tmp_path_factory.mktemp("pki")
    (folder / "trusted").mkdir()
    (folder / "trusted" / "plc.der").write_bytes(server.certificate)
    return folder


def password(folder: Path, secret: str = "secret") -> dict[str, Any]:
    (folder / "password").write_text(secret)
    return {"username": "gateway", "password": {"file": str(folder / "password")}}


def user_certificate(folder: Path) -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the gateway's user")])
    validity = utc_now().replace(year=utc_now().year - 1), utc_now().replace(year=utc_now().year + 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), *validity)
    certificate = builder.sign(key, hashes.SHA256())
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "user.crt").write_bytes(certificate.public_bytes(pem))
    (folder / "user.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none))
    return {"user_cert_file": str(folder / "user.crt"), "user_key_file": str(folder / "user.key")}


def login(folder: Path, kind: str) -> dict[str, Any]:
    if kind == "anonymous":
        return {}
    return password(folder) if kind == "password" else user_certificate(folder)


async def speed(server: NodeServer, **keys: Any) -> Any:
    async with (
        asyncio.timeout(BOUND_S),
        server.section(["speed"], mode="poll", **keys).open(Shared("hall-3")) as driver,
    ):
        (sample,) = await driver.read((0,))
    return sample.values[0]


@pytest.mark.parametrize("kind", ["anonymous", "password", "certificate"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", POLICIES)
async def test_every_user_is_let_in_under_every_policy_and_mode(
    server: NodeServer, pki: Path, tmp_path: Path, policy: str, mode: str, kind: str
) -> None:
    security = {"policy": policy, "mode": mode, "pki_dir": str(pki)}
    assert await speed(server, security=security, **login(tmp_path, kind)) == 1.5


async def test_values_are_notified_in_an_encrypted_channel(server: NodeServer, pki: Path) -> None:
    security = {"policy": "Aes256_Sha256_RsaPss", "mode": "SignAndEncrypt", "pki_dir": str(pki)}
    device = server.section(["speed"], mode="subscribe", security=security)
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        async for notification in driver.changes():
            if notification.samples:
                assert notification.samples[0].values == (1.5,)
                return


async def test_a_wrong_password_is_told_as_a_refused_login(server: NodeServer, pki: Path, tmp_path: Path) -> None:
    security = {"policy": "Basic256Sha256", "pki_dir": str(pki)}
    with pytest.raises(DeviceError) as refused:
        await speed(server, security=security, **password(tmp_path, "guessed"))
    assert refused.value.state is DeviceState.AUTH_ERROR


async def test_a_server_that_nobody_trusts_gets_no_password_and_waits_in_rejected(
    server: NodeServer, tmp_path: Path
) -> None:
    security = {"policy": "Basic256Sha256", "pki_dir": str(tmp_path / "pki")}
    with pytest.raises(DeviceError) as refused:
        await speed(server, security=security, **password(tmp_path))
    assert refused.value.state is DeviceState.CERTIFICATE_ERROR
    assert [each.read_bytes() for each in (tmp_path / "pki" / "rejected").iterdir()] == [server.certificate]
