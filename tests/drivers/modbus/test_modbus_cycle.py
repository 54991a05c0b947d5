"""What depends on other registers: scale factors, the guard and SunSpec models; and units that are busy or slow."""

import asyncio
import struct
from typing import Any

import pytest
from modbus_line import Asked, ScriptedLine, bad, driver_of, good, unit
from modbus_peer import words

from gateway.drivers.base import Shared
from gateway.drivers.modbus.connection import WrongAnswer
from gateway.drivers.modbus.device import ModbusDriver, memory_of
from gateway.drivers.modbus.fields import fields_of
from gateway.drivers.modbus.holes import Memory
from gateway.errors import DeviceError
from gateway.model import Sample

GUARD = {"address": "holding:0", "type": "uint16", "equals": 17}


def scaled_tags(*scales: str) -> list[dict[str, Any]]:
    return [
        {"name": f"s{at}", "address": f"holding:{10 + at}", "type": "int16", "scale_register": scale}
        for at, scale in enumerate(scales)
    ]


async def test_a_value_is_scaled_by_the_power_of_ten_that_another_register_holds() -> None:
    line = ScriptedLine(held={10: 2301, 11: 5, 12: 7, 13: 0xFFFF, 14: 2})
    driver = driver_of(line, unit([*scaled_tags("holding:13", "holding:14"), *words(12)]))
    (sample,) = await driver.read((0, 1, 2))
    assert sample == Sample.good(sample.ts, (0, 1, 2), (230.1, 500.0, 7))
    assert [type(value) for value in sample.values] == [float, float, int]
    assert [(each.start, each.count) for each in line.requests] == [(10, 5)]


async def test_a_scale_register_is_read_once_and_only_with_tags_that_need_it() -> None:
    tags = [*scaled_tags("holding:100", "holding:100"), *words(50)]
    assert len(fields_of(unit(tags)).all) == 4
    line = ScriptedLine(held={100: 1})
    driver = driver_of(line, unit(tags))
    assert good(await driver.read((0, 1, 2))) == {0: 100.0, 1: 110.0, 2: 50}
    line.take_requests()
    await driver.read((2,))
    assert [each.start for each in line.requests] == [50]


@pytest.mark.parametrize("factor", [0x8000, 11, 0xFFF5])
async def test_a_scale_factor_that_is_none_makes_its_tags_not_implemented(factor: int) -> None:
    driver = driver_of(ScriptedLine(held={100: factor}), unit([*scaled_tags("holding:100"), *words(50)]))
    samples = await driver.read((0, 1))
    assert (good(samples), bad(samples)) == ({1: 50}, {"s0": "bad:not-implemented"})


async def test_a_scale_register_that_cannot_be_read_makes_its_tags_bad_for_its_reason() -> None:
    line = ScriptedLine(refused={100})
    driver = driver_of(line, unit([*scaled_tags("holding:100", "holding:101"), *words(50)]))
    for _ in range(3):
        samples = await driver.read((0, 1, 2))
        assert bad(samples) == {"s0": "bad:illegal-address", "s1": "bad:not-implemented"}  # 10^101
        assert sum(sample.readings for sample in samples) == 3
    line.script = lambda asked: TimeoutError() if 101 in asked.registers else None
    samples = await driver.read((0, 1, 2))
    assert bad(samples)["s1"] == "bad:timeout"


async def test_a_scale_register_in_swapped_bytes_is_swapped_too() -> None:
    tag = {**scaled_tags("holding:11")[0], "byte_order": "DCBA"}
    driver = driver_of(ScriptedLine(held={10: 0x0700, 11: 0x0100}), unit([tag]))
    assert good(await driver.read((0,))) == {0: 70.0}


async def test_a_value_whose_scale_register_comes_much_later_keeps_its_own_time() -> None:
    line = ScriptedLine(held={100: 1}, took=0.3)
    samples = await driver_of(line, unit([*scaled_tags("holding:100"), *words(200)])).read((0, 1))
    assert [(sample.columns, sample.values) for sample in samples] == [((0,), (100.0,)), ((1,), (200,))]


async def test_the_guard_is_read_last_and_shows_nowhere() -> None:
    line = ScriptedLine(held={0: 17})
    driver = driver_of(line, unit(words(100, 200, 300), guard=GUARD))
    for _ in range(2):
        (sample,) = await driver.read((0, 1, 2))
        assert sample == Sample.good(sample.ts, (0, 1, 2), (100, 200, 300))
        assert [each.start for each in line.take_requests()] == [100, 200, 300, 0]


