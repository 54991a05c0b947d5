"""The consumer's own books: what came, what is missing, and whether the values themselves can be true."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.broker import Received


@dataclass
class Book:
    """The samples of one device in one epoch, by seq."""

    device: str
    epoch: str
    samples: dict[int, dict[str, Any]] = field(default_factory=dict)
    duplicates: int = 0
    messages_with_duplicates: int = 0

    def enter(self, samples: Iterable[dict[str, Any]]) -> None:
        """Enter the samples of one message; a seq that comes twice must be the same sample twice (P3)."""
        before = self.duplicates
        for sample in samples:
            known = self.samples.setdefault(sample["seq"], sample)
            if known is not sample:
                assert known == sample, f"{self.device} seq {sample['seq']} means two things"
                self.duplicates += 1
        self.messages_with_duplicates += self.duplicates > before

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """The gap records, in the order of their seqs."""
        return [sample["gap"] for _, sample in sorted(self.samples.items()) if "gap" in sample]

    def missing(self, last: int | None = None) -> list[int]:
        """Seqs from 1 to `last` that neither came nor lie in the range of a gap that came."""
        explained = set(self.samples)
        for gap in self.gaps:
            if gap.get("first_seq") is not None and "previous_epoch" not in gap:
                explained.update(range(gap["first_seq"], gap["last_seq"] + 1))
        return [seq for seq in range(1, (last or max(self.samples, default=0)) + 1) if seq not in explained]

    def holes(self, counter: str, *, may_restart: bool = False) -> list[str]:
        """Places where a counter tag, which must go up by one from sample to sample, did anything else unexplained.

        A gap record, or a bad quality of the tag, explains a jump forward. With `may_restart` the PLC may have begun
        again from a lower number there.
        """
        return list(self._holes(counter, may_restart))

    def _holes(self, counter: str, may_restart: bool) -> Iterator[str]:
        last: int | None = None
        explained = False
        for seq, sample in sorted(self.samples.items()):
            quality = sample.get("quality", {})
            if "gap" in sample or counter in quality or "*" in quality:
                explained = True
            value = sample.get("values", {}).get(counter)
            if value is None:
                continue
            if last is not None and value != last + 1 and not (explained and (value > last or may_restart)):
                yield f"{self.device} seq {seq}: {counter} went from {last} to {value}"
            last, explained = value, False


def keep_books(messages: Iterable[Received]) -> dict[tuple[str, str], Book]:
    """Enter every data message, by (device, epoch)."""
    books: dict[tuple[str, str], Book] = {}
    for message in messages:
        if not message.topic.endswith("/data"):
            continue
        document = json.loads(message.payload)
        key = document["device"], document["epoch"]
        books.setdefault(key, Book(*key)).enter(document["samples"])
    return books


def book_of(messages: Iterable[Received], device: str) -> Book:
    """Give a device's only book; fails if the epoch changed."""
    books = [book for (name, _), book in keep_books(messages).items() if name == device]
    assert len(books) == 1, f"{device} has {len(books)} epochs"
    return books[0]
