"""Finding tags at node-opcua: a folder of thousands, page by page, and references that lead in a circle."""

import asyncio

import pytest

from gateway.drivers.base import Shared
from tests.interop.node_opcua import BOUND_S, NodeServer, node

pytestmark = pytest.mark.asyncio(loop_scope="session")
MANY = 5200


async def test_a_subtree_of_thousands_that_leads_back_to_itself_becomes_tags_once_each(server: NodeServer) -> None:
    """One answer holds 1,000 references at most: the rest comes by continuation points."""
    await server.order("folder", name="hall", children=MANY, back="loop")
    before = await server.asked("BrowseNextRequest")
    subtree = {"from": node("hall"), "exclude": ["hall.7"]}
    device = server.section([], mode="poll", browse=subtree, max_requests_per_second=10_000)
    async with asyncio.timeout(BOUND_S), device.open(Shared("hall-3")) as driver:
        assert driver.section is not None
        found = {tag.name for tag in driver.section.tags}
        assert len(driver.section.tags) == MANY - 1
        assert found == {f"hall.{number}" for number in range(MANY)} - {"hall.7"}
        samples = await driver.read(tuple(range(MANY - 1)))
        read = {c: value for each in samples for c, value in zip(each.columns, each.values, strict=True)}
        assert read == {at: int(tag.name.rpartition(".")[2]) for at, tag in enumerate(driver.section.tags)}
    assert await server.asked("BrowseNextRequest") - before >= MANY // 1000
