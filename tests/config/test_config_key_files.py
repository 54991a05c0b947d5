"""`edge-gateway check` looks at keys and certificates on disk: who else can read them, and whether they fit."""

from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from gateway.cli.check import check

CONFIG = """
gateway: {{id: hall-3}}
mqtt:
  host: broker
  tls: {{cert_file: {folder}/client.pem, key_file: {folder}/client.key}}
devices:
  - name: robot
    protocol: opcua
    endpoint: opc.tcp://192.0.2.1:4840
    security: {{pki_dir: {folder}/pki}}
    user_cert_file: {folder}/client.pem
    user_key_file: {folder}/user.key
    tags: [{{name: speed, node: "nsu=urn:x;s=a"}}]
  - name: press
    protocol: modbus-tls
    host: 192.0.2.2
    tls: {{cert_file: {folder}/client.pem, key_file: {folder}/press.key}}
    tags: [{{name: speed, address: "holding:0", type: uint16}}]
"""
KEYS = ("client.key", "user.key", "press.key", "pki/own/key.pem")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which all is well: one pair, its key under all the names that a config has for one."""
    pair = trustme.CA().issue_cert("hall-3")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    (tmp_path / "pki" / "own").mkdir(parents=True)
    for name in KEYS:
        (tmp_path / name).touch(mode=0o600)
        pair.private_key_pem.write_to_path(tmp_path / name)
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def warned(folder: Path) -> list[str]:
    outcome = CliRunner().invoke(check, ["-c", str(folder / "gateway.yaml")])
    assert outcome.exit_code == 0, outcome.output
    return outcome.stderr.splitlines()


def test_keys_that_nobody_else_can_read_are_no_warning(folder: Path) -> None:
    assert warned(folder) == []


@pytest.mark.parametrize("mode", [0o640, 0o604])
@pytest.mark.parametrize("name", KEYS)
def test_a_key_that_others_can_read_is_a_warning_with_the_command_to_run(folder: Path, name: str, mode: int) -> None:
    path = folder / name
    path.chmod(mode)
    assert warned(folder) == [f"warning: {path} can be read by other users (mode {mode:o}); chmod 600 {path}"]


def test_a_certificate_and_a_key_that_do_not_belong_together_are_a_warning(folder: Path) -> None:
    trustme.CA().issue_cert("hall-3").private_key_pem.write_to_path(folder / "client.key")
    pair = f"the client certificate {folder}/client.pem with the key {folder}/client.key"
    do = "Both must be PEM, belong together, and the key have no pass phrase."
    assert warned(folder) == [f"warning: mqtt: cannot use {pair}: key values mismatch. {do}"]
