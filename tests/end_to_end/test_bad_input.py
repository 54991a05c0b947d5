"""What the field throws at a gateway, against the running command: told by name, and nothing is lost or invented."""

import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.broker import Broker, Received, require_mosquitto
from tests.end_to_end.books import book_of, keep_books
from tests.end_to_end.rig import Gateway, configure, plant, running

pytestmark = pytest.mark.timeout(240)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _mosquitto() -> None:
    """Reason codes need MQTT 5."""
    require_mosquitto()


def codes(health: dict[str, Any]) -> set[str]:
    """The reasons that health gives."""
    return {reason["code"] for reason in health["reasons"]}


async def test_a_topic_that_the_broker_denies_costs_nothing_and_health_says_why(tmp_path: Path) -> None:
    """P1: PUBACK 0x87 is no delivery. The samples stay, the other devices go on, and all arrive once it is allowed."""
    allowed = "topic readwrite #\n"
    denied = "topic read #\n" + "".join(
        f"topic readwrite factory/hall-3/{rest}\n" for rest in ("meter-1/#", "robot-1/#", "status", "health")
    )
    async with plant(tmp_path) as simulated:
        with Broker(tmp_path / "broker", kind="mosquitto", acl=denied) as broker:
            consumer = await broker.subscribe("#")
            # A state that was refused is tried again with each health message.
            config = configure(tmp_path, simulated.where, broker, health_interval="5s")
            async with running(Gateway(tmp_path, config)) as gateway:
                health = await gateway.until(lambda now: "publish-refused" in codes(now))
                assert any("press-1" in reason["text"] for reason in health["reasons"])
                acked = (await gateway.health())["devices"]["meter-1"]["ledger"]["acked"]
                await gateway.until(lambda now: now["devices"]["meter-1"]["ledger"]["acked"] > acked)
                assert not [message for message in consumer.messages if "press-1/data" in message.topic]
                waiting = (await gateway.health())["devices"]["press-1"]["ledger"]
                assert waiting["acked"] == 0
                assert waiting["pending"] > 0
                broker.write_acl(allowed)
                await gateway.until(lambda now: now["devices"]["press-1"]["ledger"]["acked"] > waiting["pending"])
                await gateway.until(lambda now: "publish-refused" not in codes(now))
                assert await gateway.end() == 0
                last = gateway.last_seqs()["press-1"]
            await consumer.until(lambda all_: not book_of(all_, "press-1").missing(last))
            assert not book_of(consumer.messages, "press-1").holes("served")


@pytest.mark.parametrize("wrong", ["issued by another authority", "for another name", "expired"])
async def test_a_broker_whose_certificate_is_wrong_gets_nothing_first_or_later(tmp_path: Path, wrong: str) -> None:
    """P9: refused on the first connect and on a reconnect, in words; afterwards everything arrives."""
    authority = trustme.CA()
    bad = {
        "issued by another authority": lambda: trustme.CA().issue_cert("localhost"),
        "for another name": lambda: authority.issue_cert("broker.example.com"),
        "expired": lambda: authority.issue_cert("localhost", not_after=LONG_AGO),
    }[wrong]()
    good = authority.issue_cert("localhost", "127.0.0.1")
    async with plant(tmp_path) as simulated:
        with Broker(tmp_path / "broker", kind="mosquitto", authority=authority, certificate=bad) as broker:
            config = configure(tmp_path, simulated.where, broker)
            async with running(Gateway(tmp_path, config)) as gateway:
                await gateway.until(lambda now: "broker-certificate-error" in codes(now))
                broker.use_certificate(good)
                broker.restart()
                consumer = await broker.subscribe("#")
                health = await gateway.until(lambda now: now["mqtt"]["state"] == "connected")
                broker.use_certificate(bad)
                broker.restart()
                await gateway.until(lambda now: now["mqtt"]["state"] == "certificate-error")
                broker.use_certificate(good)
                broker.restart()
                await gateway.until(lambda now: now["mqtt"]["published"] > health["mqtt"]["published"] + 5)
                assert await gateway.end() == 0
                assert consumer.on("/data")
                assert gateway.unaccounted() == 0


