"""Whatever happens, and wherever a crash cuts: stored is everything that the server kept, each value once."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.drivers.opcua.history.merging import Merge, grouped
from gateway.drivers.opcua.history.seams import Hole, Seams, holes_of
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.drivers.opcua.types.values import DataValue
from gateway.model import Bookmark

BEGIN = 134_000_000_000_000_000
NAMES = ("a", "b", "c")
EVENTS = ("change", "notify", "look", "lose", "connect", "crash", "read_back")


def section(*names: str, **keys: Any) -> OpcuaDevice:
    tags = [{"name": name, "node": f"s={name}"} for name in names]
    plain = {"policy": "None", "insecure": True}
    return OpcuaDevice.model_validate(
        {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://192.0.2.1:4840", "security": plain, "history": True}
        | {"tags": tags}
        | keys
    )


def value(ticks: int, status: int = 0) -> DataValue:
    return DataValue(ticks, status, ticks // 10_000, None, ticks)


@dataclass
class Disk:
    """What is stored: (column, ticks) of live values and of history, and bookmarks; as of each transaction."""

    live: list[tuple[int, int]] = field(default_factory=list)
    past: list[tuple[int, int]] = field(default_factory=list)
    marks: dict[str, Bookmark] = field(default_factory=dict)

    def store(self, live: Sequence[tuple[int, int]], past: Sequence[tuple[int, int]], marks: Any) -> "Disk":
        known = {**self.marks, **marks}
        return Disk(
            [*self.live, *live], [*self.past, *past], {name: mark for name, mark in known.items() if mark is not None}
        )


class World:
    """A server whose tags change, and a gateway that sees some of it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.now = BEGIN
        self.kept: list[list[int]] = [[], [], []]
        self.unseen: list[tuple[int, int]] = []
        self.disks = [Disk()]
        self.merge: Merge | None = None
        self.change()
        self.connect()

    @property
    def disk(self) -> Disk:
        return self.disks[-1]

    def change(self) -> None:
        """Let tags change, some several times within a millisecond, some at once."""
        for _ in range(self.dice.randrange(1, 12)):
            self.now += self.dice.choice((1, 1, 10, 3_000, 10_000, 2_500_000, 40_000_000))
            for column in self.dice.sample(range(3), self.dice.choice((1, 1, 2, 3))):
                self.kept[column].append(self.now)
                self.unseen.append((column, self.now))

    def notify(self) -> None:
        """Give the gateway the changes of which it has not heard, in one transaction."""
        changes, self.unseen = self.unseen, []
        marks = self.seams.note((column, value(ticks)) for column, ticks in changes)
        self.disks.append(self.disk.store(changes, (), marks))

    def connect(self) -> None:
        """Be connected anew: each tag is told as it is now, whenever it was that it changed."""
        self.merge = None
        self.seams = Seams(section(*NAMES), self.disk.marks)
        self.unseen = [(column, ticks[-1]) for column, ticks in enumerate(self.kept) if ticks]
        self.notify()

    def look(self) -> None:
        """Read a tag beside the subscription, which may not have come so far."""
        column = self.dice.randrange(3)
        if self.kept[column]:
            last = self.kept[column][-1]
            known = {*self.disk.live, *self.disk.past}
            marks = self.seams.aside([(column, value(last))])
            self.disks.append(self.disk.store([] if (column, last) in known else [(column, last)], (), marks))

    def lose(self) -> None:
        """Lose what the server had sent, and hear of the loss."""
        self.unseen.clear()
        self.seams.tear()

    def crash(self) -> None:
        """Lose what was stored last."""
        del self.disks[max(1, len(self.disks) - self.dice.randrange(4)) :]
        self.connect()

    def read_back(self) -> None:
        """Read one round of pages; the server has its own idea of how long they are, and of continuation points."""
        if self.merge is None:
            groups = grouped(holes_of(self.disk.marks), 2)
            self.merge = Merge(groups[0]) if groups else None
        if self.merge is None:
            return
        for track in self.merge.asks():
            most = self.dice.randrange(1, 6)
            ticks = [t for t in self.kept[NAMES.index(track.hole.tag)] if track.position <= t <= track.hole.end]
            cut, pointed = ticks[: most + 1], self.dice.random() < 0.5
            whole = len(cut) == len(ticks)
            assert track.add([value(t) for t in cut], b"" if whole or not pointed else b"x", most + 1)
        values, marks, missing = self.merge.take()
        assert not missing
        self.disks.append(self.disk.store((), [(NAMES.index(tag), one.ticks or 0) for tag, one in values], marks))
        if not self.merge.asks():
            self.merge = None


