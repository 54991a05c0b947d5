"""Sequence numbers of one subscription's messages: what is missing before one (OPC 10000-4 section 5.14.1)."""

from dataclasses import dataclass, field
from typing import Final

NUMBERS: Final = 0xFFFF_FFFF
"""Sequence numbers run from 1 to this, and then from 1 again."""
_REMEMBERED: Final = 1000


def after(number: int, steps: int = 1) -> int:
    """Give the number that is so many steps further on."""
    return (number + steps - 1) % NUMBERS + 1


def ahead(number: int, of: int) -> int:
    """Give how many steps `number` is ahead of another; negative if it comes before it."""
    steps = (number - of) % NUMBERS
    return steps if steps <= NUMBERS // 2 else steps - NUMBERS


@dataclass(slots=True)
class Sequence:
    """Where a subscription's messages stand: `next` is the number that is due; `lost` are those given up."""

    next: int = 1
    lost: set[int] = field(default_factory=set)

    @property
    def last(self) -> int:
        """The number of the last message that was passed on; 0 before the first."""
        return 0 if self.next == 1 else self.next - 1

    def missing(self, number: int) -> int:
        """Give how many messages are missing between the one that is due and this one."""
        return max(0, ahead(number, self.next))

    def is_old(self, number: int) -> bool:
        """Whether a message was passed on already; one that was given up as lost, and comes late, was not."""
        return ahead(number, self.next) < 0 and number not in self.lost

    def take(self, number: int) -> None:
        """Note that this message is passed on."""
        self.lost.discard(number)
        if ahead(number, self.next) >= 0:
            self.next = after(number)

    def give_up(self, number: int) -> None:
        """Note that this message will not come."""
        if len(self.lost) < _REMEMBERED:
            self.lost.add(number)
