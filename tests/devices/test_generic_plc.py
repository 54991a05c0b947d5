"""The block that any PLC program can fill, at any base address and in any word order."""

from pathlib import Path

import pytest
from register_image import Device, read

EXPECTED = {
    "heartbeat": 4660,
    "state": "running",
    "alarms": 0x8001,
    "program": 17,
    "parts_good": 3_000_000_123,
    "parts_bad": 70_000,
    "speed": 12.75,
}
HEAD = "1234 0003 8001 0011"
ORDERS = {
    "ABCD": "B2D0 5E7B 0001 1170 414C 0000",
    "CDAB": "5E7B B2D0 1170 0001 0000 414C",
    "BADC": "D0B2 7B5E 0100 7011 4C41 0000",
    "DCBA": "7B5E D0B2 7011 0100 0000 4C41",
}


def plc(base: int, order: str) -> Device:
    words = [int(word, 16) for word in f"{HEAD} {ORDERS[order]}".split()]
    return Device(holdings=dict(enumerate(words, start=base)))


@pytest.mark.parametrize("order", ORDERS)
async def test_the_block_is_read_in_one_request_from_its_base_in_its_order(order: str, tmp_path: Path) -> None:
    unit = plc(1200, order)
    reading = await read(tmp_path, "generic-plc", unit, keys=f"vars: {{base: 1200, byte_order: {order}}}")
    assert reading.values == EXPECTED
    assert reading.quality == {}
    assert set(unit.asked) == {("holding", 1200, 10)}


async def test_without_vars_it_begins_at_register_0_most_significant_word_first(tmp_path: Path) -> None:
    reading = await read(tmp_path, "generic-plc", plc(0, "ABCD"))
    assert reading.values == EXPECTED


async def test_a_device_adds_names_for_its_alarm_bits(tmp_path: Path) -> None:
    door, oil = (
        '{name: door_open, address: "holding:2.0", type: bool}',
        '{name: oil_low, address: "holding:2.1", type: bool}',
    )
    reading = await read(tmp_path, "generic-plc", plc(0, "ABCD"), keys=f"tags: [{door}, {oil}]")
    assert reading.values == {**EXPECTED, "door_open": True, "oil_low": False}
