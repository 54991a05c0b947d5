"""The OPC UA simulator speaks right and fails on demand: asyncua's client looks at it from outside."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256
from asyncua.crypto.truststore import TrustStore
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from simulators import OpcuaSimulator
from simulators.robot import NAMESPACE, VARIABLES

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT_S = 20.0
SPEED = "Robot.Axis1.Speed"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpcuaSimulator]:
    """One server for all tests here: it takes seconds to build."""
    async with OpcuaSimulator(pki_dir=tmp_path_factory.mktemp("robot")) as simulator:
        yield simulator


@pytest_asyncio.fixture(loop_scope="module")
async def simulator(shared: OpcuaSimulator) -> AsyncIterator[OpcuaSimulator]:
    yield shared
    shared.namespaces_before.clear()
    await shared.clear()
    await shared.start()


def connected(simulator: OpcuaSimulator) -> AbstractAsyncContextManager[Client]:
    return Client(simulator.endpoint, timeout=LIMIT_S)


async def node(client: Client, path: str) -> Any:
    return client.get_node(ua.NodeId(path, await client.get_namespace_index(NAMESPACE)))


async def value_of(client: Client, path: str) -> ua.DataValue:
    shown: ua.DataValue = await (await node(client, path)).read_data_value(raise_on_bad_status=False)
    return shown


async def test_each_variable_has_its_type_value_and_source_timestamp(simulator: OpcuaSimulator) -> None:
    await simulator.step()
    async with connected(simulator) as client:
        stamps = set()
        for variable in VARIABLES:
            shown = await value_of(client, variable.path)
            assert shown.Value is not None
            assert shown.Value.VariantType is ua.VariantType[variable.type], variable.path
            wanted = variable.read(simulator.robot)
            assert shown.Value.Value == (pytest.approx(wanted, rel=1e-6) if isinstance(wanted, float) else wanted)
            stamps.add(shown.SourceTimestamp)
    assert len(stamps) == 1, "one step, one source timestamp"


async def test_the_nodes_lie_in_objects_that_a_person_can_browse(simulator: OpcuaSimulator) -> None:
    async with connected(simulator) as client:
        index = await client.get_namespace_index(NAMESPACE)
        path = [f"{index}:{name}" for name in ("Robot", "Axis1", "Speed")]
        found = await client.nodes.objects.get_child(path)
        assert found.nodeid == ua.NodeId(SPEED, index)


async def test_an_analog_variable_tells_its_unit_and_range(simulator: OpcuaSimulator) -> None:
    async with connected(simulator) as client:
        temperature = await node(client, "Robot.Axis1.Temperature")
        assert (await temperature.read_type_definition()).Identifier == ua.ObjectIds.AnalogItemType
        unit = await (await temperature.get_child("0:EngineeringUnits")).read_value()
        assert (unit.UnitId, unit.DisplayName.Text) == (4408652, "Cel")
        limits = await (await temperature.get_child("0:EURange")).read_value()
        assert (limits.Low, limits.High) == (0.0, 120.0)


async def test_a_subscriber_gets_every_count_of_the_counter_in_order(simulator: OpcuaSimulator) -> None:
    async with connected(simulator) as client, asyncio.timeout(LIMIT_S):
        subscription = await client.create_subscription(50)
        await subscription.subscribe_data_change(await node(client, "Robot.Counter"), queuesize=100)
        first = simulator.robot.ticks
        for _ in range(20):
            await simulator.step()
        seen: list[int] = []
        while not seen or seen[-1] < first + 20:
            event = await subscription.next_event(timeout=LIMIT_S)
            seen.append(event.value)
    assert seen == list(range(first, first + 21))


async def test_the_clock_of_the_robot_gives_the_source_timestamps(shared: OpcuaSimulator, tmp_path: Path) -> None:
    noon = datetime(2026, 5, 1, 12, tzinfo=UTC)
    async with OpcuaSimulator(pki_dir=tmp_path, clock=lambda: noon) as simulator, connected(simulator) as client:
        assert (await value_of(client, "Robot.Counter")).SourceTimestamp == noon


async def secure_client(simulator: OpcuaSimulator, folder: Path) -> Client:
    """A client that trusts the simulator's certificate and no other, and has made its own on the spot."""
    client = Client(simulator.endpoint, timeout=LIMIT_S)
    client.application_uri = "urn:edge-gateway:test-client"
    key, certificate = folder / "key.pem", folder / "certificate.der"
    usage: list[x509.ObjectIdentifier] = [ExtendedKeyUsageOID.CLIENT_AUTH]
    await setup_self_signed_certificate(key, certificate, client.application_uri, "localhost", usage, {})
    trusted = folder / "trusted"
    trusted.mkdir()
    (trusted / "robot.der").write_bytes(simulator.certificate_path.read_bytes())
    store = TrustStore([trusted], [])
    await store.load()
    client.certificate_validator = CertificateValidator(
        CertificateValidatorOptions.TRUSTED_VALIDATION | CertificateValidatorOptions.PEER_SERVER, store
    )
    await client.set_security(
        SecurityPolicyBasic256Sha256, certificate, key, mode=ua.MessageSecurityMode.SignAndEncrypt
    )
    return client


