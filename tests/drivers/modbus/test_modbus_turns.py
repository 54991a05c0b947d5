"""Who may use a link next, and when: played in virtual time, without a socket and without waiting."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from math import inf

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.drivers.modbus.turns import PROBING_SHARE, RESERVE_S, SHORTEST_S, Ticket, Turns
from gateway.drivers.modbus.unit import GONE_S, LATE_S, Unit, load

ANSWER_S = 0.002


class Plant:
    """A link and its units in virtual time: live ones answer within ANSWER_S, dead ones not at all."""

    def __init__(self, *, shortens: bool = True, quiet: float = 0.0) -> None:
        self.now = 0.0
        self.turns = Turns(shortens=shortens)
        self.quiet = quiet
        self.look = inf
        self.done: dict[int, tuple[Ticket, Callable[[bool], None]]] = {}
        self.dead: set[int] = set()
        self.wrong: set[int] = set()
        """Those that answer at once, and something else than what they were asked for."""
        self.polled: dict[int, list[float]] = {}
        self.probed: list[tuple[float, int, float]] = []
        """When a unit without an answer had the line, which, and for how long."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._count), do))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until

    def poll(self, number: int, interval: float, timeout: float, due: float) -> None:
        """Let a unit be polled at its rate from `due` on; one that fails is tried again after a second."""

        def begin(due: float) -> None:
            following = due + interval * (int((self.now - due) / interval) + 1)
            unit = self.turns.unit(number)
            unit.expect(following, self.now)
            self.ask(number, timeout, lambda answered: over(answered, following))

        def over(answered: bool, following: float) -> None:
            unit = self.turns.unit(number)
            unit.busy_until = -inf
            if answered:
                self.polled.setdefault(number, []).append(self.now)
            else:
                unit.due = -inf
            again = following if answered else self.now + 1.0
            self.at(max(again, self.now), lambda: begin(again))
            self.next()

        self.at(due, lambda: begin(due))

    def ask(self, number: int, timeout: float, done: Callable[[bool], None]) -> None:
        ticket = Ticket(self.turns.unit(number), timeout, timeout + self.quiet, self.now)
        self.done[id(ticket)] = (ticket, done)
        self.turns.ask(ticket)
        self.next()

    def next(self) -> None:
        self.look = inf
        ticket, look = self.turns.choose(self.now)
        if ticket is None:
            if look < inf:
                assert look > self.now, "to look again at once would never end"
                self.look = look
                self.at(look, lambda: self.next() if self.look == look else None)
            return
        unit = ticket.unit
        assert unit is not None
        unit.ask(ticket.timeout, self.now)
        answers = unit.number not in self.dead
        took = ANSWER_S if answers else ticket.window + self.quiet
        if unit.number in self.wrong:
            self.at(self.now + took, lambda: self.served(ticket, False, took))
            return
        if not answers:
            self.probed.append((self.now, unit.number, took))
        self.at(self.now + took, lambda: self.served(ticket, answers, took))

    def served(self, ticket: Ticket, answered: bool, took: float) -> None:
        unit = ticket.unit
        assert unit is not None
        if answered:
            self.turns.answered(unit, took, self.now)
        elif unit.number in self.wrong:
            unit.failed()
        else:
            unit.missed()
        self.turns.release(self.now, took)
        _, done = self.done.pop(id(ticket))
        done(answered)
        self.next()


def worst_deviation(times: Sequence[float], interval: float, since: float) -> float:
    later = [when for when in times if when >= since]
    return max(abs(after - before - interval) for before, after in itertools.pairwise(later))


SPREADS = {"at once": 0.0, "evenly": 0.1, "unevenly": 0.03}


