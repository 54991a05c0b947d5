"""Every broken config in `broken/` is refused with exactly the messages in the `.expected` file beside it."""

from pathlib import Path

import pytest

from gateway.config import load
from gateway.errors import ConfigError

FOLDER = Path(__file__).parent / "broken"
BROKEN = sorted(FOLDER.glob("*.yaml"), key=lambda path: path.name)


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_GATEWAY_UNSET", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_config_gives_exactly_these_messages(path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(path)
    told = str(refused.value).replace(f"{FOLDER}/", "")
    assert told.splitlines() == path.with_suffix(".expected").read_text(encoding="utf-8").splitlines()


def test_every_broken_config_has_its_messages_and_every_message_its_config() -> None:
    assert len(BROKEN) >= 30
    assert {path.stem for path in BROKEN} == {path.stem for path in FOLDER.glob("*.expected")}


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_no_message_speaks_the_language_of_a_library(path: Path) -> None:
    told = path.with_suffix(".expected").read_text(encoding="utf-8")
    for word in ("Input should", "Value error", "pydantic", "Traceback", "NoneType", "validation error", "[type="):
        assert word not in told


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_no_message_repeats_a_secret(path: Path) -> None:
    assert "correct-horse" not in path.with_suffix(".expected").read_text(encoding="utf-8")
