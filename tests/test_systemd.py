"""The service as systemd sees it, and the script that installs it."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from gateway.config.local import ControlSection

HERE = Path(__file__).parents[1] / "systemd"
UNIT = HERE / "edge-gateway.service"
INSTALL = HERE / "install.sh"
TIMEOUT_S = 120

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and "CI" not in os.environ, reason="systemd-analyze is not on the PATH"
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)


def install(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run(INSTALL, "--root", root, "--no-venv", *options)


def tree(root: Path) -> dict[str, str]:
    """Every file and folder with its mode."""
    return {str(path.relative_to(root)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in sorted(root.rglob("*"))}


@needs_systemd
def test_the_service_is_exposed_no_more_than_one_and_a_half() -> None:
    rating = run("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT).stdout
    match = re.search(r"Overall exposure level for edge-gateway.service: ([0-9.]+)", rating)
    assert match is not None, rating
    assert float(match[1]) <= 1.5, rating


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(
        re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT.read_text(), flags=re.MULTILINE)
    )
    verified = run("systemd-analyze", "verify", unit)
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_systemd
def test_the_drop_in_for_serial_ports_fits_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    serial = (HERE / "serial.conf").read_text()
    unit.write_text(
        re.sub(r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", UNIT.read_text(), flags=re.MULTILINE)
    )
    (tmp_path / f"{UNIT.name}.d").mkdir()
    (tmp_path / f"{UNIT.name}.d" / "serial.conf").write_text(serial)
    verified = run("systemd-analyze", "verify", unit)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_p11_nothing_has_to_be_up_before_the_service_starts() -> None:
    settings = UNIT.read_text().splitlines()
    started_after = [line for line in settings if line.startswith(("After=", "Wants=", "Requires=", "BindsTo="))]
    assert started_after == ["After=network.target nss-lookup.target"]
    assert "StartLimitIntervalSec=0" in settings
    assert "Restart=always" in settings


def test_the_control_socket_has_a_folder_that_only_its_group_may_enter() -> None:
    settings = UNIT.read_text().splitlines()
    assert {"RuntimeDirectory=edge-gateway", "RuntimeDirectoryMode=0750", "Group=edge-gateway"} <= set(settings)
    assert ControlSection().socket.parent == Path("/run/edge-gateway")
    assert any(line.startswith("RestrictAddressFamilies=") and "AF_UNIX" in line for line in settings)


def test_the_script_installs_what_the_service_needs(tmp_path: Path) -> None:
    done = install(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    found = tree(tmp_path)
    assert found["etc/edge-gateway"] == found["etc/edge-gateway/secrets"] == found["etc/edge-gateway/tls"] == "750"
    assert found["var/lib/edge-gateway"] == "750"
    assert found["etc/edge-gateway/gateway.yaml"] == "640"
    assert found["etc/systemd/system/edge-gateway.service"] == "644"
    assert (tmp_path / "etc/systemd/system/edge-gateway.service").read_text() == UNIT.read_text()


def test_installing_again_changes_nothing_and_keeps_the_config(tmp_path: Path) -> None:
    install(tmp_path)
    config = tmp_path / "etc/edge-gateway/gateway.yaml"
    config.write_text("mine")
    before = tree(tmp_path)
    assert install(tmp_path).returncode == 0
    assert tree(tmp_path) == before
    assert config.read_text() == "mine"


def test_uninstalling_keeps_config_and_readings_unless_told_to_purge(tmp_path: Path) -> None:
    install(tmp_path)
    (tmp_path / "var/lib/edge-gateway/buffer.db").write_text("readings")
    done = install(tmp_path, "--uninstall")
    assert done.returncode == 0
    assert "--purge removes them too" in done.stdout
    left = tree(tmp_path)
    assert "var/lib/edge-gateway/buffer.db" in left
    assert "etc/edge-gateway/gateway.yaml" in left
    assert "opt/edge-gateway" not in left
    assert "etc/systemd/system/edge-gateway.service" not in left
    assert install(tmp_path, "--uninstall", "--purge").returncode == 0
    assert not {"var/lib/edge-gateway", "etc/edge-gateway"} & tree(tmp_path).keys()
    assert install(tmp_path, "--uninstall", "--purge").returncode == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--prefix"], "There is no option --prefix."),
        (["--root"], "--root needs a value."),
        (["--purge"], "--purge goes with --uninstall."),
    ],
)
def test_wrong_use_is_told_in_one_sentence(options: list[str], sentence: str) -> None:
    done = run(INSTALL, *options)
    assert (done.returncode, done.stderr) == (2, f"install.sh: {sentence} See systemd/install.sh --help.\n")


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = run(INSTALL, "--root", tmp_path, "--python", old)
    assert (done.returncode, done.stderr) == (1, f"install.sh: {old} is older than Python 3.11.\n")


def test_the_script_is_plain_posix_shell() -> None:
    assert INSTALL.read_text().startswith("#!/bin/sh\n")
    assert run("sh", "-n", INSTALL).returncode == 0
    if shutil.which("shellcheck"):
        assert run("shellcheck", INSTALL).stdout == ""


def test_help_needs_no_root() -> None:
    assert run(INSTALL, "--help").stdout.startswith("Usage: systemd/install.sh")
