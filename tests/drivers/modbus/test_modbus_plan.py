"""Tags are merged into as few requests as the limits allow, and none reads what nobody configured."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_line import field as make

from gateway.drivers.modbus.cost import Cost
from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.plan import Block, Limits, halves, plan
from gateway.drivers.modbus.tag import MAX_BITS

LENGTHS = {"uint16": 1, "float32": 2, "uint64": 4}


NETWORK = Cost(5_000_000, 2_000)
"""Nanoseconds: a request costs so much more than a register that as few requests as possible are best."""


def limits(registers: int, gap: int, cost: Cost = NETWORK) -> Limits:
    return Limits(registers, MAX_BITS, gap, cost)


def shape(blocks: tuple[Block, ...]) -> list[tuple[str, int, int]]:
    return [(block.table, block.start, block.count) for block in blocks]


registers = st.builds(
    lambda table, start, kind: make(f"{table}:{start}", kind),
    st.sampled_from(["holding", "input"]),
    st.one_of(st.integers(0, 60), st.integers(0, 65_000)),
    st.sampled_from(sorted(LENGTHS)),
)
bits = st.builds(
    lambda table, start: make(f"{table}:{start}", "bool"), st.sampled_from(["coil", "discrete"]), st.integers(0, 9000)
)
alarm_bits = st.builds(
    lambda start, bit: make(f"holding:{start}.{bit}", "bool"), st.integers(0, 60), st.integers(0, 15)
)
strings = st.builds(
    lambda start, length: make(f"input:{start}", "string", length=length), st.integers(0, 200), st.integers(1, 16)
)
tag_lists = st.lists(st.one_of(registers, bits, alarm_bits, strings), max_size=60)


def needed(tags: list[Field]) -> set[tuple[str, int]]:
    return {(tag.table, at) for tag in tags for at in range(*tag.span)}


@given(tag_lists, st.integers(8, 125), st.integers(0, 20))
def test_every_tag_is_in_exactly_one_block_that_holds_all_of_it(tags: list[Field], limit: int, gap: int) -> None:
    blocks = plan(tags, range(len(tags)), limits(limit, gap))
    assert sorted(column for block in blocks for column in block.columns) == list(range(len(tags)))
    for block in blocks:
        for column in block.columns:
            start, end = tags[column].span
            assert tags[column].table == block.table
            assert block.start <= start
            assert end <= block.start + block.count


@given(tag_lists, st.integers(8, 125), st.integers(0, 20))
def test_no_block_is_over_the_limit_and_there_are_never_more_than_tags(tags: list[Field], limit: int, gap: int) -> None:
    blocks = plan(tags, range(len(tags)), limits(limit, gap))
    assert len(blocks) <= len(tags)
    for block in blocks:
        assert block.count <= (MAX_BITS if block.table in ("coil", "discrete") else limit)


@given(tag_lists, st.integers(8, 125))
def test_without_max_gap_no_register_is_read_that_nobody_configured(tags: list[Field], limit: int) -> None:
    blocks = plan(tags, range(len(tags)), limits(limit, 0))
    assert {(b.table, at) for b in blocks for at in range(b.start, b.start + b.count)} == needed(tags)


@given(tag_lists, st.integers(8, 125), st.integers(0, 20))
def test_no_run_of_unconfigured_registers_is_longer_than_max_gap(tags: list[Field], limit: int, gap: int) -> None:
    wanted = needed(tags)
    for block in plan(tags, range(len(tags)), limits(limit, gap)):
        run = 0
        for at in range(block.start, block.start + block.count):
            run = 0 if (block.table, at) in wanted else run + 1
            assert run <= gap


@given(tag_lists, st.integers(8, 125), st.integers(0, 20), st.randoms())
def test_the_requests_do_not_depend_on_the_order_of_the_columns(
    tags: list[Field], limit: int, gap: int, random: Any
) -> None:
    columns = list(range(len(tags)))
    random.shuffle(columns)
    assert plan(tags, columns, limits(limit, gap)) == plan(tags, range(len(tags)), limits(limit, gap))


@given(tag_lists, st.integers(8, 125), st.integers(0, 20))
def test_halving_goes_on_until_one_range_holds_the_others_and_loses_no_tag(
    tags: list[Field], limit: int, gap: int
) -> None:
    for block in plan(tags, range(len(tags)), limits(limit, gap)):
        todo, leaves = [block], []
        while todo:
            parts = halves(tags, one := todo.pop())
            assert all(part.count < one.count for part in parts)
            todo += parts
            leaves += [] if parts else [one]
        assert sorted(column for leaf in leaves for column in leaf.columns) == sorted(block.columns)
        assert all(leaf.span in {tags[column].span for column in leaf.columns} for leaf in leaves)


def test_neighbours_of_one_table_share_a_request_and_tables_do_not() -> None:
    tags = [make("holding:1"), make("input:2"), make("holding:0"), make("coil:3", "bool"), make("discrete:3", "bool")]
    assert shape(plan(tags, range(5), limits(125, 0))) == [
        ("coil", 3, 1),
        ("discrete", 3, 1),
        ("holding", 0, 2),
        ("input", 2, 1),
    ]


def test_a_tag_that_would_cross_the_limit_opens_the_next_block_whole() -> None:
    tags = [make("holding:0"), make("holding:1", "uint64"), make("holding:5", "float32")]
    assert shape(plan(tags, range(3), limits(6, 0))) == [("holding", 0, 5), ("holding", 5, 2)]


def test_a_gap_is_read_over_only_up_to_max_gap() -> None:
    tags = [make("holding:0"), make("holding:4")]
    assert shape(plan(tags, range(2), limits(125, 2))) == [("holding", 0, 1), ("holding", 4, 1)]
    assert shape(plan(tags, range(2), limits(125, 3))) == [("holding", 0, 5)]


def test_two_thousand_coils_are_one_request_and_one_more_makes_two() -> None:
    tags = [make(f"coil:{at}", "bool") for at in range(2001)]
    assert shape(plan(tags, range(2000), limits(10, 0))) == [("coil", 0, 2000)]
    assert shape(plan(tags, range(2001), limits(10, 0))) == [("coil", 0, 2000), ("coil", 2000, 1)]


def test_overlapping_tags_are_read_once() -> None:
    tags = [make("holding:5.0", "bool"), make("holding:5.9", "bool"), make("holding:5"), make("holding:4", "float32")]
    assert shape(plan(tags, range(4), limits(125, 0))) == [("holding", 4, 2)]


def test_a_short_tag_inside_a_long_one_does_not_end_the_block() -> None:
    tags = [make("holding:0", "uint64"), make("holding:1"), make("holding:4")]
    assert shape(plan(tags, range(3), limits(125, 0))) == [("holding", 0, 5)]


def test_only_the_columns_that_are_due_are_read() -> None:
    tags = [make("holding:0"), make("holding:1"), make("holding:2")]
    assert shape(plan(tags, (0, 2), limits(125, 0))) == [("holding", 0, 1), ("holding", 2, 1)]


@pytest.mark.parametrize("tags", [[make("holding:5")], [make("holding:5.0", "bool"), make("holding:5.1", "bool")]])
def test_one_range_is_not_halved(tags: list[Field]) -> None:
    (block,) = plan(tags, range(len(tags)), limits(125, 0))
    assert halves(tags, block) == ()
