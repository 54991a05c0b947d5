"""Whatever registers a unit refuses, its other tags have values, and finding out costs few requests."""

from math import log2
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modbus_line import ScriptedLine, bad, driver_of, good, unit
from modbus_peer import words

from gateway.drivers.modbus.holes import Memory
from gateway.drivers.modbus.plan import Block
from gateway.drivers.modbus.section import ModbusTcpDevice
from gateway.model import Sample

ALL = tuple(range(120))
LONG = {"interval": "1000s"}
"""An interval in which any search comes to its end."""


def check_accounts(samples: tuple[Sample, ...], columns: tuple[int, ...]) -> None:
    """Every due tag has exactly one outcome, and the samples say how many they hold."""
    found = [column for sample in samples for column in sample.columns]
    names = [name for sample in samples for name in sample.quality]
    assert len(found) + len(names) == len(set(found)) + len(set(names)) == len(columns)
    assert sum(sample.readings for sample in samples) == len(columns)


@pytest.mark.parametrize("code", [2, 3])
async def test_p6_one_refused_register_anywhere_costs_few_requests_and_no_good_tag_a_cycle(code: int) -> None:
    for hole in ALL:
        line = ScriptedLine(refused={hole}, code=code)
        driver = driver_of(line, unit(words(*ALL)))
        samples = await driver.read(ALL)
        assert bad(samples) == {f"r{hole}": "bad:illegal-address"}
        assert good(samples) == {at: at for at in ALL if at != hole}
        check_accounts(samples, ALL)
        assert len(line.take_requests()) - 1 <= 2 * log2(120) + 2
        await driver.read(ALL)
        assert len(line.take_requests()) <= 2  # few blocks, not the search's fragments


TYPES = {1: "uint16", 2: "uint32", 4: "uint64"}


