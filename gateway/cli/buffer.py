"""`edge-gateway buffer`: what is stored, is it intact, out with it, and send it again."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.cli.offline_buffer import alone
from gateway.config import load
from gateway.config.schema import Config
from gateway.control.client import reach
from gateway.errors import GatewayError, StorageError
from gateway.health.reasons import spell_duration
from gateway.logs import printable
from gateway.quantities import parse_duration

_WIDTH_WITHOUT_TERMINAL: Final = 120
_FIRST: Final = -(1 << 62)

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the daemon, or of the file where none runs."""

    ask: str
    after: int = _FIRST
    device: str = ""
    from_ms: int = 0
    to_ms: int = 0


Ask = Callable[[Question], Coroutine[Any, Any, Answer]]


@click.group()
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="The daemon's config.")
@click.pass_context
def buffer(ctx: click.Context, path: Path) -> None:
    """Look into the store-and-forward buffer, through the running gateway or, where none runs, in the file itself.

    \b
    Example:
      edge-gateway buffer -c gateway.yaml info
      edge-gateway buffer -c gateway.yaml verify
      edge-gateway buffer -c gateway.yaml export > readings.jsonl
      edge-gateway buffer -c gateway.yaml resend press-1 --from 2026-03-01T06:00Z --to 2026-03-01T09:30Z
    """
    ctx.obj = path


@buffer.command(epilog="Example: edge-gateway buffer -c gateway.yaml info")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def info(path: Path, as_json: bool) -> None:
    """Show what is stored, of which device, how old it is, and where every reading went."""

    async def work(ask: Ask) -> Answer:
        return dict((await ask(Question("info")))["info"])

    found = _run(path, work)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        _show(found)


@buffer.command(epilog="Example: edge-gateway buffer -c gateway.yaml verify")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def verify(path: Path, as_json: bool) -> None:
    """Verify every checksum, the ledger, and the file's structure. Exits with 1 if something is wrong."""
    found = _run(path, _verify)
    if as_json:
        click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    else:
        for line in _verdict(found):
            click.echo(line)
    sys.exit(0 if found["ok"] else 1)


@buffer.command(epilog="Example: edge-gateway buffer -c gateway.yaml export > readings.jsonl")
@click.option("--file", "aside", type=click.Path(path_type=Path), help="A file that was set aside, instead.")
@click.pass_obj
def export(path: Path, aside: Path | None) -> None:
    """Write what no broker has as data messages, one JSON a line, as they would be published now.

    Nothing is deleted: the messages still go to the broker when it can be reached.
    """

    async def work(ask: Ask) -> Answer:
        after: int | None = _FIRST
        while after is not None:
            step = await ask(Question("export", after))
            for message in step["messages"]:
                click.echo(message)
            after = step["next"]
        return {}

    _run(path, work, aside)


