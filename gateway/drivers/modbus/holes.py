"""Which registers a unit refuses: what is known of it, and how a refused block is searched. No I/O.

All that is known are ranges that the unit refused. Fields are never merged into a block that holds all of such a
range, so each refusal of a merged block adds a range that none of the blocks asked since holds: as there are finitely
many blocks, plans come to rest. Within one poll a refused block is replaced by two smaller ones with fewer ranges
each, so a search takes less than two requests for each range.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.drivers.modbus.address import Table
from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.plan import Block, Limits, Span, cover, halves, ranges
from gateway.drivers.modbus.probes import Place, Probes

ILLEGAL_VALUE: Final = 3
"""Among other things, what a device says that cannot answer so many registers at once (Modbus Application Protocol
V1.1b3, section 7)."""


class Memory:
    """What was learned of a unit; it outlives connections. `version` changes with all that concerns plans.

    `probes` has the ranges of single fields that the unit refuses.
    """

    def __init__(self) -> None:
        self.version = 0
        self.probes = Probes()
        self._cuts: set[Place] = set()
        self._suspects: dict[Place, int] = {}
        self._halfway: dict[Place, Place] = {}
        self._most: dict[Table, int] = {}
        self._largest: dict[Table, int] = {}
        self._mute: set[Place] = set()

    def most(self, table: Table, configured: int) -> int:
        """Give how many registers (or coils) of a table the unit answers at once."""
        return min(configured, self._most.get(table, configured))

    def barriers(self, table: Table) -> Iterator[Span]:
        """Give the ranges that no block of several fields may hold."""
        for places in (self.probes, self._cuts, self._suspects):
            yield from ((start, end) for each, start, end in places if each == table)

    def refuses(self, field: Field) -> bool:
        """Whether the unit has refused just the registers of this field."""
        return (field.table, *field.span) in self.probes

    def is_mute(self, block: Block) -> bool:
        """Whether a block got no answer the last time: it is not the one by which a unit is taken for dead."""
        return place(block) in self._mute

    def answered(self, block: Block) -> None:
        """Note an answer with values."""
        self._mute.discard(place(block))
        self._largest[block.table] = max(block.count, self._largest.get(block.table, 0))

    def unanswered(self, block: Block) -> None:
        """Note that nothing came."""
        self._mute.add(place(block))

    def refused(self, block: Block, now: float) -> None:
        """Note that fields of one and the same range are refused."""
        self._suspects.pop(place(block), None)
        self.probes.add(place(block), now)
        self.version += 1

    def restored(self, block: Block, now: float) -> None:
        """Note that what was refused is answered: others may be, too."""
        self.probes.remove(place(block), now)
        self.version += 1

    def forget(self) -> None:
        """Take the unit for another: it had refused everything, as a PLC may that is starting, and answers now."""
        self.probes = Probes()
        for known in (self._cuts, self._suspects, self._halfway, self._most, self._largest):
            known.clear()
        self.version += 1

    def suspect(self, block: Block, code: int) -> None:
        """Note that a block of several ranges is refused, and nobody knows yet which."""
        self._suspects[place(block)] = code
        self.version += 1

    def answered_half(self, block: Block, part: Block) -> None:
        """Note that one part of a suspect is answered, while the other is still to be asked."""
        self._halfway[place(block)] = place(part)

    def has_answered_half(self, block: Block, part: Block) -> bool:
        """Whether a part of a suspect was answered."""
        return self._halfway.get(place(block)) == place(part)

    def explain(self, block: Block) -> None:
        """Note that a refused block holds a smaller one that is refused."""
        self._suspects.pop(place(block), None)
        self._halfway.pop(place(block), None)
        self.version += 1

    def conclude(self, block: Block, code: int, parts: Sequence[Block]) -> None:
        """Note that a block is refused though both its parts are answered.

        It is too long, or there is something between the parts.
        """
        self.explain(block)
        largest = self._largest[block.table]
        if code == ILLEGAL_VALUE and largest < block.count:
            self._most[block.table] = largest
            return
        before, after = min(part.span[1] for part in parts), max(part.start for part in parts)
        self._cuts.add((block.table, before - 1, after + 1) if before <= after else place(block))

    def probe(self, fields: Sequence[Field], columns: Sequence[int], limits: Limits, now: float) -> Block | None:
        """Give what to ask for once more of these refused columns."""
        return self.probes.choose(fields, columns, lambda table: self.most(table, limits.most(table)), now)

    def suspects(self, fields: Sequence[Field], columns: Iterable[int]) -> list[tuple[Block, int]]:
        """Give the blocks of these columns that are still to be searched, each with the code that refused it.

        The code is 0 where a block is only a part of what was refused.
        """
        held: dict[Place, list[int]] = {}
        sizes = sorted(self._suspects, key=lambda place: (place[2] - place[1], place))
        for column in columns if sizes else ():
            field = fields[column]
            for table, start, end in sizes:
                if table == field.table and start <= field.register and field.end <= end:
                    held.setdefault((table, start, end), []).append(column)
                    break
        found = []
        for suspected, inside in held.items():
            block = cover(fields, inside)
            found.append((block, self._suspects[suspected] if place(block) == suspected else 0))
        return found


def place(block: Block) -> Place:
    """Give a block's table and registers."""
    return (block.table, *block.span)