@pytest.mark.parametrize("quiet", [0.0, 0.05], ids=["mbap", "rtu"])
@pytest.mark.parametrize("spread", SPREADS.values(), ids=SPREADS.keys())
def test_p6_the_dead_take_little_and_the_live_keep_their_interval(spread: float, quiet: float) -> None:
    """45 of 50 units are dead; interval 500 ms, timeout 200 ms, ten minutes long."""
    plant = Plant(shortens=not quiet, quiet=quiet)
    plant.dead = set(range(6, 51))
    for number in range(1, 51):
        plant.poll(number, 0.5, 0.2, due=1 + number * spread)
    plant.run(600.0)
    began = 60.0
    live = [worst_deviation(plant.polled[number], 0.5, began) for number in range(1, 6)]
    fits = spread != 0.1 or not quiet
    if fits:
        assert max(live) < 0.05
    else:
        off = sorted(
            abs(after - before - 0.5)
            for number in range(1, 6)
            for before, after in itertools.pairwise(plant.polled[number])
            if before > began
        )
        assert off[int(len(off) * 0.9)] < 0.05, "where no pause is ever long enough, somebody is late, but seldom"
    probed = [(number, took) for when, number, took in plant.probed if when > began]
    assert sum(took for _, took in probed) <= PROBING_SHARE * (600 - began) + RESERVE_S + 0.5
    assert {number for number, _ in probed} == plant.dead
    assert sum(took for _, took in probed) > 0.3 * PROBING_SHARE * (600 - began), "and nobody waits without need"


@pytest.mark.parametrize("quiet", [0.0, 1.0], ids=["mbap", "rtu"])
def test_units_whose_timeout_is_as_long_as_the_interval_are_all_read_from_the_start(quiet: float) -> None:
    """1 s is the default of both: no pause is ever as long as the timeout."""
    plant = Plant(shortens=not quiet, quiet=quiet)
    for number in range(1, 11):
        plant.poll(number, 1.0, 1.0, due=1.0)
    plant.run(3.0)
    assert all(plant.polled[number][0] < 1.1 for number in range(1, 11))


def test_units_that_come_alive_are_found_back() -> None:
    plant = Plant()
    plant.dead = set(range(6, 51))
    for number in range(1, 51):
        plant.poll(number, 0.5, 0.2, due=1.0)
    plant.run(600.0)
    plant.dead.clear()
    plant.run(620.0)
    assert plant.polled.keys() == set(range(1, 51))


def test_one_unit_that_comes_alive_among_many_dead_is_found_within_one_round_of_the_budget() -> None:
    plant = Plant()
    plant.dead = set(range(6, 51))
    for number in range(1, 51):
        plant.poll(number, 0.5, 0.2, due=1.0)
    plant.run(600.0)
    plant.dead.remove(30)
    plant.run(600.0 + 45 * 0.2 / PROBING_SHARE + 10)
    assert 30 in plant.polled


def test_a_unit_that_missed_one_answer_is_asked_again_soon_though_many_are_dead() -> None:
    plant = Plant()
    plant.dead = set(range(6, 51))
    for number in range(1, 51):
        plant.poll(number, 0.5, 0.2, due=1.0)
    plant.run(600.2)
    plant.dead.add(1)
    plant.run(600.9)
    plant.dead.remove(1)
    missed = max(plant.polled[1])
    plant.run(620.0)
    back = min(when for when in plant.polled[1] if when > missed)
    assert back - missed < 6.0


def test_without_a_live_unit_there_is_no_budget_and_the_first_to_ask_is_first() -> None:
    turns = Turns()
    units = [turns.unit(number) for number in (3, 1, 2)]
    for unit in units:
        unit.missed()
        unit.missed()
    tickets = [Ticket(unit, 5.0, 5.0, 0.0) for unit in units]
    for ticket in tickets:
        turns.ask(ticket)
    for at, ticket in enumerate(tickets):
        assert turns.choose(at * 5.0) == (ticket, inf)
        assert ticket.window == 5.0
        turns.release(at * 5.0 + 5.0, 5.0)
    assert turns.account.balance > 0


def live(turns: Turns, number: int, *, due: float, now: float = 0.0) -> Unit:
    unit = turns.unit(number)
    unit.answered(ANSWER_S, now)
    unit.due, unit.busy_until = due, -inf
    return unit


def silent(turns: Turns, number: int, misses: int = 2) -> Unit:
    unit = turns.unit(number)
    for _ in range(misses):
        unit.missed()
    return unit


def test_a_probe_begins_in_a_pause_that_it_fits_into_and_in_no_other() -> None:
    turns = Turns(shortens=False)
    live(turns, 1, due=0.9)
    probe = Ticket(silent(turns, 2), 1.0, 1.0, 0.0)
    turns.ask(probe)
    assert turns.choose(0.0)[0] is None
    live(turns, 1, due=1.1)
    assert turns.choose(0.0)[0] is probe