@buffer.command(epilog="Example: edge-gateway buffer -c gateway.yaml resend press-1 --from 2h")
@click.argument("device")
@click.option("--from", "since", required=True, help="From when on: 2026-03-01T06:00Z, or 2h for two hours ago.")
@click.option("--to", "until", help="Until when. Default: now.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def resend(path: Path, device: str, since: str, until: str | None, as_json: bool) -> None:
    """Send again what buffer.keep_acked still holds of DEVICE, under its old identity (epoch and seq)."""
    now = time.time_ns() // 1_000_000
    question = Question("resend", device=device, from_ms=_instant(since, now), to_ms=_instant(until or "0s", now))
    if question.from_ms > question.to_ms:
        raise click.UsageError("--from must not be after --to")

    async def work(ask: Ask) -> Answer:
        return await ask(question)

    done = _run(path, work)
    if as_json:
        click.echo(orjson.dumps({"samples": done["samples"], "readings": done["readings"]}))
    elif done["samples"]:
        click.echo(f"{done['samples']} samples of {device} with {done['readings']} readings are sent again")
    else:
        raise GatewayError(
            f"nothing of {device} is kept from that time",
            do="See `edge-gateway buffer info`; buffer.keep_acked says how long it is kept.",
        )


def _run(path: Path, work: Callable[[Ask], Coroutine[Any, Any, Answer]], aside: Path | None = None) -> Answer:
    config = load(path, elsewhere=True)

    async def run() -> Answer:
        async with _way(config, aside) as ask:
            return await work(ask)

    return asyncio.run(run())


@asynccontextmanager
async def _way(config: Config, aside: Path | None) -> AsyncIterator[Ask]:
    """Ask the running gateway; where none runs, or of a file that it does not use, look ourselves."""
    if aside is not None:
        async with alone(config, aside) as ask:
            yield ask
        return
    async with reach(config.control.socket) as daemon:
        if daemon is None:
            async with alone(config, None) as ask:
                yield ask
            return

        async def ask_daemon(question: Question) -> Answer:
            fields = {name: getattr(question, name) for name in Question.__slots__}
            answer = await daemon.ask({"do": "buffer", **fields})
            if not answer["ok"]:
                raise StorageError(str(answer.get("text")), do=str(answer.get("do", "")))
            return answer

        yield ask_daemon


async def _verify(ask: Ask) -> Answer:
    after: int | None = _FIRST
    rows = 0
    damaged: list[Answer] = []
    while after is not None:
        step = (await ask(Question("check", after)))["check"]
        rows, damaged, after = rows + step["rows"], damaged + step["damaged"], step["next"]
    books = (await ask(Question("books")))["books"]
    whole = books["integrity"] == "ok" or books["integrity"].startswith("not finished")
    ok = not damaged and not books["ledger"] and not books["blobs_without_row"] and whole
    return {"ok": ok, "rows": rows, "damaged": damaged, **books}


def _verdict(found: Answer) -> list[str]:
    lines = [f"{found['rows']} rows, of which {len(found['damaged'])} are damaged"]
    for row in found["damaged"]:
        named = f"epoch {row['epoch']}, device {printable(str(row['device']))}"
        lines.append(f"  {named}: seq {row['first_seq']} to {row['last_seq']} cannot be read; a gap will tell of it")
    lines += [
        f"the ledger of {row['device']} does not explain {row['unaccounted']} readings" for row in found["ledger"]
    ]
    if found["blobs_without_row"]:
        lines.append(f"{found['blobs_without_row']} blobs belong to no row")
    lines.append(f"structure of the file: {found['integrity']}")
    lines.append("the buffer is intact" if found["ok"] else "the buffer is damaged; what is intact will still be sent")
    return lines


def _show(found: Answer) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    pending, kept = found["pending"], found["kept"]
    age = "" if pending["oldest_ms"] is None else f", the oldest of {_shown(pending['oldest_ms'])}"
    console.print(_text(f"{found['path']}  epoch {found['epoch']}, {found['bytes'] / 2**20:.1f} MiB used"))
    console.print(_text(f"pending  {pending['samples']} samples with {pending['readings']} readings{age}"))
    if kept["samples"]:
        console.print(_text(f"kept     {kept['samples']} samples from {_shown(kept['from_ms'])}"))
    console.print(_devices(found["devices"]))
    for gap in found["gaps"]:
        rest = ", ".join(f"{key} {value}" for key, value in gap.items() if key not in ("device", "ts", "reason"))
        console.print(_text(f"gap      {gap['device']}: {gap['reason']}, {_shown(gap['ts'])}, {rest}"))
    if found["dead_letters"]["samples"]:
        console.print(_text(f"refused  {found['dead_letters']['samples']} samples that the broker takes at no price"))
    for letter in found["dead_letters"]["last"]:
        console.print(
            _text(f"         {letter['device']} seq {letter['seq']}, {_shown(letter['at_ms'])}: {letter['why']}")
        )
    for file in found["set_aside"]:
        console.print(_text(f"set aside  {file['file']}, {file['bytes'] / 2**20:.1f} MiB"))


def _devices(devices: list[Answer]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("device", overflow="fold")
    table.add_column("epoch")
    for heading in ("live", "history", "sampled", "suppressed", "acked", "pending", "dropped", "unaccounted", "resent"):
        table.add_column(heading, justify="right")
    for device in devices:
        lanes, ledger = device["lanes"], device["ledger"]
        counted = [ledger[n] for n in ("sampled", "suppressed", "acked", "pending", "dropped", "unaccounted", "resent")]
        waiting = [lanes["live"]["readings"], lanes["history"]["readings"]]
        table.add_row(_text(device["device"]), device["epoch"], *map(str, [*waiting, *counted]))
    return table


def _instant(text: str, now_ms: int) -> int:
    """Read an instant: ISO 8601 with its zone, or how long ago."""
    try:
        return now_ms - int(parse_duration(text) * 1000)
    except ValueError:
        pass
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise click.UsageError(f"{printable(text)} is no instant; write 2026-03-01T06:00Z, or 2h for two hours ago")
    return int(instant.timestamp() * 1000)


def _shown(ms: int) -> str:
    age = spell_duration(max(0.0, time.time() - ms / 1000))
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ} ({age} ago)"


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)
