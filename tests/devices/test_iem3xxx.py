"""Schneider iEM3000, as its manual numbers the registers: from 1, most significant register first."""

from pathlib import Path

import pytest
from register_image import Device, image, read, values

LIST = (
    (3000, "I1: phase 1 current", "41AC 0000", "current_l1", 21.5),
    (3002, "I2: phase 2 current", "41B2 0000", "current_l2", 22.25),
    (3004, "I3: phase 3 current", "41BE 0000", "current_l3", 23.75),
    (3010, "Current Average", "41B4 0000", "current", 22.5),
    (3020, "Voltage L1-L2", "43C8 A000", "voltage_l1_l2", 401.25),
    (3022, "Voltage L2-L3", "43C9 4000", "voltage_l2_l3", 402.5),
    (3024, "Voltage L3-L1", "43C9 E000", "voltage_l3_l1", 403.75),
    (3026, "Voltage L-L Average", "43C9 2000", "voltage_ll", 402.25),
    (3028, "Voltage L1-N", "4367 C000", "voltage_l1", 231.75),
    (3030, "Voltage L2-N", "4368 8000", "voltage_l2", 232.5),
    (3032, "Voltage L3-N", "4369 4000", "voltage_l3", 233.25),
    (3036, "Voltage L-N Average", "4368 0000", "voltage_ln", 232.0),
    (3054, "Active Power Phase 1", "4090 0000", "power_l1", 4500.0),
    (3056, "Active Power Phase 2", "4098 0000", "power_l2", 4750.0),
    (3058, "Active Power Phase 3", "C0A4 0000", "power_l3", -5125.0),
    (3060, "Total Active Power", "4084 0000", "power", 4125.0),
    (3068, "Total Reactive Power", "BF90 0000", "reactive_power", -1125.0),
    (3076, "Total Apparent Power", "4166 0000", "apparent_power", 14375.0),
    (3084, "Total Power Factor", "3F9C 0000", "power_factor_4q", 1.21875),
    (3110, "Frequency", "4247 E000", "frequency", 49.96875),
    (3204, "Total Active Energy Import", "0000 0000 03E6 6A2D", "energy_import", 65432.109),
    (3208, "Total Active Energy Export", "0000 0000 0023 CACE", "energy_export", 2345.678),
    (3220, "Total Reactive Energy Import", "0000 0000 0005 464E", "reactive_energy_import", 345.678),
    (3224, "Total Reactive Energy Export", "0000 0000 0074 CBB1", "reactive_energy_export", 7654.321),
    (3518, "Active Energy Import Phase 1", "0000 0000 014C CE0F", "energy_import_l1", 21810.703),
    (3522, "Active Energy Import Phase 2", "0000 0000 014C CDAC", "energy_import_l2", 21810.604),
    (3526, "Active Energy Import Phase 3", "0000 0000 014C CE72", "energy_import_l3", 21810.802),
)
NOT_ON_IEM3X50 = (
    "reactive_power",
    "apparent_power",
    "energy_export",
    "reactive_energy_import",
    "reactive_energy_export",
)
BETWEEN = (range(3000, 3112), range(3204, 3228), range(3518, 3530))


def meter(*more: tuple[int, str, str, str, None]) -> Device:
    return Device(most=64, holdings=image((*LIST, *more), first=1, junk=BETWEEN))


async def test_every_value_of_the_list_is_read_in_its_unit(tmp_path: Path) -> None:
    unit = meter()
    reading = await read(tmp_path, "iem3xxx", unit)
    assert reading.values == values(LIST)
    assert reading.quality == {}
    assert unit.refused == []
    assert len(unit.asked) == 2 * 4


async def test_what_a_small_meter_does_not_have_is_bad_and_costs_no_other_tag(tmp_path: Path) -> None:
    """A float that is not there reads 0xFFC00000; an INT64 reads that twice, or 0x8000000000000000."""
    unit = meter(
        (3068, "Total Reactive Power", "FFC0 0000", "reactive_power", None),
        (3076, "Total Apparent Power", "FFC0 0000", "apparent_power", None),
        (3208, "Total Active Energy Export", "FFC0 0000 FFC0 0000", "energy_export", None),
        (3220, "Total Reactive Energy Import", "FFC0 0000 FFC0 0000", "reactive_energy_import", None),
        (3224, "Total Reactive Energy Export", "8000 0000 0000 0000", "reactive_energy_export", None),
    )
    reading = await read(tmp_path, "iem3xxx", unit)
    assert reading.values == {tag: value for tag, value in values(LIST).items() if tag not in NOT_ON_IEM3X50}
    assert reading.quality == {
        **dict.fromkeys(NOT_ON_IEM3X50[:2], "bad:not-a-number"),
        **dict.fromkeys(NOT_ON_IEM3X50[2:], "bad:not-implemented"),
    }


@pytest.mark.parametrize("word", ["FFC0 0000 FFC0 0000", "8000 0000 0000 0000"])
async def test_no_energy_that_is_not_there_becomes_a_number(word: str, tmp_path: Path) -> None:
    energies = [row for row in LIST if len(row[2]) == len(word)]
    unit = meter(*((number, name, word, tag, None) for number, name, _, tag, _ in energies))
    reading = await read(tmp_path, "iem3xxx", unit)
    assert reading.quality == {tag: "bad:not-implemented" for _, _, _, tag, _ in energies}
    assert len(reading.quality) == 7
