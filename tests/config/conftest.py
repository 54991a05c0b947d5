"""What the config's tests share: a good config to change, and a way to load text."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config, load
from gateway.errors import ConfigError

GOOD = Path(__file__).parent / "good.yaml"
Load = Callable[[str], Config]


@pytest.fixture
def good() -> str:
    """The text of a config in which nothing is wrong."""
    return GOOD.read_text(encoding="utf-8")


@pytest.fixture
def load_text(tmp_path: Path) -> Load:
    """Load text as if it were a config file."""

    def load_it(text: str) -> Config:
        path = tmp_path / "gateway.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path)

    return load_it


@pytest.fixture
def complaints(load_text: Load) -> Callable[[str], list[str]]:
    """Load text and give what is wrong with it, each as `path: text`."""

    def load_it(text: str) -> list[str]:
        try:
            load_text(text)
        except ConfigError as error:
            return [f"{problem.path}: {problem.text}" for problem in error.problems]
        return []

    return load_it
