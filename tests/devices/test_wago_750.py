"""A WAGO 750 coupler, as its manual lists its registers, and a process image of modules beside them."""

from pathlib import Path

from register_image import Device, read

REGISTERS = {
    0x1020: 0x0004,
    0x1021: 0x0002,
    0x1022: 0x0020,
    0x1023: 0x0040,
    0x1024: 0x0008,
    0x1025: 0x0010,
    0x2010: 0x0005,
    0x2011: 0x02EE,
    0x2012: 0x0160,
    0x2013: 0x0001,
    0x2014: 0x0007,
}
"""LedErrCode, LedErrArg, CnfLen.AnalogOut, AnalogInp, DigitalOut, DigitalInp, INFO_REVISION to INFO_MINOR."""

EXPECTED = {
    "error_code": 4,
    "error_argument": 2,
    "analog_output_bits": 32,
    "analog_input_bits": 64,
    "digital_output_bits": 8,
    "digital_input_bits": 16,
    "firmware_index": 5,
    "series": 750,
    "item": 352,
    "firmware_major": 1,
    "firmware_minor": 7,
}
LONGEST = {0x1020: 2, 0x1022: 4, 0x1023: 3, 0x1024: 2}
"""Column Length (Word) of the manual's table: how far a request may go on from a register; else it is that one only."""

IMAGE = """tags: [
    {name: flow, address: "input:0", type: int16, scale: 0.01},
    {name: level, address: "input:3", type: int16},
    {name: setpoint, address: "holding:512", type: int16},
    {name: door_closed, address: "discrete:0", type: bool},
    {name: limit, address: "discrete:15", type: bool},
    {name: valve, address: "coil:519", type: bool}]"""


def coupler() -> Device:
    """Four analog inputs, two analog outputs, 16 digital inputs, eight digital outputs; codes 3 and 4 read the same."""
    image = {0: 0x0FA5, 1: 0, 2: 0, 3: 0xFFF6, 4: 0x8001, 512: 0x7530, 513: 0, 514: 0x0080}
    bits = {**dict.fromkeys(range(16), 0), **dict.fromkeys(range(512, 520), 0), 0: 1, 15: 1, 519: 1}
    words = {**REGISTERS, **image}
    return Device(holdings=words, inputs=words, discretes=bits, coils=bits)


async def test_every_register_of_the_coupler_is_read_in_requests_that_the_manual_allows(tmp_path: Path) -> None:
    unit = coupler()
    reading = await read(tmp_path, "wago-750", unit)
    assert reading.values == EXPECTED
    assert reading.quality == {}
    assert unit.asked
    assert unit.refused == []
    assert all(count <= LONGEST.get(start, 1) for _, start, count in unit.asked)


async def test_tags_of_the_process_image_stand_beside_those_of_the_coupler(tmp_path: Path) -> None:
    reading = await read(tmp_path, "wago-750", coupler(), keys=IMAGE)
    shown = {"flow": 40.05, "level": -10, "setpoint": 30000, "door_closed": True, "limit": True, "valve": True}
    assert reading.values == {**EXPECTED, **shown}
    assert reading.quality == {}
