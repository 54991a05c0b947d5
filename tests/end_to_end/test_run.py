"""`edge-gateway run` as a service manager and an operator see it: readiness, exit codes, one sentence an error."""

import asyncio
import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.broker import free_port
from tests.end_to_end.rig import Child, Gateway, running

STOP_S = 5.0


def config(folder: Path, **sections: Any) -> dict[str, Any]:
    """A config with one PLC and a broker, both of which are off."""
    return {
        "gateway": {"id": "hall-3"},
        "mqtt": {"host": "127.0.0.1", "port": free_port()},
        "buffer": {"path": str(folder / "buffer.db")},
        "http": {"listen": f"127.0.0.1:{free_port()}"},
        "control": {"socket": str(folder / "control.sock")},
        "devices": [
            {
                "name": "press-1", "protocol": "modbus-tcp", "host": "127.0.0.1", "port": free_port(),
                "tags": [{"name": "level", "address": "holding:0", "type": "uint16"}],
            }
        ],
        **sections,
    }  # fmt: skip


async def run(*arguments: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Run a command to its end; gives exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_sigterm_ends_it_within_five_seconds_with_exit_code_0_though_nothing_answers(tmp_path: Path) -> None:
    """With every PLC and the broker off it starts, says so, and ends when told."""
    async with running(Gateway(tmp_path, config(tmp_path))) as gateway:
        await gateway.until(
            lambda health: health["devices"]["press-1"]["state"] == health["mqtt"]["state"] == "unreachable"
        )
        began = time.monotonic()
        assert await gateway.end() == 0
        assert time.monotonic() - began < STOP_S
    assert "Traceback" not in gateway.said
    assert gateway.said.count(" WARNING ") == 2, "what is broken is said once each"


async def test_the_service_manager_hears_when_it_is_ready_alive_and_stopping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sd_notify: READY=1 once it polls, WATCHDOG=1 while the loop turns, STOPPING=1 at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        heard: list[str] = []

        async def hear(line: str) -> None:
            async with asyncio.timeout(30):
                while line not in heard:
                    heard.extend((await asyncio.get_running_loop().sock_recv(manager, 4096)).decode().splitlines())

        async with running(Gateway(tmp_path, config(tmp_path))) as gateway:
            await hear("READY=1")
            await hear("WATCHDOG=1")
            assert await gateway.end() == 0
            await hear("STOPPING=1")


async def test_a_second_gateway_on_the_same_buffer_is_refused_with_one_sentence(tmp_path: Path) -> None:
    """Exit 1, what is wrong and what to do; the first one goes on."""
    (tmp_path / "second").mkdir()
    async with running(Gateway(tmp_path, config(tmp_path))) as gateway:
        await gateway.health()
        second = Gateway(tmp_path / "second", config(tmp_path, http={"listen": f"127.0.0.1:{free_port()}"}))
        code, _, err = await run("run", "-c", str(second.config_file))
        assert (code, err.count("\n")) == (1, 1)
        assert "another edge-gateway is using this buffer" in err
        await gateway.health()


async def test_a_port_in_use_is_told_in_one_sentence(tmp_path: Path) -> None:
    """Exit 1; which port, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = Gateway(tmp_path, config(tmp_path, http={"listen": f"127.0.0.1:{port}"}))
        code, _, err = await run("run", "-c", str(gateway.config_file))
    assert (code, err.count("\n")) == (1, 1)
    assert f"127.0.0.1:{port}" in err
    assert "http.listen" in err


async def test_a_wrong_config_is_exit_2_with_every_error_and_nothing_is_started(tmp_path: Path) -> None:
    """P12: all errors at once, and not even the buffer's folder is made."""
    wrong = config(tmp_path, buffer={"path": str(tmp_path / "made" / "buffer.db"), "max_bytes": 5})
    wrong["mqtt"]["prot"] = 1883
    gateway = Gateway(tmp_path, wrong)
    code, _, err = await run("run", "-c", str(gateway.config_file))
    assert code == 2
    assert len(err.splitlines()) == 2
    assert "did you mean" in err
    assert not (tmp_path / "made").exists()


async def test_the_log_can_be_json(tmp_path: Path) -> None:
    """`--log-format json`: one object a line, with instants in ms."""
    gateway = Gateway(tmp_path, config(tmp_path))
    child = Child(tmp_path / "json.log", "-m", "gateway", "run", "-c", str(gateway.config_file), "--log-format", "json")
    await child.start()
    gateway.process = child.process
    await gateway.until(lambda health: health["devices"]["press-1"]["state"] == "unreachable")
    assert await child.end(signal.SIGINT) == 0
    lines = [json.loads(line) for line in child.said.splitlines()]
    assert {"ts", "level", "logger", "message"} <= set(lines[0])
    assert all(isinstance(line["ts"], int) for line in lines)


async def test_status_says_on_one_screen_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    """Exit 1 while something is wrong, and one sentence where no gateway runs."""
    async with running(Gateway(tmp_path, config(tmp_path))) as gateway:
        await gateway.until(lambda health: health["devices"]["press-1"]["state"] == "unreachable")
        code, out, _ = await run("status", "-c", str(gateway.config_file))
        assert code == 1
        assert "press-1" in out
        assert "unreachable" in out
        assert await gateway.end() == 0
    code, _, err = await run("status", "-c", str(gateway.config_file))
    assert (code, err.count("\n")) == (1, 1)
