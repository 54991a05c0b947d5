"""A secret is read where it is kept, at each use, and shown nowhere."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.check import check
from gateway.config import Config
from gateway.config.expand import expand
from gateway.errors import GatewayError
from gateway.secret import Secret

CANARY = "canary-7f3a"

Load = Callable[[str], Config]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(CANARY + "\n")
    path.chmod(0o600)
    return path


def test_a_secret_file_is_read_without_its_last_newline(kept: Path) -> None:
    secret = Secret.model_validate({"file": str(kept)})
    assert secret.reveal() == CANARY
    kept.write_text("a\n\n")
    assert secret.reveal() == "a\n"
    kept.write_bytes(b"a b \r\n")
    assert secret.reveal() == "a b "


def test_a_rotated_secret_counts_at_the_next_use(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_GATEWAY_SECRET", "old")
    in_file, in_environment = Secret(file=kept), Secret(env="EDGE_GATEWAY_SECRET")
    kept.write_text("new")
    monkeypatch.setenv("EDGE_GATEWAY_SECRET", "new")
    assert in_file.reveal() == in_environment.reveal() == "new"


def test_a_credential_is_read_from_systemds_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "mqtt").write_text(CANARY)
    assert Secret(credential="mqtt").reveal() == CANARY


@pytest.mark.parametrize("name", ["../mqtt", "a/b", "", ".", "..", "/etc/passwd"])
def test_a_credential_cannot_leave_systemds_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(ValueError, match="credential"):
        Secret(credential=name)


def test_a_secret_that_vanished_is_told_in_one_sentence(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_GATEWAY_SECRET", "x")
    in_file, in_environment = Secret(file=kept), Secret(env="EDGE_GATEWAY_SECRET")
    kept.unlink()
    monkeypatch.delenv("EDGE_GATEWAY_SECRET")
    with pytest.raises(GatewayError, match=f"cannot read the secret {kept}: there is no such file"):
        in_file.reveal()
    with pytest.raises(GatewayError, match="the environment variable EDGE_GATEWAY_SECRET is not set"):
        in_environment.reveal()
    kept.write_bytes(b"\xff\xfe")
    with pytest.raises(GatewayError, match="is not UTF-8 text"):
        in_file.reveal()


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o666, True)]
)
def test_a_secret_that_others_can_read_is_a_warning(kept: Path, mode: int, warned: bool) -> None:
    kept.chmod(mode)
    warning = Secret(file=kept).warning
    assert (warning is not None) is warned
    assert CANARY not in (warning or "")


@pytest.mark.parametrize("keys", [{}, {"file": "x", "env": "HOME"}, {"file": "x", "env": "HOME", "credential": "a"}])
def test_a_secret_is_kept_in_exactly_one_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    for name in ("x", "a"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="write exactly one of"):
        Secret.model_validate(keys)


def test_a_secret_is_in_no_repr_no_hash_and_no_expanded_config(load_text: Load, good: str, kept: Path) -> None:
    config = load_text(
        good.replace("  host: broker", "  username: u\n  password: {file: secret}\n  host: broker")
        + "http: {token: {file: secret}}\n"
    )
    assert config.mqtt.password is not None
    assert config.mqtt.password.reveal() == CANARY
    before = config.hash
    shown = [repr(config), str(config), expand(config), json.dumps(config.model_dump(mode="json")), repr(vars(config))]
    assert not any(CANARY in text for text in shown)
    assert f"file: {kept}" in expand(config)
    kept.write_text("rotated")
    assert config.hash == before


@pytest.mark.parametrize(
    "line",
    [
        "password: {0}",
        'password: "{0}"',
        "password: [{0}]",
        "password: {{{0}: x}}",
        "password: {{{0}}}",
        "passwrd: {{{0}}}",
        "password: {{{0}: }}",
        "password: {{? {0}}}",
        "password:\n    {0}: x",
        "password: {{file: {{a: {0}}}}}",
        "password: {{value: {0}}}",
        "password: *{0}",
        "password: !{0}",
        "password: !{0}! x",
        "password: !!{0} x",
        "password: &{0}",
        "password: &{0} &{0} x",
        'password: "{0}',
        "password: '{0}",
        "password: {0}: {0}",
        "password: @{0}",
        "password: `{0}",
        "password: %{0}",
        'password: "\\{0}"',
        "password: {{file: {0}",
        "password: [{0}",
        "password: {0}\n   {0}:",
        "password: |{0}\n  x",
        "password: 0{0}",
        "passwrd: {0}",
        "password: {{env: [{0}]}}",
    ],
)
def test_no_mistake_in_a_config_shows_the_secret(tmp_path: Path, good: str, line: str) -> None:
    path = tmp_path / "gateway.yaml"
    written = line.format(CANARY)
    path.write_text(good.replace("  host: broker", f"  username: u\n  {written}\n  host: broker"))
    for option in ([], ["--json"], ["--expand"]):
        outcome = CliRunner().invoke(check, ["-c", str(path), *option])
        assert outcome.exit_code == 2
        assert CANARY not in outcome.output
        assert outcome.output