async def test_p5_another_program_makes_every_tag_bad_guard() -> None:
    line = ScriptedLine(held={0: 18})
    driver = driver_of(line, unit(words(1, 200), guard=GUARD))
    (sample,) = await driver.read((0, 1))
    assert (sample.columns, sample.quality, sample.readings) == ((), {"*": "bad:guard"}, 2)
    (sample,) = await driver.read((1,))
    assert (sample.columns, sample.quality, sample.readings) == ((), {"r200": "bad:guard"}, 1)
    line.held[0] = 17
    (sample,) = await driver.read((0, 1))
    assert sample == Sample.good(sample.ts, (0, 1), (1, 200))


@pytest.mark.parametrize("outcome", [TimeoutError(), WrongAnswer("cut short"), 1, 2, 4])
async def test_p5_a_guard_that_cannot_be_read_makes_every_tag_bad_guard(outcome: Any) -> None:
    line = ScriptedLine(held={0: 17}, script=lambda asked: outcome if asked.start == 0 else None)
    driver = driver_of(line, unit(words(100, 200), guard=GUARD))
    for _ in range(3):
        (sample,) = await driver.read((0, 1))
        assert (sample.quality, sample.readings) == ({"*": "bad:guard"}, 2)


async def test_p5_a_guard_that_changes_while_a_hole_is_searched_is_noticed() -> None:
    line = ScriptedLine(held={0: 17}, refused={55})

    def change(asked: Asked) -> None:
        if asked.start != 50 and asked.start >= 55:
            line.held[0] = 18

    line.script = change
    (sample,) = await driver_of(line, unit(words(*range(50, 60)), guard=GUARD)).read(tuple(range(10)))
    assert sample.quality == {"*": "bad:guard"}


async def test_a_guard_in_a_block_whose_search_goes_on_covers_what_was_read() -> None:
    line = ScriptedLine(held={0: 17}, refused={1, 3, 5, 7, 9, 11}, took=2.0)
    driver = driver_of(line, unit(words(*range(1, 40)), guard=GUARD))
    values = []
    for _ in range(12):
        samples = await driver.read(tuple(range(39)))
        assert "bad:guard" not in bad(samples).values()
        values.append(len(good(samples)))
    assert values[-1] == 33


async def test_p5_a_guard_that_is_no_number_makes_every_tag_bad_guard() -> None:
    line = ScriptedLine(held={0: 0x7FC0, 1: 0})
    driver = driver_of(line, unit(words(100), guard={**GUARD, "type": "float32", "equals": 1.5}))
    assert bad(await driver.read((0,))) == {"*": "bad:guard"}


@pytest.mark.parametrize(
    ("keys", "held"),
    [
        ({"type": "int16", "equals": 0xFFFE}, {0: 0xFFFE}),
        ({"type": "float32", "equals": 0.1}, {0: 0x3DCC, 1: 0xCCCD}),
        ({"type": "uint32", "byte_order": "CDAB", "equals": 65538}, {0: 2, 1: 1}),
        ({"type": "string", "length": 4, "equals": "V1.2"}, {0: 0x5631, 1: 0x2E32}),
        ({"address": "holding:0.3", "type": "bool", "equals": True}, {0: 8}),
        ({"address": "coil:0", "type": "bool", "equals": False}, {0: 2}),
        ({"type": "bcd16", "equals": 17}, {0: 0x17}),
    ],
)
async def test_a_guard_may_be_of_any_type(keys: dict[str, Any], held: dict[int, int]) -> None:
    line = ScriptedLine(held=held)
    driver = driver_of(line, unit(words(100), guard={**GUARD, **keys}))
    assert good(await driver.read((0,))) == {0: 100}
    line.held = {0: 1, 1: 1}
    assert bad(await driver.read((0,))) == {"*": "bad:guard"}


def chain(base: int, *models: tuple[int, int]) -> dict[int, int]:
    """Lay out a chain of SunSpec models whose data registers hold their own numbers."""
    held = {base: 0x5375, base + 1: 0x6E53}
    at = base + 2
    for model, length in models:
        held |= {at: model, at + 1: length}
        at += 2 + length
    return held | {at: 0xFFFF, at + 1: 0}