@dataclass(slots=True, eq=False)
class Trial:
    """A refused block, and how many of its two parts are not answered yet. `is_explained`: one is refused itself."""

    block: Block
    code: int
    parts: tuple[Block, ...]
    unanswered: int = 2
    is_explained: bool = False


class Search:
    """The search through the refused blocks of one poll: largest parts first, which gives most values soonest.

    `requests` counts what was asked to find out something, `floor` is how many it may ask however long they take:
    enough to find one refused register.
    """

    def __init__(self, fields: Sequence[Field], memory: Memory) -> None:
        self.requests = 0
        self.floor = 0
        self._fields = fields
        self._memory = memory
        self._waiting: list[tuple[bool, int, int, Block, Trial | None]] = []
        self._number = 0

    def resume(self, block: Block, code: int) -> None:
        """Go on with a block that was refused in an earlier poll, or is a part of one (then `code` is 0)."""
        self._allow(block)
        parts = halves(self._fields, block) if code else ()
        if parts:
            self._part(Trial(block, code, parts))
        else:
            self._wait(block, None)

    def refused(self, block: Block, code: int, trial: Trial | None, now: float) -> tuple[int, ...]:
        """Note that a block is refused, which is a part of the trial's; give the columns that need all of it.

        They are refused themselves. The others are searched.
        """
        if trial is None:
            self._allow(block)
        elif not trial.is_explained:
            trial.is_explained = True
            self._memory.explain(trial.block)
        own = tuple(column for column in block.columns if self._fields[column].span == block.span)
        if not own:
            self._memory.suspect(block, code)
            self._part(Trial(block, code, halves(self._fields, block)))
            return ()
        self._memory.refused(block, now)
        if others := [column for column in block.columns if column not in own]:
            self._wait(cover(self._fields, others), None)
        return own

    def answered(self, block: Block, trial: Trial | None) -> None:
        """Note that a block is answered, which is a part of the trial's."""
        if trial is None or trial.is_explained:
            return
        trial.unanswered -= 1
        if trial.unanswered:
            self._memory.answered_half(trial.block, block)
        else:
            self._memory.conclude(trial.block, trial.code, trial.parts)

    def next(self) -> tuple[Block, Trial | None]:
        """Give the next block to ask, and what it is a part of."""
        is_open, _, _, block, trial = heapq.heappop(self._waiting)
        self.requests += is_open
        return block, trial

    @property
    def may_go_on(self) -> bool:
        """Whether the next request is to be made even if the poll's time is over."""
        return self.requests < self.floor or not self._waiting[0][0]

    def __bool__(self) -> bool:
        """Whether there is something left to ask."""
        return bool(self._waiting)

    @property
    def left(self) -> list[Block]:
        """Blocks that are still to be asked: refused ones, or parts of them."""
        return [block for _, _, _, block, _ in self._waiting]

    def _allow(self, block: Block) -> None:
        self.floor = max(self.floor, 2 * (ranges(self._fields, block) - 1).bit_length() + 2)

    def _part(self, trial: Trial) -> None:
        for part in trial.parts:
            self._wait(part, trial)

    def _wait(self, block: Block, trial: Trial | None) -> None:
        is_open = trial is None or not self._memory.has_answered_half(trial.block, block)
        self._number += 1
        heapq.heappush(self._waiting, (is_open, -len(block.columns), self._number, block, trial))
