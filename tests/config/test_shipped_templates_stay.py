"""A shipped template never changes, since an upgrade must not change what a config means; and it is in the package."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from gateway.config.templates import SHIPPED

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "devices"
FILES = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)
VERSIONS = (FOLDER / "VERSIONS").read_text(encoding="utf-8")
LINES = [tuple(line.split()) for line in VERSIONS.splitlines() if line and not line.startswith("#")]
BUILD = "from setuptools import setup; setup()"


def line_of(path: Path) -> tuple[str, str, str]:
    """Give name, version and hash of a template."""
    about = yaml.safe_load(path.read_text(encoding="utf-8"))["template"]
    return about["name"], str(about["version"]), hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_shipped_template_changes() -> None:
    """If this fails for a changed template: undo the change, and put it into NAME@VERSION.yaml.

    If it fails for a new one: add its line to config/devices/VERSIONS.
    """
    missing = [" ".join(line_of(path)) for path in FILES if line_of(path) not in LINES]
    assert missing == []
    assert sorted(LINES) == sorted(map(line_of, FILES))


def test_a_template_is_in_the_file_of_its_name_and_version() -> None:
    for path in FILES:
        name, version, _ = line_of(path)
        assert path.name == (f"{name}.yaml" if version == "1" else f"{name}@{version}.yaml")


def test_the_program_finds_them_where_it_is_installed() -> None:
    assert sorted(path.name for path in SHIPPED.glob("*.yaml")) == [path.name for path in FILES]
    assert SHIPPED.is_relative_to(ROOT / "gateway")


@pytest.mark.slow
def test_they_are_in_the_package(tmp_path: Path) -> None:
    """What `build` collects is what a wheel holds; pip would fetch the build tools from elsewhere."""
    source = tmp_path / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not tracked:
        pytest.skip("not a git checkout")
    for name in tracked.rstrip("\0").split("\0"):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    (source / "config" / "devices" / "one-more@2.yaml").write_text("tags: []\n", encoding="utf-8")
    for command in (["build", "--build-lib", str(tmp_path / "lib")], ["sdist", "--formats=zip", "-d", str(tmp_path)]):
        subprocess.run(
            [sys.executable, "-c", BUILD, "-q", *command], cwd=source, check=True, capture_output=True, timeout=100
        )
    wanted = sorted([*(path.name for path in FILES), "one-more@2.yaml"])
    built = tmp_path / "lib" / "gateway" / "devices"
    assert sorted(path.name for path in built.iterdir()) == wanted
    assert not built.is_symlink()
    [archive] = tmp_path.glob("*.zip")
    with zipfile.ZipFile(archive) as packed:
        names = [Path(name) for name in packed.namelist()]
    assert sorted(path.name for path in names if path.parent.name == "devices" and path.suffix == ".yaml") == wanted
