"""A link that dies without a word, and a name that nobody can resolve yet: noticed, told, and nothing is lost."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.model import MqttState
from tests.broker import Broker
from tests.publisher.connect_proxy import ConnectProxy
from tests.publisher.line import Line, meta, sample, samples, section
from tests.publisher.scripted_broker import Published, ScriptedBroker


@pytest.mark.parametrize("waiting", [0, 5])
async def test_a_link_that_goes_silent_is_noticed_within_one_and_a_half_keep_alives(
    tmp_path: Path, waiting: int
) -> None:
    """P1: what was on its way is sent again when the link is back; with or without data to send."""
    with Broker(tmp_path / "broker") as broker:
        consumer = await broker.subscribe("factory/hall-3/press-1/data")
        async with ConnectProxy() as proxy:
            way = {"host": "127.0.0.1", "port": proxy.port}
            line = Line(section(broker, proxy=way, keepalive="2s"))
            async with line.running():
                await line.until(MqttState.CONNECTED)
                await line.until_greeted()
                proxy.silence()
                silent = time.monotonic()
                for count in range(waiting):
                    line.rows.put(meta(), sample(count))
                await line.until(MqttState.UNREACHABLE)
                noticed = time.monotonic() - silent
                assert line.component.error is not None
                assert "does not answer any more" in line.component.error
                proxy.speak()
                line.rows.put(meta(), sample(99))
                await line.rows.until_empty()
                await consumer.until(lambda _: len({one["seq"] for one in samples(consumer.messages)}) == waiting + 1)
    assert noticed <= 1.5 * 2.0


async def test_a_quiet_but_living_link_is_kept() -> None:
    async with ScriptedBroker() as broker:
        line = Line(broker.section(keepalive="1s", health_interval="0s"))
        async with line.running():
            await broker.until(lambda: len(broker.pings) >= 5)
            assert line.component.state is MqttState.CONNECTED
        assert len(broker.sessions) == 1


async def test_a_broker_that_does_not_answer_pings_is_left_though_it_gets_data() -> None:
    """Sending is no sign of life: a dead link takes octets for minutes."""

    def answer(one: Published) -> int | None:
        return None if one.topic.endswith("/data") else 0

    async with ScriptedBroker(answer, answers_pings=False) as broker:
        line = Line(broker.section(keepalive="1s"))
        line.rows.put(meta(), sample(1))
        error = await line.failure()
    assert "does not answer any more" in str(error)


async def test_it_starts_without_dns_and_goes_on_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11."""
    known: dict[str, str] = {}
    ask = socket.getaddrinfo

    def getaddrinfo(host: str, *more: Any, **others: Any) -> Any:
        if host == "broker.plant.invalid" and host not in known:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return ask(known.get(host, host), *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Broker(tmp_path / "broker", plain=True) as broker:
        line = Line(section(broker, host="broker.plant.invalid"))
        line.rows.put(meta(), sample(1))
        async with line.running():
            await line.until(MqttState.UNREACHABLE)
            assert line.component.error == "the name broker.plant.invalid cannot be resolved"
            known["broker.plant.invalid"] = "127.0.0.1"
            await line.rows.until_empty()
