"""Twenty OPC UA devices, one of which answers late or not at all: what the others notice of it.

The gateway is a process of its own. `python -m tests.faults.opcua_many` is a part of `make opcua-fault-test`.
"""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.end_to_end.opcua_line import PROMISE_S, SLACK_S, TIMEOUT_S, VICTIM, Line, lost, opcua_line, samples

OTHERS = 19
LASTS_S = 12.0
Order = tuple[str, dict[str, Any]]
FAULTS: dict[str, tuple[Order, Order]] = {
    "no fault": (("delay", {"s": 0}), ("delay", {"s": 0})),
    "answers 2 s late": (("delay", {"s": 2}), ("delay", {"s": 0})),
    "answers 8 s late": (("delay", {"s": 8}), ("delay", {"s": 0})),
    "no answers": (("freeze", {}), ("resume", {})),
    "switched off": (("stop", {}), ("start", {})),
}
"""Each with the order that begins it and the one that ends it."""


@dataclass(frozen=True)
class Notice:
    """What came of a fault: how late the others' values were at most, and after how long the device was back (s)."""

    fault: str
    latest_s: float
    back_s: float

    def __str__(self) -> str:
        return f"{self.fault}: others at most {self.latest_s:.2f} s late; data {self.back_s:.1f} s after it ended"


async def run(folder: Path) -> list[Notice]:
    """Go through the faults."""
    async with opcua_line(folder, others=OTHERS) as line:
        return [await _notice(line, fault) for fault in FAULTS]


async def _notice(line: Line, fault: str) -> Notice:
    begin, end = FAULTS[fault]
    await line.begin()
    await line.order(begin[0], **begin[1])
    await asyncio.sleep(LASTS_S)  # the length of the fault
    came = line.consumer.messages[line.mark :]
    await line.order(end[0], **end[1])
    back_s = await line.flows(VICTIM, within=2 * (PROMISE_S + SLACK_S + TIMEOUT_S))
    await line.finish()
    assert lost(line.book(VICTIM)) == []
    late = [one["rx"] - one["ts"] for name in line.others for one in samples(came, name) if "rx" in one]
    return Notice(fault, max(late) / 1000, back_s)


def main() -> int:
    """Run, and print a line for each fault. Raises AssertionError if a device was disturbed by another one's."""
    with TemporaryDirectory() as folder:
        notices = asyncio.run(run(Path(folder)))
    print(*notices, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
