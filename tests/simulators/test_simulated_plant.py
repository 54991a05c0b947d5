"""The plant behaves like machines, and the same way every time."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from pydantic import TypeAdapter

from gateway.drivers import Device
from simulators import MachineUnit, MeterUnit, ModbusSimulator, Plant, PressUnit, Robot
from simulators.points import METER_POINTS, PRESS_BITS, PRESS_POINTS, VOLUME, volume_value
from simulators.robot import VARIABLES
from simulators.tags import demo_devices


def press_line(seed: int) -> tuple[PressUnit, MeterUnit, Robot]:
    press = PressUnit(seed=seed)
    return press, MeterUnit(seed=seed + 1, feeds=lambda: press.press.electric_power_w), Robot(seed=seed + 2)


def state(seed: int, steps: int) -> list[object]:
    press, meter, robot = press_line(seed)
    Plant([press, meter, robot]).step(steps)
    return [press.tables, meter.tables, [variable.read(robot) for variable in VARIABLES]]


def test_the_same_seed_and_steps_give_the_same_values() -> None:
    assert state(5, 400) == state(5, 400)
    assert state(5, 400) != state(6, 400)
    assert state(5, 400) != state(5, 401)


def test_the_oil_temperature_lags_the_load_by_minutes() -> None:
    unit = PressUnit(seed=1)
    plant = Plant([unit])
    temperatures, loads = [], []
    for _ in range(3000):
        plant.step()
        temperatures.append(unit.press.oil_c)
        loads.append(unit.press.motor_load)
    moves = [abs(b - a) for a, b in pairwise(temperatures)]
    assert max(moves) < 0.1, "a tenth of a second does not heat the oil"
    assert max(loads) - min(loads) > 0.7, "while the motor's load swings"
    assert 35.0 < min(temperatures) < max(temperatures) < 75.0


def test_the_press_reaches_its_setpoint_at_each_stroke_and_counts_it() -> None:
    unit = PressUnit(seed=1)
    plant = Plant([unit])
    peaks: dict[int, float] = {}
    for _ in range(1200):
        plant.step()
        peaks[unit.press.strokes] = max(peaks.get(unit.press.strokes, 0.0), unit.press.pressure_bar)
    assert unit.press.strokes >= 20
    assert all(180.0 < peaks[stroke] < 230.0 for stroke in range(unit.press.strokes))


def test_the_meter_sees_the_press_and_its_energy_never_falls() -> None:
    press, meter, robot = press_line(1)
    plant = Plant([press, meter, robot])
    energies, powers = [], []
    for _ in range(600):
        plant.step()
        energies.append(meter.meter.energy_wh)
        powers.append(meter.meter.power_w)
    assert energies == sorted(energies)
    assert max(powers) - min(powers) > 30_000.0


def test_the_robot_goes_round_its_program_within_its_ranges() -> None:
    robot = Robot(seed=3)
    states = set()
    for _ in range(600):
        robot.step(0.1)
        states.add(robot.state)
        for variable in VARIABLES:
            value = variable.read(robot)
            if variable.range is not None:
                assert isinstance(value, float)
                assert variable.range[0] <= value <= variable.range[1], variable.path
    assert states == {"Idle", "Picking", "Moving", "Placing"}
    assert robot.ticks == 600
    assert robot.parts >= 10


@pytest.mark.parametrize("ticks", [0, 1, 9, 10, 11, 250])
def test_a_volume_register_is_what_the_formula_says(ticks: int) -> None:
    unit = MachineUnit("volume", 9)
    Plant([unit]).step(ticks)
    assert unit.peek("holding", VOLUME.start, 125) == [volume_value(at, ticks) for at in VOLUME[:125]]


async def test_a_running_plant_steps_until_the_block_ends() -> None:
    unit = MachineUnit("volume", 9)
    stepped = asyncio.Event()

    async def after_step() -> None:
        if unit.ticks >= 5:
            stepped.set()

    plant = Plant([unit], after_step=after_step)
    async with asyncio.timeout(20), plant.running(step_s=0.001):
        await stepped.wait()
    ticks = unit.ticks
    assert plant.ticks == ticks >= 5
    await asyncio.sleep(0)
    assert unit.ticks == ticks


def test_no_two_points_of_a_unit_share_a_register() -> None:
    for points in (PRESS_POINTS, METER_POINTS):
        taken: set[tuple[str, int]] = {("holding", at) for at in (0, 1, 2, 3, *VOLUME)}
        for point in points:
            table, address = point.place
            cells = point.encode("" if point.type == "string" else 0)
            places = {(table, address + offset) for offset in range(len(cells))}
            assert not places & taken, point.name
            taken |= places


async def test_every_tag_of_the_demo_devices_can_be_read_from_the_plant() -> None:
    press, meter, _ = press_line(1)
    async with ModbusSimulator([press, meter]) as simulator:
        devices = {d["name"]: d for d in demo_devices(simulator.host, simulator.port, "opc.tcp://127.0.0.1:4840")}
    for unit in (press, meter):
        entry = devices[unit.name]
        assert (entry["port"], entry["unit_id"]) == (simulator.port, unit.unit_id)
        names = [tag["name"] for tag in entry["tags"]]
        assert len(names) == len(set(names))
        assert {tag["address"] for tag in entry["tags"]} >= {"holding:0", "holding:2"}
    assert [tag["node"] for tag in devices["robot-1"]["tags"]] == [variable.node for variable in VARIABLES]
    assert {bit.address.partition(".")[0] for bit in PRESS_BITS} == {"holding:18"}


def test_the_demo_devices_are_valid_sections_of_the_gateways_config() -> None:
    for device in demo_devices("127.0.0.1", 5020, "opc.tcp://127.0.0.1:4840"):
        section = TypeAdapter[Any](Device).validate_python(device)
        assert len(section.tags) == len(device["tags"])


def test_the_robot_entry_is_secured_where_a_trust_folder_is_given() -> None:
    plain, secured = (
        demo_devices("127.0.0.1", 1, "opc.tcp://127.0.0.1:2", **more)[2]  # type: ignore[arg-type]
        for more in ({}, {"pki_dir": "/tmp/pki", "password": {"env": "ROBOT"}})
    )
    assert plain["security"] == {"policy": "None", "insecure": True}
    assert secured["security"] == {"policy": "Basic256Sha256", "mode": "SignAndEncrypt", "pki_dir": "/tmp/pki"}
    assert (secured["username"], secured["password"]) == ("gateway", {"env": "ROBOT"})
