"""`edge-gateway buffer`: the same answers from the running gateway and from the file where none runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway import config as configuration
from gateway.app import open_gateway
from gateway.buffer import Limits, folder
from gateway.buffer.dead_letters import Letter
from gateway.buffer.opening import open_store
from gateway.buffer.store import Store
from gateway.model import Batch, Gap, Sample
from gateway.publisher.payload.json import messages
from tests.cli.conftest import Shell
from tests.scripted import ScriptedSection as Section
from tests.scripted import meta_of, scripted_tag

CONFIG = """
gateway: {id: hall-3}
mqtt: {host: 127.0.0.1, port: 1, tls: {insecure_plaintext: true}}
buffer: {path: buffer.db, keep_acked: 1h, max_bytes: 64MiB}
http: {listen: "127.0.0.1:0"}
control: {socket: control.sock}
devices:
  - {name: other, protocol: modbus-tcp, host: 127.0.0.1, port: 1, tags: [{name: a, address: "holding:0", type: uint16}]}
"""
NOW = 1_763_843_000_000
META = meta_of(Section(name="press-1", tags=[scripted_tag("level")]))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A buffer with an acknowledged sample, a gap record and ten pending samples; still open."""
    (tmp_path / "gateway.yaml").write_text(CONFIG)
    store = open_store(tmp_path / "buffer.db", Limits(64 << 20, keep_acked=3600), None)
    store.commit([Batch(META, (Sample.good(NOW, (0,), (0,)),), 1)], (), NOW)
    store.commit([], [row.id for row in store.take(0)], NOW)
    gap = Gap(NOW, "cycles-skipped", {"count": 3})
    store.commit([Batch(META, (), 0, gaps=(gap,))], (), NOW)
    store.commit([Batch(META, (Sample.good(NOW + number, (0,), (number,)),), 1) for number in range(1, 11)], (), NOW)
    letter = (
        "INSERT INTO dead_letters(at_ms, epoch, device, seq, why, sample) VALUES (1, ?, 'press-1', 7, 'too large', X'')"
    )
    store.connection.execute(letter, (store.epoch,))
    return store


@asynccontextmanager
async def maybe_running(folder_: Path, *, runs: bool) -> AsyncIterator[None]:
    """Run a gateway whose broker and device are away; or do not."""
    if not runs:
        yield
        return
    loaded = configuration.load(folder_ / "gateway.yaml")
    stop = asyncio.Event()
    async with open_gateway(loaded) as (gateway, _), asyncio.TaskGroup() as group:
        group.create_task(gateway.run(stop), name="gateway")
        yield
        stop.set()


async def buffer(shell: Shell, *arguments: str) -> Any:
    """Run the command."""
    return await shell("buffer", "-c", "gateway.yaml", *arguments)


@pytest.mark.parametrize("runs", [False, True])
async def test_info_says_what_is_stored(store: Store, shell: Shell, runs: bool) -> None:
    store.close()
    async with maybe_running(shell.folder, runs=runs):
        ran = await buffer(shell, "info", "--json")
        said = await buffer(shell, "info")
    found = json.loads(ran.out)
    assert (ran.code, ran.err, found["epoch"]) == (0, "", store.epoch)
    (press,) = [device for device in found["devices"] if device["device"] == "press-1"]
    assert press["ledger"] == {
        "sampled": 11, "suppressed": 0, "acked": 1, "pending": 10, "dropped": 0, "resent": 0, "unaccounted": 0
    }  # fmt: skip
    assert (press["pending_samples"], press["oldest_ms"], press["lanes"]["history"]["samples"]) == (11, NOW, 11)
    assert found["kept"]["samples"] == 1
    assert [(letter["seq"], letter["why"]) for letter in found["dead_letters"]["last"]] == [(7, "too large")]
    assert [gap["reason"] for gap in found["gaps"] if gap["device"] == "press-1"] == ["cycles-skipped"]
    assert "press-1" in said.out
    assert "cycles-skipped" in said.out


@pytest.mark.parametrize("runs", [False, True])
async def test_info_shows_the_samples_that_the_broker_refused_for_themselves(
    store: Store, shell: Shell, runs: bool
) -> None:
    row = store.take(0)[-1]
    letter = Letter(row.first_seq, NOW, 1, b'{"seq":12}', why="the broker refused it: payload format invalid (0x99)")
    store.set_aside(row.id, [letter])
    store.commit([], (), NOW)
    store.close()
    async with maybe_running(shell.folder, runs=runs):
        ran = await buffer(shell, "info", "--json")
        said = await buffer(shell, "info")
    refused = json.loads(ran.out)["dead_letters"]
    assert refused["samples"] == 2
    assert [(one["device"], one["seq"], one["sample"]) for one in refused["last"]] == [
        ("press-1", 7, ""),
        ("press-1", row.first_seq, '{"seq":12}'),
    ]
    assert "refused  2 samples that the broker takes at no price" in said.out
    assert f"press-1 seq {row.first_seq}" in said.out
    assert "payload format invalid (0x99)" in said.out


