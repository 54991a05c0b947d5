"""A walk through an address space: continuation points, cycles, bounds, and 100,000 nodes."""

import struct
from collections.abc import Sequence

import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_to_binary

from gateway.drivers.opcua.browse import Bounds, Choice, Node, Walk
from gateway.drivers.opcua.nodes import canonical
from gateway.drivers.opcua.pages import Page, Reference, read_pages
from gateway.drivers.opcua.tag import parse_node
from gateway.errors import DeviceError

Tree = dict[str, list[str]]


class Scripted:
    """A server's address space by names: at most so many references a page, and so many open continuation points."""

    def __init__(self, tree: Tree, page: int = 1000, points: int = 1000) -> None:
        self.tree = tree
        self.page = page
        self.most_points = points
        self.open: dict[bytes, tuple[str, int]] = {}
        self.asked: list[str] = []

    async def first(self, nodes: Sequence[str]) -> list[Page]:
        self.asked += nodes
        return [self._page(node, 0) for node in nodes]

    async def more(self, points: Sequence[bytes], *, release: bool = False) -> list[Page]:
        taken = [self.open.pop(point) for point in points]
        return [] if release else [self._page(*each) for each in taken]

    def _page(self, node: str, at: int) -> Page:
        if node not in self.tree:
            return Page(StatusCodes.BadNodeIdUnknown, b"", [], node)
        names = self.tree[node]
        end, point = at + self.page, b""
        if end < len(names):
            if len(self.open) >= self.most_points:
                return Page(StatusCodes.BadNoContinuationPoints, b"", [], node)
            point = f"{node}/{end}".encode()
            self.open[point] = (node, end)
        return Page(0, point, [Reference("i=35", name, name, 2) for name in names[at:end]], node)


async def walked(pages: Scripted, **keys: object) -> list[Node]:
    return [node async for node in Walk(pages, "start", **keys).nodes()]  # type: ignore[arg-type]


async def test_continuation_points_are_followed_to_the_end() -> None:
    pages = Scripted({"start": ["a", "b"], "a": [f"a{n}" for n in range(25)], "b": [f"b{n}" for n in range(7)]}, page=3)
    found = await walked(pages)
    assert [node.path for node in found if node.depth == 2] == [f"a.a{n}" for n in range(25)] + [
        f"b.b{n}" for n in range(7)
    ]
    assert pages.open == {}


async def test_a_server_without_free_continuation_points_is_asked_node_by_node() -> None:
    branches = [f"branch{n}" for n in range(5)]
    tree = {"start": branches, **{branch: [f"{branch}-{n}" for n in range(9)] for branch in branches}}
    tree |= {leaf: [] for branch in branches for leaf in tree[branch]}
    pages = Scripted(tree, page=4, points=1)
    pages.page = 5
    found = await walked(pages)
    assert sum(node.depth == 2 for node in found) == 45
    assert not any(node.fault for node in found)
    assert pages.open == {}


async def test_each_node_is_met_once_in_an_address_space_with_cycles() -> None:
    pages = Scripted({"start": ["a", "b"], "a": ["b", "start", "a"], "b": ["a", "c"], "c": []})
    assert [node.path for node in await walked(pages)] == ["a", "b", "b.c"]
    assert sorted(pages.asked) == ["a", "b", "c", "start"]


async def test_a_walk_ends_at_its_depth_and_asks_there_only_for_what_variables_have_of_their_own() -> None:
    pages = Scripted({"start": ["a"], "a": ["b"], "b": ["c"], "c": []})
    assert [node.path for node in await walked(pages, bounds=Bounds(depth=2))] == ["a", "a.b"]
    assert pages.asked == ["start", "a", "b"]


async def test_too_many_nodes_end_the_walk_and_free_the_continuation_points() -> None:
    pages = Scripted({"start": [f"n{n}" for n in range(1000)]}, page=10)
    with pytest.raises(DeviceError, match="more than 50 nodes"):
        await walked(pages, bounds=Bounds(most=50))
    assert pages.open == {}


async def test_what_is_excluded_is_not_asked_for() -> None:
    pages = Scripted({"start": ["a", "b"], "a": ["x"], "b": ["y"], "x": [], "y": []})
    assert [node.path for node in await walked(pages, choice=Choice(exclude=("a",)))] == ["b", "b.y"]
    assert "a" not in pages.asked


async def test_a_node_that_vanished_meanwhile_costs_no_other() -> None:
    found = await walked(Scripted({"start": ["gone", "a"], "a": []}))
    assert [(node.path, node.fault) for node in found] == [("gone", "BadNodeIdUnknown"), ("a", "")]


async def test_a_hundred_thousand_nodes_are_walked_with_progress() -> None:
    branches = [f"branch{n}" for n in range(100)]
    tree: Tree = {"start": branches, **{branch: [f"{branch}.{n}" for n in range(1000)] for branch in branches}}
    tree |= {leaf: [] for branch in branches for leaf in tree[branch]}
    told: list[int] = []
    count = 0
    async for _ in Walk(Scripted(tree, page=300), "start", tell=told.append).nodes():
        count += 1
    assert count == 100_100
    assert told[-1] == 100_101
    assert told == sorted(told)


def test_references_of_every_kind_of_node_id_are_taken_apart() -> None:
    ids = [ua.NodeId(7), ua.NodeId(300, 2), ua.NodeId(70000, 300), ua.NodeId("a;b", 2), ua.NodeId(b"\x00\xff", 3)]
    references = [
        ua.ReferenceDescription(
            ReferenceTypeId=ua.NodeId(46), IsForward=True, NodeId=node, BrowseName=ua.QualifiedName("Ä", 2),
            DisplayName=ua.LocalizedText("text", "en"), NodeClass=ua.NodeClass.Variable, TypeDefinition=ua.NodeId(63),
        )
        for node in ids
    ]  # fmt: skip
    answer = ua.BrowseResponse(Results=[ua.BrowseResult(ContinuationPoint=b"more", References=references)])
    data = struct_to_binary(answer)
    (page,) = read_pages(Buffer(data))
    assert (page.status, page.point) == (0, b"more")
    texts = ["i=7", "ns=2;i=300", "ns=300;i=70000", "ns=2;s=a;b", "ns=3;b=AP8="]
    assert page.references == [Reference("i=46", text, "Ä", 2) for text in texts]
    for end in range(len(data) - 8):
        with pytest.raises((struct.error, LookupError, ValueError, ua.UaError, EOFError, TypeError)):
            read_pages(Buffer(data[:end]))


@pytest.mark.parametrize("text", ["b=A", "ns=2;b=AAA", "b=AA=", "nsu=urn:x;b=AAAAA"])
def test_a_node_id_whose_base64_is_not_whole_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not whole base64"):
        parse_node(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ns=1;s=a;b", "nsu=urn:x%3By;s=a;b"),
        ("nsu=urn:x%3By;s=a", "nsu=urn:x%3By;s=a"),
        ("i=85", "i=85"),
        ("ns=0;i=85", "i=85"),
        ("ns=7;i=1", "ns=7;i=1"),
    ],
)
def test_node_ids_are_written_in_one_way(text: str, written: str) -> None:
    assert canonical(text, ["http://opcfoundation.org/UA/", "urn:x;y"]) == written