async def test_a_user_reads_over_an_encrypted_channel_that_trusts_the_certificate(
    simulator: OpcuaSimulator, tmp_path: Path
) -> None:
    client = await secure_client(simulator, tmp_path)
    client.set_user("gateway")
    client.set_password("gateway-secret")
    async with client:
        assert (await value_of(client, "Robot.Name")).Value.Value == "Feeder 1"


async def test_a_wrong_password_is_refused(simulator: OpcuaSimulator, tmp_path: Path) -> None:
    client = await secure_client(simulator, tmp_path)
    client.set_user("gateway")
    client.set_password("guess")
    with pytest.raises(ua.uaerrors.BadUserAccessDenied):
        await client.connect()


async def test_only_none_and_basic256sha256_sign_and_encrypt_are_offered(simulator: OpcuaSimulator) -> None:
    async with connected(simulator) as client:
        offered = await client.get_endpoints()
    assert {(str(e.SecurityPolicyUri).rpartition("#")[2], e.SecurityMode.name) for e in offered} == {
        ("None", "None_"),
        ("Basic256Sha256", "SignAndEncrypt"),
    }
    assert {e.EndpointUrl for e in offered} == {simulator.endpoint}


async def test_a_folder_used_again_gives_the_same_certificate(simulator: OpcuaSimulator) -> None:
    first = simulator.certificate_path.read_bytes()
    again = OpcuaSimulator(pki_dir=simulator.certificate_path.parent)
    assert again.certificate_path.read_bytes() == first


@pytest.mark.changes_a_plc
async def test_a_write_is_refused_and_counted(simulator: OpcuaSimulator) -> None:
    before = simulator.writes
    async with connected(simulator) as client:
        with pytest.raises(ua.UaStatusCodeError):
            await (await node(client, SPEED)).write_value(1.0)
    assert simulator.writes == before + 1


async def test_a_restart_ends_sessions_and_keeps_port_and_nodes(simulator: OpcuaSimulator) -> None:
    port = simulator.port
    client = Client(simulator.endpoint, timeout=LIMIT_S)
    await client.connect()
    await client.create_subscription(100)
    counter = await node(client, "Robot.Counter")
    assert simulator.sessions == 1
    await simulator.stop()
    assert simulator.sessions == 0
    with pytest.raises(OSError, match="onnect"):
        await asyncio.open_connection("127.0.0.1", port)
    await simulator.start()
    with pytest.raises((OSError, ua.UaError)):
        await counter.read_value()
    client.disconnect_socket()
    assert simulator.port == port
    async with connected(simulator) as client:
        assert (await value_of(client, "Robot.Counter")).Value.Value == simulator.robot.ticks


