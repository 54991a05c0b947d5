"""What every OPC UA test is held to: one server for all, nothing left behind, nothing logged by the library."""

import gc
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from opcua_certificates import Certificate, make_certificate
from opcua_peer import Peer, new_server

from simulators.opcua_server import OpcuaSimulator

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of this folder that use the server in the loop in which it lives."""
    for item in items:
        if item.path.parent == _HERE and "peer" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def server() -> AsyncIterator[Any]:
    """An address space that all tests share: building one takes seconds."""
    async with new_server() as server:
        gc.freeze()  # each test collects garbage, and need not look at this quarter of a million objects
        yield server
        gc.unfreeze()


@pytest.fixture(scope="session")
def certificate() -> Certificate:
    """The certificate of a server with which all is well."""
    return make_certificate()


@pytest_asyncio.fixture(loop_scope="session")
async def peer(server: Any, certificate: Certificate) -> AsyncIterator[Peer]:
    """A PLC that listens, without security unless the test starts it anew."""
    peer = Peer(server, certificate)
    await peer.clear()
    await peer.start()
    yield peer
    await peer.stop()
    await peer.clear()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def running() -> AsyncIterator[OpcuaSimulator]:
    """The simulated robot, for all tests of a file."""
    async with OpcuaSimulator() as simulator:
        yield simulator


@pytest_asyncio.fixture(loop_scope="module")
async def robot(running: OpcuaSimulator) -> AsyncIterator[OpcuaSimulator]:
    """The robot without a fault, and without a client of before."""
    await running.clear()
    running.faults.requests.clear()
    yield running
    await running.clear()
    await running.forget_subscriptions()
    await running.stop()  # forgets all sessions
    await running.start()


@pytest.fixture(autouse=True)
def nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail the test if the library logged, or an exception was never looked at."""
    caplog.set_level(logging.DEBUG)
    yield
    gc.collect()
    loud = [record for record in caplog.records if record.name.startswith(("asyncua", "asyncio"))]
    assert [record.getMessage() for record in loud if record.levelno >= logging.WARNING] == []
