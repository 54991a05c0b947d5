"""A device as its maker's register list shows it, and what the gateway makes of it with a shipped template."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import load
from gateway.drivers.base import Shared
from gateway.drivers.modbus.section import ModbusTcpDevice
from gateway.shaping import Shaper
from simulators import ModbusSimulator, Unit
from simulators.modbus_pdu import ILLEGAL_VALUE, Refusal
from simulators.registers import Table

GENEROUS_S = 30.0
"""No test waits that long unless something is wrong."""

Row = tuple[int, str, str, str, Any]
"""Number in the maker's list, the maker's name, the registers as hex words, the tag, the value in the tag's unit."""

CONFIG = """
gateway: {{id: hall-3}}
mqtt: {{host: 127.0.0.1, topic: "factory/{{gateway}}/{{device}}", tls: {{insecure_plaintext: true}}}}
buffer: {{path: {buffer}}}
devices:
  - {{name: device, protocol: modbus-tcp, host: 127.0.0.1, port: {port}, template: {template}, timeout: 20s{keys}}}
"""


class Device(Unit):
    """Has the registers of a list and no others, and gives at most `most` of them at once."""

    def __init__(self, *, most: int = 125, in_pairs: bool = False, **tables: Mapping[int, int]) -> None:
        super().__init__("device", 1, **tables)
        self.most = most
        self.in_pairs = in_pairs
        self.asked: list[tuple[Table, int, int]] = []
        self.refused: list[tuple[Table, int, int]] = []

    def peek(self, table: Table, address: int, count: int) -> list[int]:
        self.asked.append((table, address, count))
        self.refused.append((table, address, count))
        if count > self.most or (self.in_pairs and (address % 2 or count % 2)):
            raise Refusal(ILLEGAL_VALUE)
        found = super().peek(table, address, count)
        self.refused.pop()  # it was not refused after all
        return found


def image(rows: Iterable[Row], first: int = 0, junk: Iterable[range] = ()) -> dict[int, int]:
    """Give the registers of a list whose first one has the number `first`.

    `junk` are registers that the list does not have and that the device answers all the same.
    """
    cells = {number - first: 0xDEAD for numbers in junk for number in numbers}
    for number, _, words, _, _ in rows:
        cells.update({number - first + place: int(word, 16) for place, word in enumerate(words.split())})
    return cells


def values(rows: Iterable[Row]) -> dict[str, Any]:
    """Give what the tags of a list are to show."""
    return {tag: value for _, _, _, tag, value in rows}


@dataclass(frozen=True)
class Reading:
    """What was read in one poll of all tags: values in their units, and why other tags have none."""

    values: dict[str, Any]
    quality: dict[str, str]


def configured(folder: Path, template: str, port: int = 502, keys: str = "") -> ModbusTcpDevice:
    """Load a config with one device that has the template; `keys` are others of the device, in YAML."""
    path = folder / "gateway.yaml"
    more = f", {keys}" if keys else ""
    path.write_text(CONFIG.format(buffer=folder / "buffer.db", port=port, template=template, keys=more), "utf-8")
    (section,) = load(path).devices
    assert isinstance(section, ModbusTcpDevice)
    return section


async def read(folder: Path, template: str, unit: Unit, keys: str = "") -> Reading:
    """Read a simulated device twice with a template, over TCP, and give what the second poll showed.

    The first poll may have to find out what the device does not have.
    """
    async with ModbusSimulator([unit]) as simulator:
        section = configured(folder, template, simulator.port, keys)
        columns, shaper = tuple(range(len(section.tags))), Shaper(section)
        async with section.open(Shared("hall-3")) as driver:
            for _ in range(2):
                samples = await asyncio.wait_for(driver.read(columns), GENEROUS_S)
    reading = Reading({}, {})
    for sample in samples:
        shaped = shaper.shape(sample, 0.0) or sample
        reading.values.update(
            {section.tags[column].name: value for column, value in zip(shaped.columns, shaped.values, strict=True)}
        )
        reading.quality.update(shaped.quality)
    return reading
