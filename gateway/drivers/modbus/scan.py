"""The requests that read one set of columns: planned and compiled once, for as long as what is known stays the same."""

from collections.abc import Sequence
from itertools import chain

from gateway.columns import Pick, picker
from gateway.drivers.modbus.fields import ILLEGAL_ADDRESS, Field, Fields
from gateway.drivers.modbus.holes import Memory
from gateway.drivers.modbus.plan import Block, Limits, cover, plan
from gateway.drivers.modbus.registers import Decoded, Decoder


class Query:
    """A block and how to decode it. `is_proven`: it was answered before."""

    __slots__ = ("_decoder", "_fields", "block", "is_proven")

    def __init__(self, block: Block, fields: Sequence[Field]) -> None:
        self.block = block
        self.is_proven = False
        self._fields = fields
        self._decoder: Decoder | None = None

    def decode(self, payload: bytes) -> Decoded:
        """Take the values out of an answer."""
        if self._decoder is None:  # what is asked only to be refused needs none
            self._decoder = Decoder(self.block, self._fields)
        return self._decoder.decode(payload)


class Scan:
    """The queries for a set of columns, in the order in which they are asked: the guard's, if there is one, is last.

    `suspects` are blocks that are still to be searched, `refused` the positions of fields that the unit refuses, and
    `bad` has the reason for every field that is not asked for, hidden ones too. `guard` asks for nothing but the guard.
    """

    def __init__(self, columns: tuple[int, ...], fields: Fields, limits: Limits, memory: Memory) -> None:
        everything = fields.all
        readable = fields.readable(columns)
        self.columns = columns
        self.fields = fields
        self.version = memory.version
        self.refused = [at for at in readable if memory.refuses(everything[at])]
        self.bad = {at: everything[at].absent for at in fields.wanted(columns) if everything[at].absent}
        self.bad |= dict.fromkeys(self.refused, ILLEGAL_ADDRESS)
        asked = [at for at in readable if at not in self.bad]
        self.suspects = memory.suspects(everything, asked)
        searched = {at for block, _ in self.suspects for at in block.columns}
        blocks = plan(everything, [at for at in asked if at not in searched], limits, memory)
        self.queries = tuple(Query(block, everything) for block in self._in_turn(blocks, memory))
        self.guard = None
        if fields.guard is not None and fields.guard not in self.bad:
            self.guard = Query(cover(everything, [fields.guard]), everything)
        self._compile([at for at in columns if at not in self.bad])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to ask for: the device has none of it."""
        return not (self.queries or self.suspects or self.refused)

    def _in_turn(self, blocks: Sequence[Block], memory: Memory) -> list[Block]:
        """Bring the blocks into the order in which they are asked: first what is known to be answered."""
        return sorted(blocks, key=lambda block: (self.fields.guard in block.columns, memory.is_mute(block)))

    def _compile(self, asked: Sequence[int]) -> None:
        """Prepare for what is usual: everything is answered, and nothing is left to be worked out.

        `order` are the columns as the answers bring them, `arrange` brings their values into the order of `asked`;
        it is None where values depend on others. `guard_at` is the guard's place among them.
        """
        self.order = [query.block.columns for query in self.queries]
        self.asked = self.columns if len(asked) == len(self.columns) else tuple(asked)
        names = self.fields.names
        self.quality = {names[at]: f"bad:{self.bad[at]}" for at in self.columns if at in self.bad}
        position = {column: index for index, column in enumerate(chain.from_iterable(self.order))}
        self.guard_at = None if self.fields.guard is None else position.get(self.fields.guard)
        self.arrange: Pick | None = None
        is_guardable = self.fields.guard is None or self.guard_at is not None
        if is_guardable and all(at in position and self.fields.all[at].scale is None for at in asked):
            self.arrange = picker([position[at] for at in asked], len(position))
