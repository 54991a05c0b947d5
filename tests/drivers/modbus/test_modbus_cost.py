"""Of all plans the one is made that keeps the line busy for the shortest time."""

import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modbus_line import field, unit
from modbus_peer import words

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.cost import Cost, cost_of
from gateway.drivers.modbus.fields import Field, fields_of
from gateway.drivers.modbus.plan import Block, Limits, better_gap, cover, limits_of, plan, total, unneeded
from gateway.drivers.modbus.section import ModbusRtuDevice, ModbusRtuOverTcpDevice
from gateway.drivers.modbus.tag import MAX_BITS

COSTS = [Cost(5_000_000, 2_000), Cost(30_000_000, 1_200_000), Cost(1_000_000, 1_000_000), Cost(1, 1_000_000)]


class Walls:
    """What is known of a unit, for a plan."""

    def __init__(self, walls: Iterable[tuple[int, int]] = (), most: int = MAX_BITS) -> None:
        self.walls = list(walls)
        self.largest = most

    def most(self, table: Table, configured: int) -> int:
        return min(configured, self.largest)

    def barriers(self, table: Table) -> Iterable[tuple[int, int]]:
        return self.walls


@st.composite
def small(draw: st.DrawFn) -> list[Field]:
    kinds = {1: "uint16", 2: "uint32", 4: "uint64"}
    return [
        field(f"holding:{draw(st.integers(0, 24))}", kinds[draw(st.sampled_from([1, 1, 1, 2, 4]))])
        for _ in range(draw(st.integers(1, 8)))
    ]


def is_allowed(fields: Sequence[Field], block: Block, limits: Limits, walls: Walls, wanted: set[int]) -> bool:
    """Whether a block keeps the rules, by their definition; what is larger by itself is exempt."""
    spans = {fields[column].span for column in block.columns}
    if block.span in spans:
        return True
    run = 0
    for at in range(*block.span):
        run = 0 if at in wanted else run + 1
        if run > limits.max_gap:
            return False
    if any(block.start <= start and end <= block.span[1] for start, end in walls.walls):
        return False
    return block.count <= walls.most("holding", limits.max_registers)


def partitions(columns: list[int]) -> Iterable[list[list[int]]]:
    """Give every way to sort columns into groups."""
    if not columns:
        yield []
        return
    first, *others = columns
    for groups in partitions(others):
        yield [[first], *groups]
        for number, group in enumerate(groups):
            yield [*groups[:number], [first, *group], *groups[number + 1 :]]


walls = st.lists(
    st.builds(lambda start, size: (start, start + size), st.integers(0, 24), st.integers(1, 4)), max_size=3
)


@settings(deadline=None, max_examples=200)
@given(small(), st.sampled_from(COSTS), st.integers(1, 20), st.integers(0, 10), walls)
def test_no_other_way_to_group_the_fields_costs_less(
    fields: list[Field], cost: Cost, most: int, gap: int, barriers: list[tuple[int, int]]
) -> None:
    limits, known = Limits(most, MAX_BITS, gap, cost), Walls(barriers)
    fields = list(dict.fromkeys(fields))[:6]
    wanted = {at for each in fields for at in range(*each.span)}
    columns = list(range(len(fields)))
    blocks = plan(fields, columns, limits, known)
    assert all(is_allowed(fields, block, limits, known, wanted) for block in blocks)
    grouped = ([cover(fields, group) for group in groups] for groups in partitions(columns))
    least = min(
        total(others, cost)
        for others in grouped
        if all(is_allowed(fields, block, limits, known, wanted) for block in others)
    )
    assert total(blocks, cost) == pytest.approx(least, rel=1e-12)


def greedy(fields: Sequence[Field], limits: Limits) -> list[Block]:
    """Merge from left to right as long as the limits allow."""
    blocks: list[list[int]] = []
    start = end = 0
    for column in sorted(range(len(fields)), key=lambda column: fields[column].span):
        first, last = fields[column].span
        if blocks and first - end <= limits.max_gap and max(end, last) - start <= limits.max_registers:
            blocks[-1].append(column)
        else:
            blocks.append([column])
            start = end = first
        end = max(end, last)
    return [cover(fields, block) for block in blocks]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 2000), min_size=1, max_size=200),
    st.sampled_from(COSTS),
    st.integers(4, 125),
    st.integers(0, 100),
)
def test_a_plan_costs_no_more_than_merging_from_left_to_right(
    starts: list[int], cost: Cost, most: int, gap: int
) -> None:
    fields = [field(f"holding:{start}", "float32") for start in starts]
    limits = Limits(most, MAX_BITS, gap, cost)
    assert total(plan(fields, range(len(fields)), limits), cost) <= total(greedy(fields, limits), cost) * (1 + 1e-12)


