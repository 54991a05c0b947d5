"""Room in the file: how much there is, and who gives way for more."""

from typing import TYPE_CHECKING, Final

from gateway.buffer import kept, schema
from gateway.buffer.ranges import first_of
from gateway.buffer.stored import FIRST
from gateway.buffer.tables import ROW, ROW_BYTES, Row

if TYPE_CHECKING:
    from gateway.buffer.store import Store
    from gateway.buffer.transaction import Transaction

RESERVE_PAGES: Final = 64
"""Kept free for gap records, counters and inner pages, so that a full buffer can still say what it drops."""
_DROP_ROWS: Final = 128


class Room:
    """What a transaction may still store."""

    def __init__(self, transaction: "Transaction", store: "Store") -> None:
        self._transaction = transaction
        self._store = store

    def make(self, frame_bytes: int) -> bool:
        """Let the oldest batches give way until a row fits; False if that is not allowed, or not enough."""
        needed = frame_bytes + ROW_BYTES  # what its pages take beyond that comes out of the reserve
        if needed > self.usable_bytes:
            return False
        while (free := self.free_bytes()) < needed:
            if kept.give_way(self._transaction):
                continue
            rows = self.oldest() if self._store.limits.when_full == "drop-oldest" else []
            if not rows:
                return False
            self._transaction.drop(first_of(rows, max(needed - free, self.usable_bytes // 256)), "buffer-full")
        return True

    @property
    def usable_bytes(self) -> int:
        """Give how many bytes rows may take."""
        return (self._store.limits.max_bytes // schema.PAGE_BYTES - RESERVE_PAGES) * schema.PAGE_BYTES

    def free_bytes(self) -> int:
        """Give how many bytes more may be stored."""
        page_count, free = (
            int(self._transaction.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count")
        )
        return self.usable_bytes - (page_count - free) * schema.PAGE_BYTES

    def oldest(self, after: int = FIRST) -> list[Row]:
        """Give the oldest batches that may be dropped, some at a time."""
        # More than are wanted, since those in flight at the head of the queue must stay.
        limit = _DROP_ROWS + len(self._store.in_flight)
        query = f"SELECT {ROW} FROM batches WHERE id > ? AND gap IS NULL ORDER BY id LIMIT ?"  # noqa: S608 -- ours
        rows = (Row(*row) for row in self._transaction.execute(query, (after, limit)))
        return [row for row in rows if row.id not in self._store.in_flight][:_DROP_ROWS]
