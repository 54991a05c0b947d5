"""Tags come due at a fixed rate; what is late is skipped and counted, never piled up (P7)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schedule import LONGEST_SPREAD_S, TOLERANCE_S, Schedule, first_slot, spread

START = 1234.567
INTERVALS = st.lists(st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.5, 1.0, 2.0, 7.0, 60.0]), min_size=1, max_size=12)
LATENESS = st.lists(st.floats(0, 30), min_size=1, max_size=30)


@given(INTERVALS)
def test_every_tag_is_due_at_the_start(intervals: list[float]) -> None:
    schedule = Schedule(intervals, START)
    assert schedule.next == START
    due = schedule.take(START)
    assert (due.columns, due.skipped) == (tuple(range(len(intervals))), 0)


@given(st.sampled_from([0.05, 0.1, 0.3, 1.0, 7.0]), st.integers(1, 2000))
def test_due_times_do_not_drift(interval: float, cycles: int) -> None:
    schedule = Schedule([interval], START)
    for cycle in range(cycles):
        assert schedule.next == START + cycle * interval
        assert schedule.take(schedule.next).skipped == 0


@given(INTERVALS, LATENESS)
def test_every_cycle_of_every_tag_is_read_or_counted_as_skipped(intervals: list[float], lateness: list[float]) -> None:
    schedule = Schedule(intervals, START)
    skipped, now = 0, START
    reads = dict.fromkeys(range(len(intervals)), 0)
    for late in lateness:
        now = max(now, schedule.next) + late
        due = schedule.take(now)
        skipped += due.skipped
        assert due.columns
        assert list(due.columns) == sorted(set(due.columns))
        for column in due.columns:
            reads[column] += 1
        assert schedule.next > now, "a late cycle is not made up for"
    groups = {interval: reads[intervals.index(interval)] for interval in intervals}
    passed = {interval: int((now + TOLERANCE_S - START) / interval) + 1 for interval in groups}
    assert skipped + sum(groups.values()) == sum(passed.values())


@given(st.integers(0, 20), st.floats(0.0, 0.99))
def test_a_late_cycle_is_skipped_and_the_next_one_is_on_time(whole: int, rest: float) -> None:
    schedule = Schedule([1.0], START)
    late = whole + rest
    assert schedule.take(START + late).skipped == whole
    assert START + late < schedule.next <= START + late + 1.0
    assert schedule.next == START + whole + 1


@given(st.sampled_from([0.05, 0.1, 0.3, 0.7]), st.integers(1, 1000), st.integers(1, 1000))
def test_a_cycle_that_is_late_by_whole_intervals_is_not_read_twice(interval: float, start: int, late: int) -> None:
    schedule = Schedule([interval], START)
    schedule.take(START + start * interval)
    now = START + (start + 1 + late) * interval
    assert schedule.take(now).skipped == late
    assert schedule.next > now + interval / 2


def test_intervals_that_divide_each_other_are_read_in_one_poll() -> None:
    schedule = Schedule([1.0, 0.1, 1.0, 0.5], START)
    polls = [schedule.take(schedule.next).columns for _ in range(21)]
    assert polls[0] == polls[10] == polls[20] == (0, 1, 2, 3)
    assert polls[5] == polls[15] == (1, 3)
    assert {polls[at] for at in range(21) if at % 5} == {(1,)}


@given(INTERVALS, LATENESS)
def test_the_same_groups_give_the_same_tuple_object(intervals: list[float], lateness: list[float]) -> None:
    schedule = Schedule(intervals, START)
    seen: dict[tuple[int, ...], int] = {}
    for late in lateness:
        columns = schedule.take(schedule.next + late).columns
        assert seen.setdefault(columns, id(columns)) == id(columns)


@given(st.integers(1, 50))
def test_devices_that_share_nothing_are_spread_evenly(count: int) -> None:
    assert spread(range(count)) == [number / count for number in range(count)]


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=40))
def test_devices_of_one_line_follow_each_other_evenly_in_their_order(lines: list[str]) -> None:
    phases = spread(lines)
    assert phases == spread(lines)
    assert phases[0] == 0
    for line in set(lines):
        own = [phase for phase, of in zip(phases, lines, strict=True) if of == line]
        assert all(0 <= phase < 1 for phase in own)
        assert [later - earlier for earlier, later in pairwise(own)] == pytest.approx([1 / len(own)] * (len(own) - 1))


INTERVAL = st.sampled_from([0.05, 0.3, 1.0, 2.0, 7.0, 60.0])


@given(st.floats(0, 1000), INTERVAL, st.floats(0, 1, exclude_max=True))
def test_every_slot_lies_in_the_first_half_of_an_interval_and_soon_after_its_begin(
    later: float, interval: float, phase: float
) -> None:
    slot = first_slot(START + later, START, interval, phase)
    into = (slot - START) % interval
    window = min(interval / 2, LONGEST_SPREAD_S)
    assert min(into, interval - into) == pytest.approx(min(phase * window, interval - phase * window), abs=1e-6)
    # It is waited for if it is near; else the device is read at once, and not again before it is half an interval on.
    assert slot - (START + later) <= window + 1e-6
    schedule = Schedule([interval], slot)
    first = max(START + later, slot)
    assert schedule.take(first).skipped == 0
    assert schedule.next - first >= window - 1e-3


@given(st.integers(1, 40), INTERVAL)
def test_devices_that_connect_together_are_not_read_together(count: int, interval: float) -> None:
    slots = [first_slot(START + 0.001, START, interval, phase) for phase in spread(["bus-a"] * count)]
    assert slots == sorted(slots)
    assert slots[-1] - slots[0] <= min(interval / 2, LONGEST_SPREAD_S)
    gaps = [later - earlier for earlier, later in pairwise(slots)]
    assert gaps == pytest.approx([min(interval / 2, LONGEST_SPREAD_S) / count] * (count - 1))