@settings(max_examples=1000, deadline=None)
@given(st.randoms(use_true_random=False), st.lists(st.sampled_from(EVENTS)))
def test_stored_is_everything_exactly_once(dice: random.Random, events: list[str]) -> None:
    world = World(dice)
    for event in events:
        getattr(world, event)()
    world.connect()
    for _ in range(10_000):
        if not holes_of(world.disk.marks):
            break
        world.read_back()
    assert not holes_of(world.disk.marks)
    disk = world.disk
    live, past = set(disk.live), set(disk.past)
    assert len(past) == len(disk.past)
    assert not live & past
    for column, kept in enumerate(world.kept):
        first = min((ticks for tag, ticks in live if tag == column), default=world.now + 1)
        wanted = {(column, ticks) for ticks in kept if ticks >= first}
        assert {each for each in live | past if each[0] == column} == wanted


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 400), unique=True, max_size=60), min_size=1, max_size=4),
    st.integers(2, 7),
)
def test_a_group_comes_out_in_ascending_order_and_holds_no_more_than_a_page_of_each(
    series: list[list[int]], most: int
) -> None:
    holes = [Hole(str(number), 0, 500, 0) for number in range(len(series))]
    merge = Merge(holes)
    out: list[int] = []
    while tracks := merge.asks():
        for track in tracks:
            kept = [0, *sorted(series[int(track.hole.tag)])]
            track.add([value(ticks) for ticks in kept if ticks >= track.position][:most], b"", most)
        assert all(len(track.held) <= most for track in merge._tracks)
        values, _, _ = merge.take()
        piece = sorted(one.ticks or 0 for _, one in values)
        assert not out or not piece or piece[0] >= out[-1]
        out += piece
    assert out == sorted(ticks for each in series for ticks in each)


def test_values_dated_before_the_last_one_open_no_hole_and_the_next_one_does() -> None:
    """A PLC that has just started."""
    seams = Seams(section("a"), {"at:a": BEGIN})
    assert seams.note([(0, value(BEGIN - 5))]) == {}
    assert seams.note([(0, value(BEGIN + 5))]) == {
        f"hole:{BEGIN}-{BEGIN + 5}:a": BEGIN,
        "at:a": BEGIN + 5,
    }
    assert seams.opened.is_set()


def test_a_last_value_from_the_far_future_is_none() -> None:
    future = (time.time_ns() // 100) + 116_444_736_000_000_000 + 2 * 864_000_000_000
    seams = Seams(section("a"), {"at:a": future})
    assert seams.note([(0, value(BEGIN))]) == {"at:a": BEGIN}


def test_bookmarks_of_tags_that_are_gone_are_forgotten_whatever_their_names_look_like() -> None:
    marks: dict[str, Bookmark] = {"at:a": 5, "at:b:c": 6, "hole:1-9:b:c": 3, "hole:1-9:a": 3, "plan": "x"}
    assert Seams(section("a"), marks).gone == {"at:b:c": None, "hole:1-9:b:c": None}
    assert Seams(section("a", history=False), marks).gone == dict.fromkeys(set(marks) - {"plan"})


def test_what_was_read_beside_a_subscription_is_not_read_back() -> None:
    seams = Seams(section("a"), {"at:a": BEGIN})
    seams.note([(0, value(BEGIN))])
    marks = {"at:a": BEGIN, **seams.aside([(0, value(BEGIN + 5))])}
    seams = Seams(section("a"), {name: mark for name, mark in marks.items() if mark is not None})
    assert seams.note([(0, value(BEGIN + 9))]) == {
        f"hole:{BEGIN}-{BEGIN + 5}:a": BEGIN,
        f"hole:{BEGIN + 5}-{BEGIN + 9}:a": BEGIN + 5,
        "read:a": None,
        "at:a": BEGIN + 9,
    }


def test_a_tag_that_was_read_and_never_notified_has_its_hole_from_there() -> None:
    marks = Seams(section("a"), {}).aside([(0, value(BEGIN))])
    assert marks == {"read:a": str(BEGIN)}
    assert Seams(section("a"), {"read:a": str(BEGIN)}).note([(0, value(BEGIN + 9))]) == {
        f"hole:{BEGIN}-{BEGIN + 9}:a": BEGIN,
        "read:a": None,
        "at:a": BEGIN + 9,
    }


def test_what_the_server_kept_for_us_is_no_hole() -> None:
    seams = Seams(section("a", "b"), {"at:a": BEGIN, "at:b": BEGIN})
    seams.mend([0])
    marks = seams.note([(0, value(BEGIN + 5)), (1, value(BEGIN + 5))])
    assert sorted(mark for mark in marks if mark.startswith("hole:")) == [f"hole:{BEGIN}-{BEGIN + 5}:b"]


def test_holes_of_unlike_times_are_not_asked_for_together() -> None:
    second = 10_000_000
    holes = [Hole("a", 0, 9 * second, 0), Hole("b", 0, 9 * second, 5 * second), Hole("c", 0, 9 * second, second)]
    assert [[hole.tag for hole in group] for group in grouped(holes, 10)] == [["a", "c"], ["b"]]


def test_a_tag_says_for_itself_whether_its_history_is_read() -> None:
    tags = [{"name": "a", "node": "s=a"}, {"name": "b", "node": "s=b", "history": False}]
    device = section("a", tags=tags)
    assert [device.history_of(tag) for tag in device.tags] == [True, False]
    assert not section("a", history=False).history_of(section("a").tags[0])


def test_history_without_source_timestamps_is_refused() -> None:
    for clock in ("server", "gateway"):
        with pytest.raises(ValueError, match="history is told by source timestamps; write timestamp: source"):
            section("a", timestamp=clock)
        assert section("a", timestamp=clock, history=False)
