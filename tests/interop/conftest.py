"""One node-opcua for all tests that need no server of their own: it takes seconds to start."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.interop.node_opcua import NodeServer, node_server


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeServer]:
    """Run a server with the limits of a small PLC. Each test adds variables of its own, under names of its own."""
    limits = {"maxNodesPerRead": 100, "maxMonitoredItemsPerCall": 200, "maxNodesPerBrowse": 100}
    async with node_server(tmp_path_factory.mktemp("node-opcua"), limits=limits) as server:
        yield server