def test_a_gap_is_read_over_only_where_that_is_faster() -> None:
    fields = [field("holding:0"), field("holding:20")]
    slow, fast = Cost(30_000_000, 2_000_000), Cost(5_000_000, 2_000)
    assert [block.count for block in plan(fields, (0, 1), Limits(125, 2000, 124, slow))] == [1, 1]
    assert [block.count for block in plan(fields, (0, 1), Limits(125, 2000, 124, fast))] == [21]


def test_the_cost_of_a_serial_line_follows_from_its_baud_rate() -> None:
    keys = {"name": "m", "protocol": "modbus-rtu", "tags": words(0)}
    slow = cost_of(ModbusRtuDevice.model_validate({**keys, "serial": {"port": "/dev/ttyS0", "baudrate": 9600}}))
    fast = cost_of(ModbusRtuDevice.model_validate({**keys, "serial": {"port": "/dev/ttyS0", "baudrate": 115200}}))
    assert slow.register_ns == pytest.approx(2 * 11 / 9600 * 1e9, rel=1e-6)  # two characters of 11 bits
    assert slow.request_ns == pytest.approx((13 + 2 * 3.5) * 11 / 9600 * 1e9 + 10e6, rel=1e-6)
    assert fast.request_ns == pytest.approx(13 * 11 / 115200 * 1e9 + 2 * 1.75e6 + 10e6, rel=1e-6)
    assert slow.seconds([("holding", 16)]) == pytest.approx(slow.seconds([("coil", 256)]))


def test_a_request_delay_is_part_of_each_requests_cost() -> None:
    without, with_delay = cost_of(unit(words(0))), cost_of(unit(words(0), request_delay="100ms"))
    assert with_delay.request_ns - without.request_ns == 100_000_000
    serial = {"port": "/dev/ttyS0", "baudrate": 9600}
    rtu = {"name": "m", "protocol": "modbus-rtu", "tags": words(0), "serial": serial}
    short = cost_of(ModbusRtuDevice.model_validate({**rtu, "request_delay": "1ms"}))
    assert short == cost_of(ModbusRtuDevice.model_validate(rtu))  # the silence between frames is longer


def test_a_serial_line_behind_a_converter_is_taken_for_one() -> None:
    keys = {"name": "m", "protocol": "modbus-rtu-over-tcp", "host": "192.0.2.10", "tags": words(0)}
    assert cost_of(ModbusRtuOverTcpDevice.model_validate(keys)).register_ns > cost_of(unit(words(0))).register_ns


def test_what_a_larger_max_gap_would_save_can_be_told() -> None:
    section = unit(words(0, 3, 9, 60))
    fields, limits = fields_of(section).all, limits_of(section)
    columns = range(len(fields))
    gap, blocks = better_gap(fields, columns, limits)
    assert (gap, [(block.start, block.count) for block in blocks]) == (50, [(0, 61)])
    assert total(blocks, limits.cost) < total(plan(fields, columns, limits), limits.cost)
    assert unneeded(fields, blocks[0]) == 57
    assert better_gap(fields, columns, Limits(125, 2000, 50, limits.cost))[0] == 50


@pytest.mark.parametrize("step", [1, 3])
def test_two_thousand_tags_are_planned_in_an_instant(step: int) -> None:
    limits = Limits(125, 2000, 5, Cost(30_000_000, 1_000_000))
    fields: list[Any] = [field(f"holding:{at * step}") for at in range(1000)]
    fields += [field(f"coil:{at * step}", "bool") for at in range(1000)]
    known = Walls([(at, at + 2) for at in range(0, 3000, 30)])
    took = []
    for _ in range(5):
        began = time.perf_counter()
        blocks = plan(fields, range(2000), limits, known)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05
    assert all(before.span <= after.span for before, after in pairwise(blocks) if before.table == after.table)


@pytest.mark.parametrize("barriers", [[(5, 7)], [(5, 7), (3, 8)], [(3, 8), (5, 7)], [(5, 7), (0, 9)]])
def test_no_block_holds_all_of_a_range_that_is_known_to_be_refused(barriers: list[tuple[int, int]]) -> None:
    fields = [field(f"holding:{at}") for at in range(10)]
    blocks = plan(fields, range(10), Limits(125, 2000, 0, COSTS[0]), Walls(barriers))
    assert len(blocks) == 2
    assert not any(block.start <= 5 and block.span[1] >= 7 for block in blocks)
