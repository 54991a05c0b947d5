"""What is sent to the broker: messages, made of stored rows."""

from dataclasses import dataclass

from gateway.buffer.dead_letters import Letter
from gateway.model import Meta


@dataclass(frozen=True, slots=True)
class Message:
    """One data message of one device, epoch and meta, encoded.

    `rows` are the ids of the buffer's rows of which it holds samples: a row that does not fit into one message is
    named by several, and delivered when all of them are. `readings` is what the ledger counts, of whole rows.
    `coding` tells how it is compressed: "none", "gzip" or "zstd". One that does not `fit` holds a single sample and is
    larger than the broker takes; it must not be sent. `samples` says how many it holds; a single one is in `letter`, as
    it is kept if the broker never takes it.
    """

    topic: str
    payload: bytes
    meta: Meta
    rows: tuple[int, ...]
    readings: int
    fits: bool = True
    coding: str = "none"
    samples: int = 1
    letter: Letter | None = None