async def test_a_cut_leaves_the_session_of_a_subscriber_alive(simulator: OpcuaSimulator) -> None:
    client = Client(simulator.endpoint, timeout=LIMIT_S)
    await client.connect()
    await client.create_subscription(100)
    await simulator.cut()
    client.disconnect_socket()
    async with connected(simulator):
        assert simulator.sessions == 2
    await simulator.stop()


async def test_a_rebuild_can_move_the_namespace_index(simulator: OpcuaSimulator) -> None:
    simulator.namespaces_before.append("urn:example:new-in-this-program")
    await simulator.rebuild()
    async with connected(simulator) as client:
        assert await client.get_namespace_index(NAMESPACE) == 3
        assert (await value_of(client, "Robot.Counter")).Value.Value == simulator.robot.ticks


async def test_frozen_nothing_comes_and_resumed_the_answer_does(simulator: OpcuaSimulator) -> None:
    async with connected(simulator) as client:
        counter = await node(client, "Robot.Counter")
        simulator.freeze()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(counter.read_value(), name="read while frozen")
            done, _ = await asyncio.wait([reading], timeout=0.2)
            assert not done
            simulator.resume()
        assert reading.result() == simulator.robot.ticks


async def test_a_status_code_is_shown_and_a_bad_one_has_no_value(simulator: OpcuaSimulator) -> None:
    async with connected(simulator) as client:
        await simulator.status(SPEED, "BadSensorFailure")
        shown = await value_of(client, SPEED)
        assert (shown.StatusCode.name, shown.Value.Value) == ("BadSensorFailure", None)
        await simulator.status(SPEED, "UncertainLastUsableValue")
        shown = await value_of(client, SPEED)
        assert (shown.StatusCode.name, shown.Value.Value) == (
            "UncertainLastUsableValue",
            simulator.robot.axes[0].speed,
        )
        await simulator.status(SPEED)
        assert (await value_of(client, SPEED)).StatusCode.is_good()


async def test_a_float_node_reads_nan_until_told_otherwise(simulator: OpcuaSimulator) -> None:
    async with connected(simulator) as client:
        await simulator.nan("Robot.Gripper.Pressure")
        await simulator.step()
        assert math.isnan((await value_of(client, "Robot.Gripper.Pressure")).Value.Value)
        await simulator.nan("Robot.Gripper.Pressure", on=False)
        assert not math.isnan((await value_of(client, "Robot.Gripper.Pressure")).Value.Value)


async def test_a_removed_node_tells_its_subscriber_and_is_gone_until_restored(
    simulator: OpcuaSimulator, recwarn: pytest.WarningsRecorder
) -> None:
    async with connected(simulator) as client, asyncio.timeout(LIMIT_S):
        subscription = await client.create_subscription(50)
        await subscription.subscribe_data_change(await node(client, SPEED), queuesize=10)
        await simulator.remove(SPEED)
        status = None
        while status != "BadNodeIdUnknown":
            event = await subscription.next_event(timeout=LIMIT_S)
            status = event.data.monitored_item.Value.StatusCode.name
        assert (await value_of(client, SPEED)).StatusCode.name == "BadNodeIdUnknown"
        assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]
        await simulator.step()
        await simulator.restore(SPEED)
        assert (await value_of(client, SPEED)).Value.Value == simulator.robot.axes[0].speed


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [("Robot.Nose", "Good", "the robot has no node 'Robot.Nose'"), (SPEED, "Sad", "'Sad' is not an OPC UA status")],
)
async def test_an_unknown_node_or_status_is_one_sentence(
    simulator: OpcuaSimulator, path: str, status: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        await simulator.status(path, status)


async def test_a_text_node_cannot_be_nan(simulator: OpcuaSimulator) -> None:
    with pytest.raises(ValueError, match=r"Robot\.Name is not a Float or Double"):
        await simulator.nan("Robot.Name")