SUNSPEC = [
    {"name": "maker", "address": "sunspec:1:0", "type": "uint16"},
    {"name": "current", "address": "sunspec:103:2", "type": "uint16", "scale_register": "sunspec:103:6"},
    {"name": "alarm", "address": "sunspec:103:3.1", "type": "bool"},
]


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_sunspec_models_are_found_by_walking_their_chain(base: int) -> None:
    line = ScriptedLine(held=chain(base, (1, 66), (103, 50), (103, 50)))
    start = base + 2 + 68 + 2
    line.held |= {start + 2: 2301, start + 3: 2, start + 6: 0xFFFE}
    if base:
        line.refused = {0, 1}
    driver = driver_of(line, unit(SUNSPEC))
    samples = await driver.read((0, 1, 2))
    assert good(samples) == {0: base + 4, 1: 23.01, 2: True}
    walked = line.take_requests()
    assert all(each.count == 2 for each in walked[:-3])
    await driver.read((0, 1, 2))
    assert len(line.requests) == 3
    line.take_requests()
    await driver_of(line, unit(SUNSPEC), Memory()).read((0, 1, 2))
    assert line.requests == walked


async def test_a_model_that_is_not_there_costs_no_other_tag_and_is_looked_for_seldom() -> None:
    line = ScriptedLine(held=chain(40000, (1, 66)))
    driver = driver_of(line, unit([*SUNSPEC, *words(7)]))
    for _ in range(3):
        line.take_requests()
        samples = await driver.read((0, 1, 2, 3))
        assert good(samples) == {0: 40004, 3: 7}
        assert bad(samples) == {"current": "bad:no-such-model", "alarm": "bad:no-such-model"}
        assert sum(sample.readings for sample in samples) == 4
    assert len(line.requests) == 2
    line.held |= chain(40000, (1, 66), (103, 50)) | {40078: 0}
    line.now += 61
    assert bad(await driver.read((0, 1, 2, 3))) == {}


async def test_p5_a_register_beyond_the_end_of_its_model_is_no_other_models() -> None:
    tags = [{"name": "late", "address": "sunspec:103:40", "type": "uint32"}, *words(7)]
    line = ScriptedLine(held=chain(40000, (103, 41), (120, 26)))
    samples = await driver_of(line, unit(tags)).read((0, 1))
    assert (good(samples), bad(samples)) == ({1: 7}, {"late": "bad:illegal-address"})


async def test_a_device_without_a_chain_has_no_models_and_a_silent_one_is_an_error() -> None:
    for line in (ScriptedLine(), ScriptedLine(refused=set(range(0x10000)))):
        driver = driver_of(line, unit(SUNSPEC))
        for _ in range(2):
            (sample,) = await driver.read((0, 1, 2))
            assert set(sample.quality.values()) == {"bad:no-such-model"}
            assert len(line.take_requests()) == 3  # it is still known that the device lives
    with pytest.raises(DeviceError, match="does not answer") as error:
        await driver_of(ScriptedLine(script=lambda asked: TimeoutError()), unit(SUNSPEC)).read((0,))
    assert error.value.reason == "timeout"
    with pytest.raises(DeviceError, match="does not reach unit 1"):
        await driver_of(ScriptedLine(script=lambda asked: 0x0B), unit(SUNSPEC)).read((0,))


async def test_a_chain_is_found_though_the_unit_is_silent_where_others_begin_theirs() -> None:
    line = ScriptedLine(
        held=chain(50000, (1, 66)), script=lambda asked: TimeoutError() if asked.start < 50000 else None
    )
    section, memory, polls = unit(SUNSPEC[:1]), Memory(), 0
    for _ in range(3):
        try:
            samples = await driver_of(line, section, memory).read((0,))
        except DeviceError:
            continue
        polls += 1
        assert good(samples) == {0: 50004}
    assert polls >= 1


async def test_p5_a_timeout_within_the_chain_is_not_taken_for_a_missing_model() -> None:
    line = ScriptedLine(held=chain(40000, (1, 66), (103, 50)))
    line.script = lambda asked: TimeoutError() if asked.start == 40070 else None
    with pytest.raises(DeviceError, match="does not answer"):
        await driver_of(line, unit(SUNSPEC)).read((0, 1, 2))


async def test_a_chain_without_an_end_is_not_followed_for_ever() -> None:
    line = ScriptedLine(held={40000: 0x5375, 40001: 0x6E53} | dict.fromkeys(range(40002, 65536), 0))
    await driver_of(line, unit(SUNSPEC)).read((0, 1, 2))
    assert len(line.requests) < 300