def test_live_units_go_first_in_the_order_in_which_they_asked() -> None:
    turns = Turns()
    first, second = live(turns, 1, due=9.0), live(turns, 2, due=9.0)
    waiting = Ticket(None, 1.0, 1.0, 0.0)
    turns.ask(waiting)
    turns.choose(0.0)
    tickets = [Ticket(unit, 1.0, 1.0, 0.0) for unit in (silent(turns, 3), second, first)]
    for ticket in tickets:
        turns.ask(ticket)
    order = []
    for _ in tickets:
        turns.release(0.0, 0.0)
        order.append(turns.choose(0.0)[0])
    assert order == [tickets[1], tickets[2], tickets[0]]


def test_a_probe_does_not_come_between_two_requests_of_one_poll() -> None:
    turns = Turns()
    unit = live(turns, 1, due=60.0)
    unit.expect(60.0, 0.0)
    probe = Ticket(silent(turns, 2), 0.2, 0.2, 0.0)
    turns.ask(probe)
    assert turns.choose(0.0)[0] is None
    unit.busy_until = -inf
    assert turns.choose(0.0)[0] is probe


def test_a_poll_that_does_not_come_though_it_is_due_is_waited_for_a_moment_only() -> None:
    turns = Turns()
    live(turns, 1, due=1.0)
    probe = Ticket(silent(turns, 2), 0.2, 0.2, 1.0)
    turns.ask(probe)
    chosen, look = turns.choose(1.0)
    assert (chosen, look) == (None, 1.0 + LATE_S)
    assert turns.choose(look)[0] is probe


def test_a_unit_that_nobody_asks_any_more_needs_no_protection() -> None:
    turns = Turns()
    live(turns, 1, due=-inf)
    assert turns.protects(GONE_S - 0.1)
    assert not turns.protects(GONE_S)


def test_an_overdrawn_account_says_when_it_will_do_again() -> None:
    turns = Turns()
    live(turns, 1, due=1000.0)
    unit = silent(turns, 2)
    probe = Ticket(unit, 3.0, 3.0, 0.0)
    turns.ask(probe)
    assert turns.choose(0.0)[0] is probe
    turns.release(3.0, 3.0)
    turns.ask(again := Ticket(unit, 3.0, 3.0, 3.0))
    chosen, look = turns.choose(3.0)
    assert chosen is None
    assert look == pytest.approx(3.0 + 2.5 / PROBING_SHARE)
    assert turns.choose(look + 1e-6)[0] is again


def test_a_probe_that_is_cut_short_counts_as_a_whole_since_a_gateway_may_wait_on() -> None:
    turns = Turns()
    unit = live(turns, 1, due=0.1)
    probe = Ticket(silent(turns, 2), 1.0, 1.0, 0.0)
    turns.ask(probe)
    now = 0.0
    while turns.current is None:
        now += 0.1
        unit.asked_at, unit.due = now, now + 0.1
        turns.choose(now)
    assert SHORTEST_S < probe.window < 0.1
    before = turns.account.at_time(now)
    turns.release(now, probe.window)
    assert turns.account.at_time(now) == pytest.approx(before - 1.0)


def test_who_waits_in_person_waits_for_a_pause_and_not_for_the_share_of_silent_units() -> None:
    turns = Turns(shortens=False)
    live(turns, 1, due=0.4)
    turns.account.charge(60.0, 0.0)
    unit = silent(turns, 2, misses=9)
    by_itself, in_person = (Ticket(unit, 0.5, 0.5, 0.0, in_person=somebody) for somebody in (False, True))
    turns.ask(by_itself)
    turns.ask(in_person)
    assert turns.choose(0.0)[0] is None, "no pause is long enough"
    live(turns, 1, due=1.0)
    assert turns.choose(0.1)[0] is in_person
    balance = turns.account.at_time(0.6)
    turns.release(0.6, 0.5)
    assert turns.account.at_time(0.6) == balance


def test_a_probe_to_which_something_came_counts_as_what_it_took() -> None:
    turns = Turns()
    live(turns, 1, due=9.0)
    probe = Ticket(silent(turns, 2), 1.0, 1.0, 0.0)
    turns.ask(probe)
    assert turns.choose(0.0)[0] is probe
    probe.window = 0.5
    before = turns.account.at_time(0.002)
    turns.release(0.002, 0.002)
    assert turns.account.at_time(0.002) == pytest.approx(before - 0.002)


