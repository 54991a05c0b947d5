"""Fifty presses of two thousand tags are a page of YAML and two CSV files, and load quickly, in little memory."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.check import check
from gateway.config import load
from gateway.errors import ConfigError

PRESSES = 50
TAGS = 2000
CONFIG = """
gateway: {id: hall-3, labels: {site: oslo}}
mqtt: {host: broker.example.com, include_labels: [site, line]}
devices_file: presses.csv
"""
TEMPLATE = """
template: {name: press, version: 1, vars: {base: {default: 0, description: first register}}}
protocol: modbus-tcp
interval: 1s
max_registers: 120
tags_file: press.csv
tags:
  - {name: program, address: "holding:${base}+9000", type: uint16, deadband: 0}
"""
MEMORY = """
import resource, sys
from pathlib import Path
from gateway.config import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
config = load(Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the plant's files."""
    folder = tmp_path_factory.mktemp("plant")
    (folder / "devices").mkdir()
    (folder / "devices" / "press.yaml").write_text(TEMPLATE, encoding="utf-8")
    tags = (f'tag-{n};holding:{2 * n};float32;Cel;0.1;0.5;[0, 100];"value; number {n}"\n' for n in range(TAGS))
    (folder / "devices" / "press.csv").write_text(
        "name;address;type;unit;scale;deadband;range;description\n" + "".join(tags), encoding="utf-8-sig"
    )
    rows = (f"press-{n},press,192.0.2.{n + 1},{n % 4},{100 * (n % 2)}\n" for n in range(PRESSES))
    (folder / "presses.csv").write_text("name,template,host,labels.line,base\n" + "".join(rows), encoding="utf-8")
    (folder / "gateway.yaml").write_text(CONFIG, encoding="utf-8")
    return folder / "gateway.yaml"


def test_alike_devices_share_their_tags(plant: Path) -> None:
    began = time.perf_counter()
    config = load(plant)
    took = time.perf_counter() - began
    assert sum(len(device.tags) for device in config.devices) == PRESSES * (TAGS + 1)
    assert config.devices[0].tags is config.devices[2].tags
    assert config.devices[0].tags is not config.devices[1].tags  # another base, hence another program register
    assert len({id(tag) for device in config.devices for tag in device.tags}) == TAGS + 2
    assert [config.devices[n].tags[0].source for n in (0, 1)] == ["holding:9000", "holding:9100"]
    assert took < 20  # 0.4 s on an idle machine


def test_a_hundred_thousand_tags_cost_little_memory(plant: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(plant)], capture_output=True, text=True, timeout=100, check=True
    )
    assert int(run.stdout) < 40_000  # KiB; 14 MiB measured


def test_what_expand_prints_for_them_loads_to_the_same_config(plant: Path, tmp_path: Path) -> None:
    outcome = CliRunner().invoke(check, ["-c", str(plant), "--expand"])
    assert outcome.exit_code == 0
    assert outcome.stdout.count("# template: press@1\n") == PRESSES
    lines = outcome.stdout.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line.startswith("# template")]
    few = tmp_path / "few.yaml"
    few.write_text("".join(lines[: starts[3]]), encoding="utf-8")
    assert load(few).devices == load(plant).devices[:3]


def test_the_summary_names_the_templates(plant: Path) -> None:
    outcome = CliRunner().invoke(check, ["-c", str(plant), "--json"])
    told = json.loads(outcome.stdout)
    assert (told["devices"], told["tags"], told["hash"]) == (PRESSES, PRESSES * (TAGS + 1), load(plant).hash)
    assert told["templates"] == {f"press-{n}": "press@1" for n in range(PRESSES)}


def test_a_broken_row_is_said_once_however_many_devices_have_it(plant: Path, tmp_path: Path) -> None:
    for name in ("gateway.yaml", "presses.csv", "devices/press.yaml", "devices/press.csv"):
        text = (plant.parent / name).read_text(encoding="utf-8")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("holding:2000;float32", "holding:2000;float23"), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "gateway.yaml")
    [problem] = refused.value.problems
    assert (problem.file, problem.line, problem.column) == (f"{tmp_path}/devices/press.csv", 1002, 3)
    assert problem.path == "type"
    assert problem.text.endswith("not 'float23'; did you mean float32? (used by press-0 and 49 more)")
