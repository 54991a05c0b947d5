"""Rows from before: what a file that was set aside still held, and what is sent again. They come before all others.

Their ids are negative, so that they are the oldest of the queue: they are history in every session, and give way first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gateway.buffer import kept
from gateway.buffer.tables import ROW_BYTES, Row, Stream
from gateway.model import Batch, Gap, Meta

if TYPE_CHECKING:
    from gateway.buffer.transaction import Transaction

UNTOLD: Final = "-untold"
"""After a file's name in table `salvages`: it is not to be deleted, since not all in it came over or was told."""


@dataclass(frozen=True, slots=True)
class Found:
    """A row of a file that was set aside, verified: what its blob holds is what was written under its name."""

    epoch: str
    meta: Meta
    row: Row
    """`age_ms` is how old it is; `stream` and `meta` mean nothing outside its file."""
    blob: bytes
    gap: bytes | None


@dataclass(frozen=True, slots=True)
class Loss:
    """A range of seqs of which what was not delivered before is lost; None where its end is not known."""

    epoch: str
    device: str
    first_seq: int | None
    last_seq: int | None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """What comes next out of a file that was set aside: up to which row of it, and what that leaves to be told."""

    file: str
    upto: int
    seen: bytes
    rows: Sequence[Found]
    losses: Sequence[Loss]
    metas: Mapping[str, Meta]
    """The latest meta of each device: a gap record needs one."""
    unread: bool = False
    """Whether rows are whole of which nobody can tell any more what their values are: their meta is damaged."""

    @property
    def size(self) -> int:
        """Bytes of its blobs."""
        return sum(found.row.size for found in self.rows)


def take_over(transaction: "Transaction", chunk: Chunk, *, patient: bool = False) -> bool:
    """Store a chunk under its old names, tell its losses, and note how far this came.

    False if there is no room; or, to whoever is patient, as long as a loss is of a device without any known meta.
    """
    losses = [(loss, chunk.metas.get(loss.device) or transaction.latest_meta(loss.device)) for loss in chunk.losses]
    untold = any(meta is None for _, meta in losses)
    if (untold and patient) or not _has_room(transaction, chunk.size + len(chunk.rows) * ROW_BYTES):
        return False
    for found in chunk.rows:
        _insert(transaction, found)
    for loss, meta in losses:
        if meta is not None:
            gap = Gap(transaction.now_ms, "buffer-lost", _told(loss))
            transaction.append(Batch(meta, (), 0, gaps=(gap,)))
    notes: list[tuple[str, int, bytes]] = [(chunk.file, chunk.upto, chunk.seen)]
    if chunk.unread or untold:
        notes.append((chunk.file + UNTOLD, 0, b""))
    transaction.execute_many("INSERT OR REPLACE INTO salvages VALUES (?, ?, ?)", notes)
    return True


def _has_room(transaction: "Transaction", needed: int) -> bool:
    """Whether some bytes fit, and half of the buffer stays free for what is yet to be read."""
    free = transaction.room.free_bytes() + transaction.tables.kept_bytes
    if transaction.tables.rows and free - needed < transaction.room.usable_bytes // 2:
        return False
    while transaction.room.free_bytes() < needed and kept.give_way(transaction):
        pass
    return transaction.room.free_bytes() >= needed


def _told(loss: Loss) -> dict[str, Any]:
    """Say in the present epoch what is lost of another: that one gives no seqs any more."""
    named = {"previous_epoch": loss.epoch, "first_seq": loss.first_seq, "last_seq": loss.last_seq}
    return {**named, **loss.fields}


def _insert(transaction: "Transaction", found: Found) -> None:
    row, stream = found.row, _stream_of(transaction, found.epoch, found.meta.device)
    ours = Row(
        transaction.tables.next_past, stream.id, transaction.meta_id(found.meta), row.first_seq, row.samples,
        row.readings, row.from_ms, row.to_ms, transaction.age_ms - row.age_ms, row.size,
    )  # fmt: skip
    kept.insert_past(transaction, ours, found.gap)
    transaction.execute("INSERT INTO blobs VALUES (?, ?)", (ours.id, found.blob))
    # The file that was set aside keeps its own books: here counts what came over.
    stream.sampled += row.readings
    stream.pending += row.readings
    stream.next_seq = max(stream.next_seq, row.first_seq + row.samples)


def _stream_of(transaction: "Transaction", epoch: str, device: str) -> Stream:
    for stream in transaction.tables.streams.values():
        if (stream.epoch, stream.device) == (epoch, device):
            return transaction.touch(stream.id)
    return transaction.new_stream(epoch, device)