@pytest.mark.parametrize("polls", [3, 30])
def test_p6_a_unit_that_answered_wrongly_is_read_again_soon_after_it_answers_right(polls: int) -> None:
    """Interval and timeout are 1 s, their default; another unit of the line is well all the time."""
    plant = Plant()
    for number in (1, 2):
        plant.poll(number, 1.0, 1.0, due=1.0)
    plant.run(20.0)
    plant.wrong = {2}
    plant.run(20.0 + polls)
    plant.wrong = set()
    plant.run(60.0 + polls)
    back = next(when for when in plant.polled[2] if when > 20.0 + polls)
    assert back < 20.0 + polls + 2.5
    assert worst_deviation(plant.polled[1], 1.0, since=2.0) < 0.01


def test_a_unit_that_turns_out_to_be_alive_waits_among_the_live_ones() -> None:
    turns = Turns()
    live(turns, 1, due=0.01)
    unit = silent(turns, 2)
    ticket = Ticket(unit, 1.0, 1.0, 0.0)
    turns.ask(ticket)
    assert turns.choose(0.0)[0] is None
    turns.answered(unit, 0.1, 0.0)
    assert turns.choose(0.0)[0] is ticket


def test_who_falls_silent_while_another_of_its_requests_waits_waits_as_a_probe() -> None:
    turns = Turns()
    live(turns, 1, due=0.01)
    unit = live(turns, 2, due=9.0)
    turns.ask(Ticket(unit, 1.0, 1.0, 0.0))
    unit.missed()
    assert turns.choose(0.0)[0] is None


def test_a_unit_that_is_held_waits_and_holds_up_nobody() -> None:
    turns = Turns()
    held, other = live(turns, 1, due=9.0), live(turns, 2, due=9.0)
    held.hold_until = 3.0
    first, second = Ticket(held, 1.0, 1.0, 0.0), Ticket(other, 1.0, 1.0, 0.0)
    turns.ask(first)
    turns.ask(second)
    assert turns.choose(0.0)[0] is second
    turns.release(1.0, 1.0)
    assert turns.choose(1.0) == (None, 3.0)
    assert turns.choose(3.0)[0] is first


def test_who_gives_up_waiting_leaves_the_queue() -> None:
    turns = Turns()
    live(turns, 1, due=0.01)
    tickets = [Ticket(unit, 1.0, 1.0, 0.0) for unit in (turns.unit(1), turns.unit(2))]
    for ticket in tickets:
        turns.ask(ticket)
    for ticket in tickets:
        turns.withdraw(ticket)
    assert turns.choose(0.0) == (None, inf)
    assert not turns.in_use(0.0)


def test_load_is_what_the_last_polls_of_all_units_need_of_a_second() -> None:
    units = [Unit(number) for number in (1, 2, 3)]
    units[0].load, units[1].load = 0.9, 0.5
    assert load(units) == pytest.approx(1.4)


@settings(max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(st.tuples(st.sampled_from([0.3, 0.5, 1.0, 5.0]), st.floats(0, 2)), min_size=1, max_size=6),
    st.lists(st.sampled_from([0.1, 0.3, 1.0]), max_size=6),
    st.booleans(),
)
def test_whatever_the_intervals_and_timeouts_nobody_waits_for_ever_and_the_share_is_kept(
    polls: list[tuple[float, float]], timeouts: list[float], rtu: bool
) -> None:
    plant = Plant(shortens=not rtu, quiet=0.05 if rtu else 0.0)
    for number, (interval, due) in enumerate(polls, 1):
        plant.poll(number, interval, 0.3, due=due)
    plant.dead = set(range(101, 101 + len(timeouts)))
    for number, timeout in enumerate(timeouts, 101):
        plant.poll(number, 1.0, timeout, due=3.0)
    plant.run(400.0)
    later = [(number, took) for when, number, took in plant.probed if when > 100.0]
    assert {number for number, _ in later} == plant.dead
    assert sum(took for _, took in later) <= PROBING_SHARE * 300 + RESERVE_S + 0.5 + max(timeouts, default=0) + 0.05
