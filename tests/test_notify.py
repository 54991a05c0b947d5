"""What systemd hears from the gateway: over a real datagram socket, as sd_notify(3) has it."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.notify import READY, STOPPING, WATCHDOG, feed_watchdog, notify, status, watchdog_s

TIMEOUT_S = 30


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The service manager's end of NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(TIMEOUT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield channel


def test_what_is_notified_arrives_in_one_message(manager: socket.socket) -> None:
    assert notify(READY, status("3 devices,\n 400 tags"))
    assert manager.recv(1024) == b"READY=1\nSTATUS=3 devices, 400 tags"
    assert notify(STOPPING)
    assert manager.recv(1024) == b"STOPPING=1"


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"edge-gateway-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("\0" + name)
        channel.settimeout(TIMEOUT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert notify(READY)
        assert channel.recv(1024) == b"READY=1"


def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify(READY)


@pytest.mark.parametrize(
    ("period", "process", "seconds"),
    [
        ("30000000", "self", 30.0),
        ("30000000", "", 30.0),
        ("30000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("soon", "", None),
    ],
)
def test_the_watchdog_counts_only_if_it_is_meant_for_this_process(
    period: str, process: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", period)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if process == "self" else process)
    assert watchdog_s() == seconds


async def test_the_watchdog_is_fed_only_while_the_gateway_is_alive(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    manager.setblocking(False)
    answers = iter([True, False, False, True])
    asked_enough = asyncio.Event()

    def alive() -> bool:
        answer = next(answers, None)
        if answer is None:
            asked_enough.set()
        return bool(answer)

    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as group:
        feeding = group.create_task(feed_watchdog(alive), name="watchdog")
        await asked_enough.wait()
        feeding.cancel()
    assert [manager.recv(1024), manager.recv(1024)] == [WATCHDOG.encode()] * 2
    with pytest.raises(BlockingIOError):
        manager.recv(1024)


async def test_without_a_watchdog_nothing_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    async with asyncio.timeout(TIMEOUT_S):
        await feed_watchdog(lambda: pytest.fail("nobody asked for a sign of life"))


def test_a_full_socket_never_blocks_the_gateway(manager: socket.socket) -> None:
    while notify("STATUS=" + "x" * 1000):
        pass
    assert not notify(READY)
