"""The README runs: its commands are what they say, and its configs load."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    """Give the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Give every command line of the README."""
    return [line for block in blocks("sh") for line in block.splitlines()]


def section_of(key: str) -> dict[str, Any]:
    """Give the YAML block that is a part of a config and begins with this key."""
    return next(section for section in map(yaml.safe_load, blocks("yaml")) if next(iter(section)) == key)


def run(command: str, folder: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command as a reader would, in a folder, with this environment's programs first."""
    path = f"{BIN}:/usr/bin:/bin:/usr/sbin:/sbin"
    return subprocess.run(
        ["sh", "-c", command],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={"PATH": path},
    )


def test_its_first_config_passes_its_check_command(tmp_path: Path) -> None:
    """Written as it stands, the first config is right, and the command says so."""
    (tmp_path / "gateway.yaml").write_text(blocks("yaml")[0])
    check = next(command for command in commands() if command.startswith("edge-gateway check"))
    result = run(check, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "2 devices" in result.stdout


def test_its_broker_section_fits_into_that_config(tmp_path: Path) -> None:
    """With its files in place, the `mqtt` section is right too."""
    section = section_of("mqtt")
    for holder, key in (
        (section["mqtt"]["password"], "file"),
        *((section["mqtt"]["tls"], k) for k in section["mqtt"]["tls"]),
    ):
        file = tmp_path / Path(holder[key]).name
        file.touch(mode=0o600)
        holder[key] = str(file)
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(yaml.safe_load(blocks("yaml")[0]) | section))
    result = run("edge-gateway check -c gateway.yaml", tmp_path)
    assert result.returncode == 0, result.stderr


def test_its_many_machines_are_read_with_a_shipped_template_and_one_of_the_reader(tmp_path: Path) -> None:
    """With a CSV file and a template as it describes them, the section is a config's."""
    whole = {**yaml.safe_load(blocks("yaml")[0]), **section_of("defaults")}
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(whole))
    (tmp_path / "presses.csv").write_text(
        "name,template,host,base\npress-1,press,192.0.2.10,0\npress-2,press,192.0.2.11,100\n"
    )
    (tmp_path / "devices").mkdir()
    tag = {"name": "strokes", "address": "holding:${base}+12", "type": "uint32"}
    (tmp_path / "devices" / "press.yaml").write_text(yaml.safe_dump({"protocol": "modbus-tcp", "tags": [tag]}))
    result = run("edge-gateway check --json -c gateway.yaml", tmp_path)
    assert result.returncode == 0, result.stderr + result.stdout
    assert json.loads(result.stdout)["devices"] == 4


@pytest.mark.parametrize("command", [line for line in commands() if line.startswith("make ")])
def test_its_make_targets_exist(command: str) -> None:
    """`make -n` knows how to make each."""
    assert run(f"{command} -n", ROOT).returncode == 0


@pytest.mark.parametrize("command", [line for line in commands() if "systemd/install.sh" in line])
def test_its_scripts_are_there(command: str) -> None:
    """The installer that it names can be run."""
    script = next(word for word in command.split() if word.startswith("systemd/"))
    assert run(f"{script} --help", ROOT).returncode == 0


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"`(edge-gateway [a-z]+|python -m simulators(?: ctl)?)", README)))
)
def test_every_command_that_it_names_has_help_with_an_example(command: str) -> None:
    """`--help` works, and shows how the command is used."""
    result = run(f"{command} --help", ROOT)
    assert result.returncode == 0, result.stderr
    assert "xample" in result.stdout


def test_its_links_lead_somewhere() -> None:
    """Every file that it links to is in the repository."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_it_stays_short() -> None:
    """A stranger reads it in one go."""
    assert len(README.splitlines()) < 300


@pytest.mark.timeout(300)
def test_make_demo_shows_that_readings_of_every_simulated_device_arrive(tmp_path: Path) -> None:
    """The demo ends by itself, exit 0, and what it prints was received at the broker."""
    make = shutil.which("make")
    assert make is not None, "make is missing: apt-get install make"
    result = run("edge-gateway demo --seconds 12", tmp_path, timeout=240)
    assert result.returncode == 0, result.stderr
    last = [line for line in result.stdout.splitlines() if "press-1" in line][-1]
    for device in ("press-1", "meter-1", "robot-1"):
        assert re.search(rf"{device}: \w+, [1-9]\d* samples, [1-9]\d* readings, 0 missing", last), last
