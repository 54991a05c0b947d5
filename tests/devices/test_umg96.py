"""Janitza UMG 96RM, as its Modbus address list has the frequently required readings: floats, high byte first."""

from pathlib import Path

from register_image import Device, image, read, values

LIST = (
    (19000, "Voltage L1-N", "4366 4000", "voltage_l1", 230.25),
    (19002, "Voltage L2-N", "4367 8000", "voltage_l2", 231.5),
    (19004, "Voltage L3-N", "4365 C000", "voltage_l3", 229.75),
    (19006, "Voltage L1-L2", "43C7 A000", "voltage_l1_l2", 399.25),
    (19008, "Voltage L2-L3", "43C8 4000", "voltage_l2_l3", 400.5),
    (19010, "Voltage L1-L3", "43C7 6000", "voltage_l3_l1", 398.75),
    (19012, "Current I L1", "4132 0000", "current_l1", 11.125),
    (19014, "Current I L2", "4144 0000", "current_l2", 12.25),
    (19016, "Current I L3", "4156 0000", "current_l3", 13.375),
    (19018, "Vector sum; IN=I1+I2+I3", "3F40 0000", "current_n", 0.75),
    (19020, "Real power P1 L1N", "4520 0800", "power_l1", 2560.5),
    (19022, "Real power P2 L2N", "4531 3400", "power_l2", 2835.25),
    (19024, "Real power P3 L3N", "C540 0C00", "power_l3", -3072.75),
    (19026, "Sum; Psum3=P1+P2+P3", "4511 3000", "power", 2323.0),
    (19028, "Apparent power S1 L1N", "4520 1800", "apparent_power_l1", 2561.5),
    (19030, "Apparent power S2 L2N", "4531 4000", "apparent_power_l2", 2836.0),
    (19032, "Apparent power S3 L3N", "4540 1800", "apparent_power_l3", 3073.5),
    (19034, "Sum; Ssum3=S1+S2+S3", "4604 5C00", "apparent_power", 8471.0),
    (19036, "Fund. reactive power Q1 L1N", "428F 0000", "reactive_power_l1", 71.5),
    (19038, "Fund. reactive power Q2 L2N", "C282 8000", "reactive_power_l2", -65.25),
    (19040, "Fund. reactive power Q3 L3N", "4287 8000", "reactive_power_l3", 67.75),
    (19042, "Sum; Qsum3=Q1+Q2+Q3", "4294 0000", "reactive_power", 74.0),
    (19044, "CosPhi; UL1 IL1 (fundamental comp.)", "3F78 0000", "cos_phi_l1", 0.96875),
    (19046, "CosPhi; UL2 IL2 (fundamental comp.)", "3F7C 0000", "cos_phi_l2", 0.984375),
    (19048, "CosPhi; UL3 IL3 (fundamental comp.)", "BF7E 0000", "cos_phi_l3", -0.9921875),
    (19050, "Measured frequency", "4248 2000", "frequency", 50.03125),
    (19062, "Real energy L1, consumed", "49B7 1B00", "energy_import_l1", 1500.0),
    (19064, "Real energy L2, consumed", "49C6 5D40", "energy_import_l2", 1625.0),
    (19066, "Real energy L3, consumed", "49D5 9F80", "energy_import_l3", 1750.0),
    (19068, "Real energy L1..L3, consumed, rate 1", "4A94 C5F0", "energy_import", 4875.0),
    (19070, "Real energy L1, delivered", "4643 5000", "energy_export_l1", 12.5),
    (19072, "Real energy L2, delivered", "4656 D800", "energy_export_l2", 13.75),
    (19074, "Real energy L3, delivered", "466A 6000", "energy_export_l3", 15.0),
    (19076, "Real energy L1..L3, delivered", "4721 2200", "energy_export", 41.25),
    (19084, "Apparent energy L1..L3", "4A9C 6710", "apparent_energy", 5125.0),
    (19100, "Reactive energy ind. L1..L3", "4918 9680", "reactive_energy_inductive", 625.0),
    (19108, "Reactive energy cap. L1..L3", "47AA E600", "reactive_energy_capacitive", 87.5),
    (19110, "Harmonic, THD U L1-N", "3FC0 0000", "voltage_thd_l1", 1.5),
    (19112, "Harmonic, THD U L2-N", "3FD0 0000", "voltage_thd_l2", 1.625),
    (19114, "Harmonic, THD U L3-N", "3FE0 0000", "voltage_thd_l3", 1.75),
    (19116, "Harmonic, THD I L1", "4050 0000", "current_thd_l1", 3.25),
    (19118, "Harmonic, THD I L2", "4060 0000", "current_thd_l2", 3.5),
    (19120, "Harmonic, THD I L3", "4070 0000", "current_thd_l3", 3.75),
)
OTHERS = (range(19052, 19122),)
"""Rows of the list that have no tag: rotation field, sums of both directions, single phases of other energies."""


async def test_every_value_of_the_list_is_read_in_its_unit_with_one_request(tmp_path: Path) -> None:
    meter = Device(holdings=image(LIST, junk=OTHERS))
    reading = await read(tmp_path, "umg96", meter)
    assert reading.values == values(LIST)
    assert reading.quality == {}
    assert meter.asked == 2 * [("holding", 19000, 122)]