@pytest.mark.parametrize("code", [5, 6])
async def test_a_busy_unit_is_asked_again_after_pauses_and_the_others_first(code: int) -> None:
    loop, times = asyncio.get_running_loop(), []

    def busy_twice(asked: Asked) -> int | None:
        if asked.start == 10:
            times.append(loop.time())
            return code if len(times) < 3 else None
        return None

    line = ScriptedLine(script=busy_twice, took=0.0)
    samples = await driver_of(line, unit(words(10, 20, 30), timeout="20s", interval="20s")).read((0, 1, 2))
    assert (good(samples), bad(samples)) == ({0: 10, 1: 20, 2: 30}, {})
    assert [each.start for each in line.requests] == [10, 20, 30, 10, 10]
    assert [later - earlier >= pause for earlier, later, pause in zip(times, times[1:], (0.05, 0.1), strict=False)]


async def test_a_unit_that_stays_busy_is_bad_within_the_interval_and_costs_no_other_tag() -> None:
    line = ScriptedLine(script=lambda asked: 6 if asked.start == 10 else None, took=0.02)
    driver = driver_of(line, unit(words(10, 20), interval="200ms"))
    began = line.now
    samples = await driver.read((0, 1))
    assert (good(samples), bad(samples)) == ({1: 20}, {"r10": "bad:device-busy"})
    assert sum(sample.readings for sample in samples) == 2
    assert line.now - began < 0.2
    assert len(line.requests) == 4  # after 50 and 100 ms; 200 more are not left


async def test_a_block_that_was_silent_is_not_the_one_by_which_the_unit_is_taken_for_dead() -> None:
    """Some devices answer nothing at all where they have no registers."""
    line = ScriptedLine(script=lambda asked: TimeoutError() if asked.start == 10 else None)
    section, memory = unit(words(10, 20)), Memory()
    with pytest.raises(DeviceError):
        await driver_of(line, section, memory).read((0, 1))
    samples = await driver_of(line, section, memory).read((0, 1))
    assert (good(samples), bad(samples)) == ({1: 20}, {"r10": "bad:timeout"})


async def test_a_block_that_never_answers_does_not_end_the_connection_when_it_is_due_alone() -> None:
    line = ScriptedLine(script=lambda asked: TimeoutError() if asked.start == 20 else None)
    driver = driver_of(line, unit(words(10, 20)))
    for _ in range(3):
        assert bad(await driver.read((0, 1))) == {"r20": "bad:timeout"}
        assert bad(await driver.read((1,))) == {"r20": "bad:timeout"}
    with pytest.raises(DeviceError):  # nothing else was heard meanwhile
        await driver.read((1,))


async def test_the_link_is_told_what_a_poll_cost_and_when_the_next_comes() -> None:
    line = ScriptedLine(took=0.25)
    driver = driver_of(line, unit(words(10, 20), unit_id=7))
    driver.expect(42.0)
    await driver.read((0, 1))
    assert line.expected == [(7, 42.0)]
    assert (line.cycles, line.rested) == ([(7, 0.5, 1.0)], 1)
    line.script = lambda asked: TimeoutError()
    with pytest.raises(DeviceError):
        await driver.read((0, 1))
    assert (line.cycles[1], line.rested) == ((7, 1.0, 1.0), 2)


async def test_a_slow_device_says_what_the_line_needs_and_which_tags_are_slowest() -> None:
    line = ScriptedLine()
    driver = driver_of(line, unit([*words(0), *words(10, 11, 12, 13)]))
    assert driver.slowness == ""

    def slow(asked: Asked) -> None:
        line.took = 0.31 if asked.start == 10 else 0.01

    line.script, line.load = slow, 1.4
    await driver.read((0, 1, 2, 3, 4))
    assert driver.slowness == (
        "the line 192.0.2.10:502 needs 1.4 s for a 1 s interval; slowest here: r10, r11, r12 (0.31 s)"
    )
    line.load = 0.5
    assert driver.slowness == "a poll takes longer than the interval of 1 s; slowest here: r10, r11, r12 (0.31 s)"


async def test_memory_belongs_to_the_unit_and_not_to_its_name() -> None:
    shared = Shared("hall-3")
    memory = memory_of(unit(words(0)), shared)
    assert memory_of(unit(words(0, 1)), shared) is memory
    assert memory_of(unit(words(0), unit_id=2), shared) is not memory
    assert memory_of(unit(words(0), name="press-2"), shared) is not memory


async def test_what_was_asked_and_answered_can_be_watched() -> None:
    line, heard = ScriptedLine(), []
    section = unit([{"name": "flow", "address": "holding:3", "type": "float32"}])
    driver = ModbusDriver(section, line, Memory(), heard=lambda block, answer: heard.append((block, answer)))
    await driver.read((0,))
    ((block, answer),) = heard
    assert (block.start, block.count, struct.unpack(">2H", answer.payload)) == (3, 2, (3, 4))
