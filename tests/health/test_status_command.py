"""`edge-gateway status` against a running endpoint: one screen, honest exit codes, never a traceback."""

import asyncio
import os
import sys
from pathlib import Path

import orjson
import pytest
import trustme
from fake_parts import FakeBroker, FakeDevice, expiring, fake_parts

from gateway.config.local import HttpSection, HttpTls
from gateway.health.http import serve
from gateway.health.report import Parts
from gateway.model import DeviceState, MqttState
from gateway.secret import Secret

TIMEOUT_S = 60
DOWN = FakeDevice("press-2", DeviceState.UNREACHABLE, error="no answer\x1b[2J [bold]x[/bold]", do="Check power.")
AILING = fake_parts(
    FakeDevice(),
    DOWN,
    broker=FakeBroker(MqttState.UNREACHABLE, error="away"),
    certificates=lambda: (expiring("mqtt", 40.5),),
)


class Ended:
    """How a command ended."""

    def __init__(self, code: int | None, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out.decode(), err.decode()


async def status(config: Path, *options: str) -> Ended:
    command = (sys.executable, "-c", "from gateway.cli import main; main()", "status", "-c", config, *options)
    pipe = asyncio.subprocess.PIPE
    environment = {**os.environ, "NO_COLOR": "1"}
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment)
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate()
    return Ended(process.returncode, out, err)


def write_config(folder: Path, listen: str, extra: str = "") -> Path:
    config = folder / "gateway.yaml"
    config.write_text(
        "gateway: {id: hall-3}\n"
        'mqtt: {host: broker.example.com, topic: "factory/{gateway}/{device}"}\n'
        f'http: {{listen: "{listen}"{extra}}}\n'
        "devices:\n"
        "  - {name: press-1, protocol: modbus-tcp, host: 192.0.2.10,\n"
        '     tags: [{name: level, address: "holding:2", type: uint16}]}\n'
    )
    return config


async def asked(folder: Path, parts: Parts, *options: str) -> Ended:
    """Run the command against an endpoint that shows these parts."""
    async with serve(HttpSection(listen="127.0.0.1:0"), parts) as endpoint:
        return await status(write_config(folder, endpoint.address), *options)


async def test_a_gateway_in_good_order_is_one_screen_and_exit_code_0(tmp_path: Path) -> None:
    ended = await asked(tmp_path, fake_parts())
    assert (ended.code, ended.err) == (0, "")
    for shown in ("hall-3", "ok", "press-1", "1000/1000", "broker.example.com:8883", "93000 sampled"):
        assert shown in ended.out


async def test_what_is_wrong_is_shown_with_what_to_do_and_exit_code_1(tmp_path: Path) -> None:
    ended = await asked(tmp_path, AILING)
    assert ended.code == 1
    assert "degraded" in ended.out
    assert "• press-2: no answer\\x1b[2J [bold]x[/bold]\n  Check power." in ended.out
    assert "• MQTT broker: away" in ended.out
    assert "–/1000" in ended.out
    assert "certificate mqtt: 40 days left" in ended.out
    assert "\x1b" not in ended.out


async def test_json_is_what_the_gateway_said(tmp_path: Path) -> None:
    ended = await asked(tmp_path, AILING, "--json")
    assert ended.code == 1
    assert orjson.loads(ended.out)["devices"]["press-2"]["state"] == "unreachable"


async def test_a_gateway_that_does_not_run_is_one_sentence(tmp_path: Path, unused_tcp_port: int) -> None:
    ended = await status(write_config(tmp_path, f"127.0.0.1:{unused_tcp_port}"))
    assert (ended.code, ended.out) == (1, "")
    assert f"no gateway answers at 127.0.0.1:{unused_tcp_port}. Start it (systemctl start edge-gateway)" in ended.err
    assert ended.err.count("\n") == 1


async def test_a_wrong_config_is_exit_code_2(tmp_path: Path) -> None:
    ended = await status(tmp_path / "missing.yaml")
    assert (ended.code, ended.out) == (2, "")
    assert "missing.yaml: cannot be read: there is no such file" in ended.err


async def test_another_program_at_the_port_is_told_apart(tmp_path: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        ended = await status(write_config(tmp_path, f"127.0.0.1:{port}"))
    assert ended.code == 1
    assert f"what answers at 127.0.0.1:{port} is not an edge-gateway" in ended.err


async def test_the_token_goes_only_to_whoever_holds_the_certificate_in_the_config(tmp_path: Path) -> None:
    def issue(name: str) -> HttpTls:
        issued = trustme.CA().issue_cert("gateway.example")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        return HttpTls(cert_file=tmp_path / f"{name}.pem", key_file=tmp_path / f"{name}.key")

    (tmp_path / "token").write_text("right horse")
    token = Secret(file=tmp_path / "token")
    extra = ", tls: {cert_file: own.pem, key_file: own.key}, token: {file: token}"
    async with serve(HttpSection(listen="127.0.0.1:0", tls=issue("own"), token=token), fake_parts()) as endpoint:
        assert (await status(write_config(tmp_path, endpoint.address, extra))).code == 0
        (tmp_path / "token").write_text("wrong horse")
        ended = await status(write_config(tmp_path, endpoint.address, extra))
        assert (ended.code, "does not accept the token" in ended.err) == (1, True)
        assert "horse" not in ended.err
    async with serve(HttpSection(listen="127.0.0.1:0", tls=issue("other"), token=token), fake_parts()) as endpoint:
        ended = await status(write_config(tmp_path, endpoint.address, extra))
        assert (ended.code, "does not hold the certificate" in ended.err) == (1, True)


@pytest.mark.parametrize("options", [["--help"], ["-h"]])
def test_help_has_an_example(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from gateway.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["status", *options])
    assert ended.value.code == 0
    assert "Example: edge-gateway status -c /etc/edge-gateway/gateway.yaml" in capsys.readouterr().out