async def test_bad_answers_of_a_plc_become_qualities_and_never_values(tmp_path: Path) -> None:
    """P5, P6: a short answer, another function, NaN, a string that is not UTF-8: each named; the neighbours go on."""
    async with plant(tmp_path) as simulated:
        with Broker(tmp_path / "broker", kind="mosquitto") as broker:
            consumer = await broker.subscribe("#")
            config = configure(tmp_path, simulated.where, broker)
            for tag in config["devices"][0]["tags"]:
                tag.pop("interval", None)
            async with running(Gateway(tmp_path, config)) as gateway:
                await consumer.until(lambda all_: any("press-1/data" in message.topic for message in all_))

                def told(tag: str, quality: str) -> int:
                    samples = book_of(consumer.messages, "press-1").samples.values()
                    return sum(sample.get("quality", {}).get(tag) == quality for sample in samples)

                async def shows(tag: str, quality: str, before: int = 0) -> None:
                    await consumer.until(lambda _: told(tag, quality) > before)

                await simulated.order("press-1", "nan", on=True)
                await shows("vibration", "bad:not-a-number")
                await simulated.order("press-1", "bad-text", on=True)
                await shows("serial", "bad:invalid-string")
                await simulated.order("press-1", "nan", on=False)
                await simulated.order("press-1", "bad-text", on=False)
                for kind in ("short", "long", "function"):
                    before = told("served", "bad:protocol-error")
                    await simulated.order("press-1", "wrong", kind=kind, times=3)
                    await shows("served", "bad:protocol-error", before)
                    await gateway.until(lambda now: now["devices"]["press-1"]["bad_tags"] == 0)
                assert await gateway.end() == 0
            for sample in book_of(consumer.messages, "press-1").samples.values():
                assert not set(sample.get("values", {})) & {
                    name for name, text in sample.get("quality", {}).items() if text.startswith("bad:")
                }
            assert not book_of(consumer.messages, "press-1").holes("served")
            assert not book_of(consumer.messages, "meter-1").holes("served")
    assert "Traceback" not in gateway.said


async def test_a_sample_larger_than_the_broker_takes_is_told_in_a_gap_and_blocks_nothing(tmp_path: Path) -> None:
    """P4, P6: one sample is over the Maximum Packet Size: a `rejected` gap names it, and the rest flows."""
    async with plant(tmp_path) as simulated:
        with Broker(tmp_path / "broker", kind="mosquitto", settings="max_packet_size 700\n") as broker:
            consumer = await broker.subscribe("#")
            config = configure(tmp_path, simulated.where, broker, health_interval="0s")
            config["devices"] = config["devices"][:2]
            async with running(Gateway(tmp_path, config)) as gateway:
                await consumer.until(
                    lambda all_: any(gap["reason"] == "rejected" for gap in gaps_of(all_, "press-1")), within=60
                )
                await gateway.until(lambda now: now["devices"]["meter-1"]["ledger"]["acked"] > 100)
                assert await gateway.end() == 0
                assert gateway.unaccounted() == 0
            assert not book_of(consumer.messages, "press-1").missing()


async def test_sighup_does_not_end_it(tmp_path: Path) -> None:
    """A reload is not there yet: it is said, health shows it, and polling goes on."""
    async with plant(tmp_path) as simulated:
        with Broker(tmp_path / "broker", kind="mosquitto") as broker:
            async with running(Gateway(tmp_path, configure(tmp_path, simulated.where, broker))) as gateway:
                await gateway.until(lambda now: now["ledger"]["acked"] > 0)
                assert gateway.process is not None
                gateway.process.send_signal(signal.SIGHUP)
                health = await gateway.until(lambda now: now["config"]["last_error"])
                assert "not available" in health["config"]["last_error"]
                await gateway.until(lambda now: now["ledger"]["acked"] > health["ledger"]["acked"])
                assert await gateway.end() == 0


def gaps_of(messages: list[Received], device: str) -> list[dict[str, Any]]:
    """The gap records of a device so far."""
    return [gap for (name, _), book in keep_books(messages).items() if name == device for gap in book.gaps]
