"""A SunSpec inverter, as models 1 and 103 define it: behind the marker `SunS`, each model with its ID and length."""

from pathlib import Path

import pytest
from register_image import Device, read

COMMON = """
4163 6D65 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000
5375 6E20 3130 4B00 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000
0000 0000 0000 0000 0000 0000 0000 0000
322E 3100 0000 0000 0000 0000 0000 0000
534E 2D30 3034 3237 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000
0001 8000
"""
"""Model 1: Mn Acme, Md Sun 10K, Opt empty, Vr 2.1, SN SN-00427, DA 1, padding."""

INVERTER = """
0D6B 047B 0478 0477 FFFE
0FA1 0F9E 0FA3 0907 0909 0904 FFFF
1E78 0000
1386 FFFE
030E 0001
FF38 0000
26F7 FFFE
0012 D687 0001
0B22 FFFE
1B58 FFFF
1F3A 0000
01C6 01F9 8000 8000 FFFF
0004 0017
0000 0000 0000 0000
0000 0000 0000 0000 0000 0000 0000 0000
"""
"""Model 103, a line for each scale factor: currents, voltages, W, Hz, VA, VAr, PF, WH, DCA, DCV, DCW, temperatures,
then St and StVnd, Evt1 and Evt2, the vendor's events."""

EXPECTED = {
    "manufacturer": "Acme",
    "model": "Sun 10K",
    "options": "",
    "firmware": "2.1",
    "serial_number": "SN-00427",
    "current": 34.35,
    "current_l1": 11.47,
    "current_l2": 11.44,
    "current_l3": 11.43,
    "voltage_l1_l2": 400.1,
    "voltage_l2_l3": 399.8,
    "voltage_l3_l1": 400.3,
    "voltage_l1": 231.1,
    "voltage_l2": 231.3,
    "voltage_l3": 230.8,
    "power": 7800.0,
    "frequency": 49.98,
    "apparent_power": 7820.0,
    "reactive_power": -200.0,
    "power_factor": 0.9975,
    "energy_produced": 12345.67,
    "dc_current": 28.5,
    "dc_voltage": 700.0,
    "dc_power": 7994.0,
    "temperature_cabinet": 45.4,
    "temperature_heat_sink": 50.5,
    "state": "mppt",
    "state_vendor": 23,
    "events": 0,
}
NOT_IMPLEMENTED = {
    "temperature_transformer": "bad:not-implemented",
    "temperature_other": "bad:not-implemented",
}
NOTHING = """
FFFF FFFF FFFF FFFF 8000
FFFF FFFF FFFF FFFF FFFF FFFF 8000
8000 8000
FFFF 8000
8000 8000
8000 8000
8000 8000
0000 0000 8000
FFFF 8000
FFFF 8000
8000 8000
8000 8000 8000 8000 8000
FFFF FFFF
FFFF FFFF
"""
"""Model 103 up to Evt1, of a device that implements none of it."""
DATA = 40000 + 2 + 2 + 66 + 2
"""First data register of model 103 behind the marker, model 1 and its own ID and length."""
SCALE_FACTORS = (4, 11, 13, 15, 17, 19, 21, 24, 26, 28, 30, 35)
NAMEPLATE = (120, [0xBEEF] * 26)
STORAGE = (802, [0xBEEF] * 62)


def hexadecimal(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


def inverter(base: int, *before: tuple[int, list[int]], behind: tuple[tuple[int, list[int]], ...] = ()) -> Device:
    """Lay the models out from `base` on, `before` between models 1 and 103: each its ID, its length and its data."""
    models = ((1, hexadecimal(COMMON)), *before, (103, hexadecimal(INVERTER)), *behind)
    cells = [0x5375, 0x6E53]
    for number, content in models:
        cells += [number, len(content), *content]
    cells += [0xFFFF, 0]
    return Device(holdings=dict(enumerate(cells, start=base)))


@pytest.mark.parametrize("base", [0, 40000, 50000])
async def test_the_models_are_found_wherever_the_chain_begins(base: int, tmp_path: Path) -> None:
    reading = await read(tmp_path, "sunspec-inverter", inverter(base))
    assert reading.values == EXPECTED
    assert reading.quality == NOT_IMPLEMENTED


async def test_other_models_before_and_behind_the_inverter_do_not_matter(tmp_path: Path) -> None:
    reading = await read(tmp_path, "sunspec-inverter", inverter(40000, NAMEPLATE, STORAGE, behind=(NAMEPLATE,)))
    assert reading.values == EXPECTED
    assert reading.quality == NOT_IMPLEMENTED


@pytest.mark.parametrize("factor", [0x8000, 0])
async def test_what_is_not_implemented_is_bad_and_never_a_number(factor: int, tmp_path: Path) -> None:
    """uint16 and enum16 0xFFFF, int16 and scale factors 0x8000, bitfield32 0xFFFFFFFF, accumulators and strings 0."""
    unit = inverter(40000)
    unit.tables["holding"].update(dict(enumerate(hexadecimal(NOTHING), start=DATA)))
    unit.tables["holding"].update(dict.fromkeys((DATA + place for place in SCALE_FACTORS), factor))
    reading = await read(tmp_path, "sunspec-inverter", unit)
    strings = {"manufacturer", "model", "options", "firmware", "serial_number"}
    assert reading.values == {tag: EXPECTED[tag] for tag in strings}
    assert reading.quality == dict.fromkeys((EXPECTED | NOT_IMPLEMENTED).keys() - strings, "bad:not-implemented")


async def test_a_value_without_its_scale_factor_is_none(tmp_path: Path) -> None:
    unit = inverter(40000)
    unit.tables["holding"][DATA + 13] = 0x8000
    reading = await read(tmp_path, "sunspec-inverter", unit)
    assert reading.values == {tag: value for tag, value in EXPECTED.items() if tag != "power"}
    assert reading.quality["power"].startswith("bad:")


async def test_numbers_with_a_sign_keep_it(tmp_path: Path) -> None:
    unit = inverter(40000)
    below = {12: "FFFF", 16: "FFFE", 18: "FFFD", 20: "D8F1", 29: "FFFC", 31: "FFFB FFFA FFF9 FFF8"}
    for place, words in below.items():
        unit.tables["holding"].update(dict(enumerate(hexadecimal(words), start=DATA + place)))
    reading = await read(tmp_path, "sunspec-inverter", unit)
    assert reading.quality == {}
    assert reading.values == EXPECTED | {
        "power": -1.0,
        "apparent_power": -20.0,
        "reactive_power": -3.0,
        "power_factor": -0.9999,
        "dc_power": -4.0,
        "temperature_cabinet": -0.5,
        "temperature_heat_sink": -0.6,
        "temperature_transformer": -0.7,
        "temperature_other": -0.8,
    }


async def test_a_scale_factor_that_changes_changes_the_value_in_the_same_poll(tmp_path: Path) -> None:
    unit = inverter(40000)
    unit.tables["holding"].update({DATA + 12: 0x030C, DATA + 13: 0x0001})
    reading = await read(tmp_path, "sunspec-inverter", unit)
    assert reading.values == {**EXPECTED, "power": 7800.0}
