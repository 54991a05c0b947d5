"""Carlo Gavazzi EM340, as table 2.4-1 lists it: physical addresses, INT32 with the least significant word first."""

from pathlib import Path

from register_image import Device, image, read, values

LIST = (
    (0x0000, "V L1-N", "0908 0000", "voltage_l1", 231.2),
    (0x0002, "V L2-N", "08FA 0000", "voltage_l2", 229.8),
    (0x0004, "V L3-N", "0901 0000", "voltage_l3", 230.5),
    (0x0006, "V L1-L2", "0FA1 0000", "voltage_l1_l2", 400.1),
    (0x0008, "V L2-L3", "0F93 0000", "voltage_l2_l3", 398.7),
    (0x000A, "V L3-L1", "0F9A 0000", "voltage_l3_l1", 399.4),
    (0x000C, "A L1", "3039 0000", "current_l1", 12.345),
    (0x000E, "A L2", "1171 0001", "current_l2", 70.001),
    (0x0010, "A L3", "E671 FFFF", "current_l3", -6.543),
    (0x0012, "kW L1", "6F7D 0000", "power_l1", 2854.1),
    (0x0014, "kW L2", "745E 0002", "power_l2", 16086.2),
    (0x0016, "kW L3", "C517 FFFF", "power_l3", -1508.1),
    (0x0018, "kVA L1", "6FB8 0000", "apparent_power_l1", 2860.0),
    (0x001A, "kVA L2", "7484 0002", "apparent_power_l2", 16090.0),
    (0x001C, "kVA L3", "3AFC 0000", "apparent_power_l3", 1510.0),
    (0x001E, "kvar L1", "072A 0000", "reactive_power_l1", 183.4),
    (0x0020, "kvar L2", "F280 FFFF", "reactive_power_l2", -345.6),
    (0x0022, "kvar L3", "032C 0000", "reactive_power_l3", 81.2),
    (0x0024, "V L-N sys", "0902 0000", "voltage_ln", 230.6),
    (0x0026, "V L-L sys", "0F9B 0000", "voltage_ll", 399.5),
    (0x0028, "kW sys", "A8F2 0002", "power", 17432.2),
    (0x002A, "kVA sys", "A940 0002", "apparent_power", 17440.0),
    (0x002C, "kvar sys", "FCD6 FFFF", "reactive_power", -81.0),
    (0x002E, "PF L1", "03E6", "power_factor_l1", 0.998),
    (0x002F, "PF L2", "03E7", "power_factor_l2", 0.999),
    (0x0030, "PF L3", "FC1B", "power_factor_l3", -0.997),
    (0x0031, "PF sys", "03E4", "power_factor", 0.996),
    (0x0032, "Phase sequence", "FFFF", "phase_sequence", "l1_l3_l2"),
    (0x0033, "Hz", "01F5", "frequency", 50.1),
    (0x0034, "kWh (+) TOT", "D687 0012", "energy_import", 123456.7),
    (0x0036, "Kvarh (+) TOT", "B26E 0000", "reactive_energy_import", 4567.8),
    (0x0038, "kW dmd", "9815 0002", "power_demand", 17000.5),
    (0x003A, "kW dmd peak", "5B6F 0003", "power_demand_max", 22001.5),
    (0x0040, "kWh (+) L1", "45E7 0006", "energy_import_l1", 41111.1),
    (0x0042, "kWh (+) L2", "4A3E 0006", "energy_import_l2", 41222.2),
    (0x0044, "kWh (+) L3", "4662 0006", "energy_import_l3", 41123.4),
    (0x004E, "kWh (-) TOT", "81CD 0001", "energy_export", 9876.5),
    (0x0050, "kvarh (-) TOT", "10E1 0000", "reactive_energy_export", 432.1),
)
OTHERS = (range(0x003C, 0x0040), range(0x0046, 0x004E), range(0x0052, 0x009A))
"""Rows of the table that have no tag: partial counters, tariffs, and what reads 0 because the meter lacks it."""


def meter(*more: tuple[int, str, str, str, None]) -> Device:
    return Device(most=50, inputs=image((*LIST, *more), junk=OTHERS))


async def test_every_value_of_the_table_is_read_in_its_unit(tmp_path: Path) -> None:
    unit = meter()
    reading = await read(tmp_path, "em340", unit)
    assert reading.values == values(LIST)
    assert reading.quality == {}
    assert unit.refused == []
    assert len(unit.asked) == 2 * 2


async def test_an_overflow_is_bad_and_never_a_number(tmp_path: Path) -> None:
    """Section 2.3: the display shows EEE when the variable is 7FFFFFFFh, word order FFFF 7FFF."""
    doubles = [row for row in LIST if len(row[2]) == 9]
    reading = await read(
        tmp_path, "em340", meter(*((number, name, "FFFF 7FFF", tag, None) for number, name, _, tag, _ in doubles))
    )
    assert reading.quality == {tag: "bad:not-implemented" for _, _, _, tag, _ in doubles}
    assert reading.values == values(row for row in LIST if len(row[2]) == 4)


async def test_the_register_that_has_two_meanings_is_never_read_by_itself(tmp_path: Path) -> None:
    """000Bh alone is the identification code, in a block with 000Ah it is the high word of V L3-L1 (table 2.6-1)."""
    unit = meter()
    await read(tmp_path, "em340", unit)
    assert all(start <= 0x000A for _, start, count in unit.asked if start <= 0x000B < start + count)
