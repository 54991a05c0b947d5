"""Every shipped template loads as it is, cites its source, and speaks the words that all of them share."""

import re
from pathlib import Path

import pytest
from register_image import configured

from gateway.drivers.modbus.section import ModbusTcpDevice

FOLDER = Path(__file__).parents[2] / "config" / "devices"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
METERS = ("em340", "iem3xxx", "pm5xxx", "sdm630", "umg96")
README = (FOLDER / "README.md").read_text(encoding="utf-8")
UNITS = dict(re.findall(r"^\| `([a-z0-9_]+)` \|[^|]*\| ([^ |]+) \|", README, re.MULTILINE))
"""Unit of each name in the README's table; a `_l1` or `_l1_l2` behind a name does not change the unit."""


def unit_of(tag: str) -> str:
    return UNITS[re.sub(r"_l[123](_l[123])?$", "", tag)]


@pytest.fixture(params=TEMPLATES)
def section(request: pytest.FixtureRequest, tmp_path: Path) -> ModbusTcpDevice:
    return configured(tmp_path, request.param)


def test_there_is_a_template_for_every_device_that_is_promised() -> None:
    promised = {*METERS, "sunspec-inverter", "wago-750", "generic-plc"}
    assert promised <= set(TEMPLATES)


def test_it_loads_and_every_tag_says_what_it_is(section: ModbusTcpDevice) -> None:
    assert section.tags
    for tag in section.tags:
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", tag.name), tag.name
        assert tag.description, tag.name


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_names_itself_its_version_and_the_manual_that_it_follows(template: str) -> None:
    head = (FOLDER / f"{template}.yaml").read_text(encoding="utf-8").partition("\ntags:\n")[0]
    assert f"\n  name: {template}\n" in head
    assert re.search(r"\n  version: [1-9][0-9]*\n", head)
    assert re.search(r"\n  manual: \S", head)


@pytest.mark.parametrize("template", METERS)
def test_meters_give_the_same_name_to_the_same_quantity_in_the_same_unit(template: str, tmp_path: Path) -> None:
    section = configured(tmp_path, template)
    units = {tag.name: tag.unit or "-" for tag in section.tags}
    assert units == {name: unit_of(name) for name in units}
    assert {"voltage_l1", "current_l1", "power", "frequency", "energy_import"} <= set(units)


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_leaves_the_way_to_the_device_to_the_device(template: str) -> None:
    text = (FOLDER / f"{template}.yaml").read_text(encoding="utf-8")
    assert not re.search(r"^(protocol|host|hosts|port|serial|tls|unit_id|link):", text, re.MULTILINE)
