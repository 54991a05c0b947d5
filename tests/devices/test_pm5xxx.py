"""Schneider PM5000, as the maker's register list numbers it: from 1, most significant register first."""

from pathlib import Path

from register_image import Device, image, read, values

LIST = (
    (3000, "Current A", "42CB 0000", "current_l1", 101.5),
    (3002, "Current B", "42CC 8000", "current_l2", 102.25),
    (3004, "Current C", "42CF 8000", "current_l3", 103.75),
    (3006, "Current N", "4090 0000", "current_n", 4.5),
    (3010, "Current Avg", "42CD 0000", "current", 102.5),
    (3020, "Voltage A-B", "43C8 A000", "voltage_l1_l2", 401.25),
    (3022, "Voltage B-C", "43C9 4000", "voltage_l2_l3", 402.5),
    (3024, "Voltage C-A", "43C9 E000", "voltage_l3_l1", 403.75),
    (3026, "Voltage L-L Avg", "43C9 2000", "voltage_ll", 402.25),
    (3028, "Voltage A-N", "4367 C000", "voltage_l1", 231.75),
    (3030, "Voltage B-N", "4368 8000", "voltage_l2", 232.5),
    (3032, "Voltage C-N", "4369 4000", "voltage_l3", 233.25),
    (3036, "Voltage L-N Avg", "4368 0000", "voltage_ln", 232.0),
    (3054, "Active Power A", "41B4 0000", "power_l1", 22500.0),
    (3056, "Active Power B", "41BA 0000", "power_l2", 23250.0),
    (3058, "Active Power C", "C1C1 0000", "power_l3", -24125.0),
    (3060, "Active Power Total", "41AD 0000", "power", 21625.0),
    (3062, "Reactive Power A", "3FC0 0000", "reactive_power_l1", 1500.0),
    (3064, "Reactive Power B", "BFD0 0000", "reactive_power_l2", -1625.0),
    (3066, "Reactive Power C", "3FE0 0000", "reactive_power_l3", 1750.0),
    (3068, "Reactive Power Total", "3F90 0000", "reactive_power", 1125.0),
    (3070, "Apparent Power A", "41B5 0000", "apparent_power_l1", 22625.0),
    (3072, "Apparent Power B", "41BB 0000", "apparent_power_l2", 23375.0),
    (3074, "Apparent Power C", "41C2 0000", "apparent_power_l3", 24250.0),
    (3076, "Apparent Power Total", "428C 8000", "apparent_power", 70250.0),
    (3110, "Frequency", "4248 1000", "frequency", 50.015625),
    (3192, "Power Factor Total IEC", "BF7C 0000", "power_factor", -0.984375),
    (3204, "Active Energy Delivered (Into Load)", "0000 0002 4CB0 16EA", "energy_import", 9876543.21),
    (3208, "Active Energy Received (Out of Load)", "0000 0000 0012 D687", "energy_export", 1234.567),
    (3220, "Reactive Energy Delivered", "0000 0000 000B ADF8", "reactive_energy_import", 765.432),
    (3224, "Reactive Energy Received", "0000 0000 0000 D431", "reactive_energy_export", 54.321),
    (3236, "Apparent Energy Delivered", "0000 0002 4EC1 4430", "apparent_energy_import", 9911223.344),
    (3240, "Apparent Energy Received", "0000 0000 0013 D621", "apparent_energy_export", 1300.001),
    (3766, "Present Demand", "4281 0000", "power_demand", 64500.0),
    (3770, "Peak Demand", "42C4 8000", "power_demand_max", 98250.0),
    (21300, "THD Current A", "4010 0000", "current_thd_l1", 2.25),
    (21302, "THD Current B", "4020 0000", "current_thd_l2", 2.5),
    (21304, "THD Current C", "4030 0000", "current_thd_l3", 2.75),
    (21330, "THD Voltage A-N", "3FA0 0000", "voltage_thd_l1", 1.25),
    (21332, "THD Voltage B-N", "3FB0 0000", "voltage_thd_l2", 1.375),
    (21334, "THD Voltage C-N", "3FC0 0000", "voltage_thd_l3", 1.5),
)
LISTED_TOO = (range(3000, 3111), range(3192, 3252), range(3764, 3772), range(21300, 21340))
"""What the list holds beside, or the meter answers in a block."""


async def test_every_value_of_the_list_is_read_in_its_unit(tmp_path: Path) -> None:
    meter = Device(holdings=image(LIST, first=1, junk=LISTED_TOO))
    reading = await read(tmp_path, "pm5xxx", meter)
    assert reading.values == values(LIST)
    assert reading.quality == {}
    assert meter.refused == []
    assert len(meter.asked) == 2 * 4


async def test_what_the_meter_cannot_measure_is_bad_and_never_a_number(tmp_path: Path) -> None:
    """Sheet Data Types: N/A is 0xFFC00000 as FLOAT32, and 0x8000000000000000 as INT64."""
    words = {9: "FFC0 0000", 19: "8000 0000 0000 0000"}
    nothing = tuple((number, name, words[len(held)], tag, None) for number, name, held, tag, _ in LIST)
    reading = await read(tmp_path, "pm5xxx", Device(holdings=image(nothing, first=1, junk=LISTED_TOO)))
    reasons = {9: "bad:not-a-number", 19: "bad:not-implemented"}
    assert reading.quality == {tag: reasons[len(held)] for _, _, held, tag, _ in LIST}
    assert reading.values == {}


async def test_a_meter_without_the_plain_power_factor_loses_that_tag_alone(tmp_path: Path) -> None:
    """Register 3192 is in the list of the PM5100 and PM5300."""
    rows = tuple(row for row in LIST if row[3] != "power_factor")
    listed = tuple(numbers for numbers in LISTED_TOO if 3192 not in numbers)
    reading = await read(tmp_path, "pm5xxx", Device(holdings=image(rows, first=1, junk=(*listed, range(3200, 3252)))))
    assert reading.values == values(rows)
    assert reading.quality == {"power_factor": "bad:illegal-address"}