@pytest.mark.parametrize("runs", [False, True])
async def test_export_writes_the_messages_that_would_be_published(store: Store, shell: Shell, runs: bool) -> None:
    rows = store.take(0)
    store.close()
    async with maybe_running(shell.folder, runs=runs):
        ran = await buffer(shell, "export")
    expected = messages(rows, gateway="hall-3", historical=True, max_bytes=131072)
    lines = [line for line in ran.out.splitlines() if json.loads(line)["device"] == "press-1"]
    assert (ran.code, lines) == (0, [message.payload.decode() for message in expected])
    seqs = [sample["seq"] for line in lines for sample in json.loads(line)["samples"]]
    assert seqs == list(range(2, 13))


@pytest.mark.parametrize("runs", [False, True])
async def test_verify_finds_nothing_wrong_with_a_buffer_that_is_whole(store: Store, shell: Shell, runs: bool) -> None:
    store.close()
    async with maybe_running(shell.folder, runs=runs):
        ran = await buffer(shell, "verify")
    assert ran.code == 0
    assert ran.out.endswith("structure of the file: ok\nthe buffer is intact\n")


async def test_verify_names_a_damaged_row_a_wrong_ledger_and_fails(store: Store, shell: Shell) -> None:
    store.connection.execute("UPDATE blobs SET blob = zeroblob(20) WHERE id = 5")
    store.connection.execute("UPDATE streams SET sampled = sampled + 2")
    store.close()
    ran = await buffer(shell, "verify", "--json")
    found = json.loads(ran.out)
    damaged = [{"epoch": store.epoch, "device": "press-1", "first_seq": 5, "last_seq": 5}]
    assert (ran.code, found["ok"], found["damaged"], found["integrity"]) == (1, False, damaged, "ok")
    assert found["ledger"] == [{"epoch": store.epoch, "device": "press-1", "unaccounted": 2}]


@pytest.mark.parametrize("runs", [False, True])
async def test_resend_lets_what_is_kept_wait_again(store: Store, shell: Shell, runs: bool) -> None:
    store.close()
    async with maybe_running(shell.folder, runs=runs):
        ran = await buffer(shell, "resend", "press-1", "--from", "2025-11-22T00:00Z", "--to", "2025-11-23T00:00Z")
        assert (ran.code, ran.out) == (0, "1 samples of press-1 with 1 readings are sent again\n")
        out = (await buffer(shell, "export")).out
        nothing = await buffer(shell, "resend", "press-1", "--from", "1h")
    assert json.loads(out.splitlines()[0])["samples"][0]["seq"] == 1
    assert nothing.code == 1
    assert "nothing of press-1 is kept from that time" in nothing.err


async def test_looking_into_a_buffer_after_a_crash_does_not_make_its_wal_seem_lost(store: Store, shell: Shell) -> None:
    crashed = shell.folder / "crashed"
    crashed.mkdir()
    for suffix in ("", "-wal", ".epoch"):
        (crashed / f"buffer.db{suffix}").write_bytes((shell.folder / f"buffer.db{suffix}").read_bytes())
    (crashed / "gateway.yaml").write_text(CONFIG)
    ran = await Shell(crashed)("buffer", "-c", "gateway.yaml", "info")
    assert ran.code == 0
    after = open_store(crashed / "buffer.db", Limits(64 << 20), None)
    assert (after.epoch, after.tables.samples) == (store.epoch, 11)


async def test_a_file_that_another_process_uses_is_one_sentence(store: Store, shell: Shell) -> None:
    with folder.held(shell.folder / "buffer.db"):
        ran = await buffer(shell, "info")
    assert ran.code == 1
    assert "another edge-gateway is using this buffer" in ran.err


@pytest.mark.parametrize("arguments", [("info",), ("verify",), ("export",)])
async def test_no_buffer_is_one_sentence_and_none_is_made(shell: Shell, arguments: tuple[str, ...]) -> None:
    (shell.folder / "gateway.yaml").write_text(CONFIG)
    ran = await buffer(shell, *arguments)
    assert (ran.code, "there is no buffer. Check buffer.path, or start the gateway." in ran.err) == (1, True)
    assert list(shell.folder.glob("buffer*")) == []


async def test_an_instant_without_a_zone_is_wrong_use(store: Store, shell: Shell) -> None:
    ran = await buffer(shell, "resend", "press-1", "--from", "2026-03-01 06:00")
    assert ran.code == 2
    assert "is no instant; write 2026-03-01T06:00Z" in ran.err


async def test_a_file_that_was_set_aside_can_be_exported(store: Store, shell: Shell) -> None:
    store.close()
    aside = folder.set_aside(shell.folder / "buffer.db")
    ran = await buffer(shell, "export", "--file", aside.name)
    assert ran.code == 0
    assert sum(len(json.loads(line)["samples"]) for line in ran.out.splitlines()) == 11


async def test_a_second_gateway_on_the_same_buffer_is_refused_in_one_sentence(store: Store, shell: Shell) -> None:
    store.close()
    with folder.held(shell.folder / "buffer.db"):
        ran = await shell("run", "-c", "gateway.yaml")
    assert ran.code == 1
    assert ran.err.endswith(
        "buffer.db: another edge-gateway is using this buffer. Stop the other one, or give each its own buffer.path.\n"
    )
