"""Eastron SDM630-Modbus V2, as its protocol description V1.8 lists it: input registers from 30001, floats."""

from pathlib import Path

import pytest
from register_image import Device, image, read, values

LIST = (
    (30001, "Phase 1 line to neutral volts", "4366 4000", "voltage_l1", 230.25),
    (30003, "Phase 2 line to neutral volts", "4367 8000", "voltage_l2", 231.5),
    (30005, "Phase 3 line to neutral volts", "4365 C000", "voltage_l3", 229.75),
    (30007, "Phase 1 current", "40A4 0000", "current_l1", 5.125),
    (30009, "Phase 2 current", "40C8 0000", "current_l2", 6.25),
    (30011, "Phase 3 current", "40EC 0000", "current_l3", 7.375),
    (30013, "Phase 1 power", "4493 8000", "power_l1", 1180.0),
    (30015, "Phase 2 power", "44B4 F000", "power_l2", 1447.5),
    (30017, "Phase 3 power", "C4D3 C800", "power_l3", -1694.25),
    (30019, "Phase 1 volt amps", "4493 A000", "apparent_power_l1", 1181.0),
    (30021, "Phase 2 volt amps", "44B5 0000", "apparent_power_l2", 1448.0),
    (30023, "Phase 3 volt amps", "44D3 E000", "apparent_power_l3", 1695.0),
    (30025, "Phase 1 volt amps reactive", "4242 0000", "reactive_power_l1", 48.5),
    (30027, "Phase 2 volt amps reactive", "C211 0000", "reactive_power_l2", -36.25),
    (30029, "Phase 3 volt amps reactive", "4253 0000", "reactive_power_l3", 52.75),
    (30031, "Phase 1 power factor", "3F70 0000", "power_factor_l1", 0.9375),
    (30033, "Phase 2 power factor", "3F78 0000", "power_factor_l2", 0.96875),
    (30035, "Phase 3 power factor", "BF7C 0000", "power_factor_l3", -0.984375),
    (30037, "Phase 1 phase angle", "4020 0000", "phase_angle_l1", 2.5),
    (30039, "Phase 2 phase angle", "BFC0 0000", "phase_angle_l2", -1.5),
    (30041, "Phase 3 phase angle", "4332 4000", "phase_angle_l3", 178.25),
    (30043, "Average line to neutral volts", "4366 8000", "voltage_ln", 230.5),
    (30047, "Average line current", "40D0 0000", "current", 6.5),
    (30049, "Sum of line currents", "4196 0000", "current_sum", 18.75),
    (30053, "Total system power", "4469 5000", "power", 933.25),
    (30057, "Total system volt amps", "4587 2000", "apparent_power", 4324.0),
    (30061, "Total system VAr", "4282 0000", "reactive_power", 65.0),
    (30063, "Total system power factor", "3E80 0000", "power_factor", 0.25),
    (30067, "Total system phase angle", "429B 0000", "phase_angle", 77.5),
    (30071, "Frequency of supply voltages", "4247 F000", "frequency", 49.984375),
    (30073, "Total Import kWh", "4640 E680", "energy_import", 12345.625),
    (30075, "Total Export kWh", "4429 9800", "energy_export", 678.375),
    (30077, "Total Import kVArh", "43D8 1000", "reactive_energy_import", 432.125),
    (30079, "Total Export kVArh", "42C5 C000", "reactive_energy_export", 98.875),
    (30081, "Total VAh", "464D 2A00", "apparent_energy", 13130.5),
    (30085, "Total system power demand", "4516 0800", "power_demand", 2400.5),
    (30087, "Maximum total system power demand", "461A 5200", "power_demand_max", 9876.5),
    (30201, "Line 1 to Line 2 volts", "43C7 A000", "voltage_l1_l2", 399.25),
    (30203, "Line 2 to Line 3 volts", "43C8 4000", "voltage_l2_l3", 400.5),
    (30205, "Line 3 to Line 1 volts", "43C7 6000", "voltage_l3_l1", 398.75),
    (30207, "Average line to line volts", "43C7 C000", "voltage_ll", 399.5),
    (30225, "Neutral current", "3F88 0000", "current_n", 1.0625),
    (30235, "Phase 1 L/N volts THD", "3FC0 0000", "voltage_thd_l1", 1.5),
    (30237, "Phase 2 L/N volts THD", "3FD0 0000", "voltage_thd_l2", 1.625),
    (30239, "Phase 3 L/N volts THD", "3FE0 0000", "voltage_thd_l3", 1.75),
    (30241, "Phase 1 Current THD", "4050 0000", "current_thd_l1", 3.25),
    (30243, "Phase 2 Current THD", "4060 0000", "current_thd_l2", 3.5),
    (30245, "Phase 3 Current THD", "4070 0000", "current_thd_l3", 3.75),
    (30343, "Total kWh", "464B 8000", "energy", 13024.0),
    (30345, "Total kvarh", "4404 C000", "reactive_energy", 531.0),
    (30347, "L1 import kWh", "457A 0200", "energy_import_l1", 4000.125),
    (30349, "L2 import kWh", "4580 2200", "energy_import_l2", 4100.25),
    (30351, "L3 import kWh", "4584 AA00", "energy_import_l3", 4245.25),
    (30353, "L1 export kWh", "4348 2000", "energy_export_l1", 200.125),
    (30355, "L2 export kWh", "435C 4000", "energy_export_l2", 220.25),
    (30357, "L3 export kWh", "4381 0000", "energy_export_l3", 258.0),
)
UNDOCUMENTED = (range(30045, 30047), range(30051, 30053), range(30055, 30057), range(30059, 30061),
                range(30065, 30067), range(30069, 30071), range(30083, 30085), range(30209, 30225),
                range(30227, 30235))  # fmt: skip
"""Between the registers of the list; the meter answers them, with numbers that mean nothing."""


def meter(rows: tuple[tuple[int, str, str, str, float], ...] = LIST) -> Device:
    return Device(most=80, in_pairs=True, inputs=image(rows, first=30001, junk=UNDOCUMENTED))


async def test_every_value_of_the_list_is_read_in_its_unit(tmp_path: Path) -> None:
    unit = meter()
    reading = await read(tmp_path, "sdm630", unit)
    assert reading.values == values(LIST)
    assert reading.quality == {}
    assert unit.refused == []


async def test_four_requests_read_it_all_and_none_asks_for_more_than_forty_values(tmp_path: Path) -> None:
    unit = meter()
    await read(tmp_path, "sdm630", unit)
    assert len(unit.asked) == 2 * 4
    assert all(count <= 80 for _, _, count in unit.asked)


async def test_the_examples_of_the_description_are_read_as_it_says(tmp_path: Path) -> None:
    """Sections 3.7 and 3.8.1: 43 70 80 00 is 240.5, and Volts 1 answered as 43 66 33 34 is 230.2."""
    examples = (
        (30001, "Volts 1", "4366 3334", "voltage_l1", 230.2),
        (30003, "Volts 2", "4370 8000", "voltage_l2", 240.5),
    )
    reading = await read(tmp_path, "sdm630", meter((*LIST, *examples)))
    assert reading.values["voltage_l1"] == pytest.approx(230.2, abs=1e-4)
    assert reading.values["voltage_l2"] == 240.5