@st.composite
def tag_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Tags of mixed sizes in two tables, side by side, apart, or over one another."""
    tags, at = [], 0
    for number in range(draw(st.integers(1, 40))):
        at = max(0, at + draw(st.sampled_from([-3, -1, 0, 0, 0, 0, 1, 2, 9])))
        size = draw(st.sampled_from([1, 1, 1, 2, 4, 7]))
        keys = {"type": TYPES[size]} if size in TYPES else {"type": "string", "length": 2 * size, "encoding": "latin-1"}
        table = draw(st.sampled_from(["holding", "holding", "holding", "input"]))
        tags.append({"name": f"t{number}", "address": f"{table}:{at}", **keys})
        at += size
    return tags


def answerable(section: ModbusTcpDevice, line: ScriptedLine) -> set[int]:
    """Give the columns that the unit answers if they are asked for alone."""
    return {
        column
        for column, tag in enumerate(section.tags)
        if tag.registers <= line.most and line.refused.isdisjoint(range(tag.register, tag.register + tag.registers))
    }


holes = st.one_of(st.sets(st.integers(0, 120), max_size=4), st.sets(st.integers(0, 120), max_size=120))


@settings(deadline=None, max_examples=300)
@given(
    tag_lists(),
    holes,
    st.integers(1, 125),
    st.sampled_from([2, 3]),
    st.sampled_from([2, 3]),
    st.sampled_from([0, 3, 20]),
)
async def test_p6_whatever_a_unit_refuses_its_good_tags_have_values_in_each_poll(
    tags: list[dict[str, Any]], refused: set[int], most: int, code: int, most_code: int, gap: int
) -> None:
    line = ScriptedLine(refused=refused, most=most, code=code, most_code=most_code, took=0.0)
    section = unit(tags, max_gap=gap, **LONG)
    columns = tuple(range(len(tags)))
    driver = driver_of(line, section)
    expected = answerable(section, line)
    ranges = len({(tag.table, tag.register, tag.registers) for tag in section.tags})
    for _ in range(2 * ranges + 2):
        samples = await driver.read(columns)
        assert set(good(samples)) == expected
        assert set(bad(samples).values()) <= {"bad:illegal-address"}
        check_accounts(samples, columns)
        assert len(line.requests) <= 2 * ranges
        if not any(is_refused(line, asked.start, asked.count) for asked in line.take_requests()) or not expected:
            break
    else:
        pytest.fail("plans do not come to rest")
    await driver.read(columns)
    assert len(line.requests) <= max(1, len(expected))


def is_refused(line: ScriptedLine, start: int, count: int) -> bool:
    return count > line.most or not line.refused.isdisjoint(range(start, start + count))


@settings(deadline=None, max_examples=150)
@given(tag_lists(), holes, st.integers(1, 125), st.sampled_from([0, 3, 20]))
async def test_a_search_that_the_interval_cuts_short_comes_to_its_end_in_later_polls(
    tags: list[dict[str, Any]], refused: set[int], most: int, gap: int
) -> None:
    """Each request takes longer than the interval: only as many as find one refused register are made in each poll."""
    line = ScriptedLine(refused=refused, most=most, took=2.0)
    section = unit(tags, max_gap=gap)
    columns = tuple(range(len(tags)))
    driver = driver_of(line, section)
    expected = answerable(section, line)
    ranges = len({(tag.table, tag.register, tag.registers) for tag in section.tags})
    for _ in range(4 * ranges + 4):
        planned = 2 * ranges
        samples = await driver.read(columns)
        check_accounts(samples, columns)
        assert set(good(samples)) <= expected
        assert len(line.take_requests()) <= planned + 2 * log2(ranges) + 3
        if set(good(samples)) == expected:
            break
    else:
        pytest.fail("some good tags never have values")


async def test_a_search_is_gentle_on_a_slow_line_and_goes_on_where_it_stopped() -> None:
    line = ScriptedLine(refused=set(range(0, 120, 2)), took=1.0)
    driver = driver_of(line, unit(words(*ALL)))
    values, polls = 0, 0
    while values < 60:
        samples = await driver.read(ALL)
        check_accounts(samples, ALL)
        values, polls = len(good(samples)), polls + 1
        assert polls < 60
    assert polls > 3


async def test_good_tags_beyond_the_refused_block_are_asked_before_it_is_searched() -> None:
    line = ScriptedLine(refused={3})
    driver = driver_of(line, unit(words(*range(8), *range(100, 108))))
    await driver.read(tuple(range(16)))
    asked = line.take_requests()
    assert [each.start for each in asked[:2]] == [0, 100]


async def test_what_is_refused_is_remembered_over_reconnects_and_asked_for_once_after_each() -> None:
    line, memory = ScriptedLine(refused={5}), Memory()
    section = unit(words(*ALL))
    await driver_of(line, section, memory).read(ALL)
    for _ in range(3):
        line.take_requests()
        driver = driver_of(line, section, memory)
        for probes in (1, 0, 0):
            assert bad(await driver.read(ALL)) == {"r5": "bad:illegal-address"}
            asked = line.take_requests()
            assert [(each.start, each.count) for each in asked if 5 in each.registers] == [(5, 1)] * probes
            assert len(asked) == 2 + probes


async def test_a_refused_register_is_asked_for_after_a_minute_and_then_more_and_more_seldom() -> None:
    line = ScriptedLine(refused={5}, took=0.0)
    driver = driver_of(line, unit(words(*ALL)))
    await driver.read(ALL)
    began, probed = line.now, []
    for _ in range(20_000):
        line.now += 1
        line.take_requests()
        await driver.read(ALL)
        if any(5 in each.registers for each in line.requests):
            probed.append(line.now - began)
    pauses = [later - earlier for earlier, later in zip([0.0, *probed], probed, strict=False)]
    assert pauses[:8] == [60, 120, 240, 480, 960, 1920, 3600, 3600]


async def test_a_register_that_a_firmware_update_added_comes_back() -> None:
    line = ScriptedLine(refused={5, 6, 60})
    driver = driver_of(line, unit(words(*ALL)))
    await driver.read(ALL)
    line.refused = {60}
    line.now += 61
    await driver.read(ALL)
    samples = await driver.read(ALL)
    assert bad(samples) == {"r60": "bad:illegal-address"}
    check_accounts(samples, ALL)
    await driver.read(ALL)
    line.take_requests()
    await driver.read(ALL)
    assert len(line.requests) == 2


async def test_of_neighbours_that_are_refused_only_some_may_come_back() -> None:
    line = ScriptedLine(refused=set(range(10, 20)))
    driver = driver_of(line, unit(words(*ALL)))
    await driver.read(ALL)
    line.refused = {12, 17}
    line.now += 61
    for _ in range(12):
        before = len(line.requests)
        samples = await driver.read(ALL)
        assert len(line.requests) - before <= 5  # four blocks at most, and one probe
    assert set(bad(samples)) == {"r12", "r17"}


async def test_a_unit_that_refused_everything_while_it_started_is_soon_whole_again() -> None:
    line = ScriptedLine(refused=set(range(300)), took=0.0)
    driver = driver_of(line, unit(words(*ALL, *range(150, 250))))
    columns = tuple(range(220))
    assert set(bad(await driver.read(columns)).values()) == {"bad:illegal-address"}
    for _ in range(3):
        line.take_requests()
        assert len(bad(await driver.read(columns))) == 220
        assert len(line.requests) == 1
    line.refused = {3}
    for _ in range(2):
        await driver.read(columns)
    assert set(bad(await driver.read(columns))) == {"r3"}


async def test_a_unit_that_serves_few_registers_at_once_is_learned_and_not_asked_for_more() -> None:
    line = ScriptedLine(most=50)
    memory = Memory()
    driver = driver_of(line, unit(words(*ALL)), memory)
    assert good(await driver.read(ALL)) == {at: at for at in ALL}
    assert memory.most("holding", 125) == 30
    line.take_requests()
    assert good(await driver.read(ALL)) == {at: at for at in ALL}
    assert [each.count for each in line.requests] == [30, 30, 30, 30]
    assert memory.most("input", 125) == 125


async def test_a_hole_in_a_gap_is_cut_at_and_costs_nothing_more() -> None:
    for code in (2, 3):
        line = ScriptedLine(refused={5}, code=code)
        driver = driver_of(line, unit(words(0, 1, 10, 11, *range(40, 100)), max_gap=20))
        columns = tuple(range(64))
        assert bad(await driver.read(columns)) == {}
        await driver.read(columns)
        line.take_requests()
        assert bad(await driver.read(columns)) == {}
        assert [(each.start, each.count) for each in line.requests] == [(0, 2), (10, 2), (40, 60)]


async def test_tags_of_another_interval_know_what_was_found() -> None:
    line = ScriptedLine(refused={5})
    driver = driver_of(line, unit(words(*ALL)))
    await driver.read(ALL)
    line.take_requests()
    assert bad(await driver.read((3, 4, 5, 6))) == {"r5": "bad:illegal-address"}
    assert [(each.start, each.count) for each in line.requests] == [(3, 2), (6, 1)]


async def test_a_function_that_the_unit_does_not_have_is_not_searched() -> None:
    line = ScriptedLine(script=lambda asked: 1 if asked.table == "input" else None)
    tags = [*words(0, 1), *({"name": f"i{at}", "address": f"input:{at}", "type": "uint16"} for at in range(50))]
    samples = await driver_of(line, unit(tags)).read(tuple(range(52)))
    assert set(bad(samples).values()) == {"bad:illegal-function"}
    assert len(line.requests) == 2


async def test_a_timeout_in_a_search_is_not_taken_for_a_refusal() -> None:
    line = ScriptedLine(refused={40})
    line.script = lambda asked: TimeoutError() if asked.start == 60 and asked.count == 60 else None
    driver = driver_of(line, unit(words(*ALL), **LONG))
    samples = await driver.read(ALL)
    assert set(bad(samples).values()) == {"bad:timeout", "bad:illegal-address"}
    check_accounts(samples, ALL)
    line.script = lambda asked: None
    samples = await driver.read(ALL)
    assert bad(samples) == {"r40": "bad:illegal-address"}
    check_accounts(samples, ALL)


def test_a_conclusion_needs_the_largest_answer_to_be_shorter_than_what_was_refused() -> None:
    memory = Memory()
    memory.answered(Block("holding", 0, 100, ()))
    parts = [Block("holding", 200, 2, ()), Block("holding", 210, 2, ())]
    for part in parts:
        memory.answered(part)
    memory.conclude(Block("holding", 200, 12, ()), 3, parts)
    assert memory.most("holding", 125) == 125
    assert list(memory.barriers("holding")) == [(201, 211)]
