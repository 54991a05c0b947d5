"""Name look-ups that nobody need wait for."""

import asyncio
import socket
import threading

import pytest

from gateway.loop import Loop


def test_a_name_server_that_never_answers_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends the gateway within seconds, whatever the resolver does: the look-up is left behind."""
    answer = threading.Event()
    asked = threading.Event()

    def silent(*_: object) -> None:
        asked.set()
        answer.wait()

    monkeypatch.setattr(socket, "getaddrinfo", silent)

    async def connect() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.open_connection("plc.example", 502)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(connect())
    assert asked.is_set()
    answer.set()


def test_names_are_looked_up_and_a_name_that_is_not_there_is_an_oserror() -> None:
    """It gives what the system's resolver gives."""

    async def look_up() -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo("localhost", 502, family=socket.AF_INET, type=socket.SOCK_STREAM)
        assert ("127.0.0.1", 502) in [address for *_, address in found]
        with pytest.raises(OSError, match=r"known|resol|name"):
            await loop.getaddrinfo("there-is-no-such-name.invalid", 502)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(look_up())


def test_a_question_that_is_open_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often devices try again while a name server is silent, there is one thread for each name."""
    answer = threading.Event()
    asked: list[object] = []

    def silent(*question: object) -> list[object]:
        asked.append(question)
        answer.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)

    async def try_again_and_again() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await loop.getaddrinfo("plc.example", 502)
        answer.set()
        assert await loop.getaddrinfo("plc.example", 502) == []

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(try_again_and_again())
    assert len(asked) <= 2
