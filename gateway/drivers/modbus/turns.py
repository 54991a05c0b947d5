"""Who may use a link next, and when: live units at once, in the order in which they ask, the others in between. No I/O.

A unit whose last request got no answer is silent; one never asked is new. As long as one unit of the link is live,
asking any that is not is a probe: it may cost a whole timeout. So a probe begins only in a pause of the live units'
polls that is long enough for it, and all silent units together get a small share of the link's time. Without a live
unit there is nobody to protect: whoever asks first is first.

Times are monotonic seconds.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from gateway.drivers.modbus.unit import LATE_S, Unit

PROBING_SHARE: Final = 0.05
"""Of a link's time, what its silent units may cost the others, all together."""
BURST_S: Final = 0.5
"""Probing that an unused share adds up to, at most."""
RESERVE_S: Final = 1.0
"""What a unit that missed one answer only may overdraw the share by: it is asked again soon."""
SHORTEST_S: Final = 0.05
"""No probe is shorter than this, unless the unit's timeout is."""
MARGIN_S: Final = 0.005
"""A probe ends so long before the next poll is due."""
WATCH_S: Final = 2.0
"""How long pauses are watched, to tell whether one that is long enough comes at all."""
_NEARLY: Final = 0.75
"""A probe that is cut short waits for a pause of at least so much of the longest."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that waits for its turn. `unit` is None where the link itself is asked for, as in connecting.

    `cost` is what it takes of the line if nothing comes: `timeout` and the silence after it.
    """

    unit: Unit | None
    timeout: float
    cost: float
    asked_at: float
    window: float = 0.0
    """How long an answer may take, once it is the ticket's turn: its timeout, or less."""
    budgeted: bool = False
    """Whether its time counts against the silent units' share."""
    in_person: bool = False
    """Whether somebody sits there and waits: the silent units' share is no reason to let him."""
    called: asyncio.Future[None] | None = None
    """What the one who asks waits on, if it is not his turn at once."""


@dataclass(slots=True)
class Account:
    """The share of time that the silent units have not used; below 0 it is overdrawn."""

    balance: float = BURST_S
    at: float = -inf

    def at_time(self, now: float) -> float:
        """Give the balance."""
        if self.at == -inf:
            self.at = now
        self.balance = min(BURST_S, self.balance + PROBING_SHARE * (now - self.at))
        self.at = now
        return self.balance

    def charge(self, seconds: float, now: float) -> None:
        """Take what a probe used."""
        self.balance = self.at_time(now) - seconds

    def when(self, level: float, now: float) -> float:
        """Give the time at which the balance reaches a level."""
        return now + max(0.0, level - self.at_time(now)) / PROBING_SHARE


@dataclass(slots=True)
class Pauses:
    """The longest pause between polls of late; inf until enough of them were watched."""

    _since: float = -inf
    _longest: float = 0.0
    _before: float = inf

    def note(self, pause: float, now: float) -> None:
        """Note a pause that begins, or goes on, and its length from now on."""
        age = now - self._since
        if age > WATCH_S:
            self._before = self._longest if age < 2 * WATCH_S else inf
            self._longest, self._since = 0.0, now
        self._longest = max(self._longest, pause)

    @property
    def longest(self) -> float:
        """The longest of the last seconds."""
        return max(self._longest, self._before)

    @property
    def seen(self) -> float:
        """The longest so far, however short the time."""
        return self.longest if self._before < inf else self._longest


@dataclass(slots=True)
class Turns:
    """The queue for a link. `shortens`: a late answer is recognised, so that a probe may be cut short."""

    shortens: bool = True
    units: dict[int, Unit] = field(default_factory=dict)
    current: Ticket | None = None
    account: Account = field(default_factory=Account)
    _live: deque[Ticket] = field(default_factory=deque)
    _probes: list[Ticket] = field(default_factory=list)
    _pauses: Pauses = field(default_factory=Pauses)

    def unit(self, number: int) -> Unit:
        """Give what is known of a unit."""
        known = self.units.get(number)
        if known is None:
            known = self.units[number] = Unit(number)
        return known

    def protects(self, now: float) -> bool:
        """Whether there is a live unit."""
        return any(unit.needs_protection(now) for unit in self.units.values())

    def in_use(self, now: float) -> bool:
        """Whether a live unit is in the middle of a poll, or somebody has the turn or waits for it."""
        busy = any(unit.live and unit.busy_until > now for unit in self.units.values())
        return busy or self.current is not None or self.is_waited_for

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for the turn."""
        return bool(self._live or self._probes)

    def take(self, ticket: Ticket, now: float) -> bool:
        """Take the turn at once, if nobody has it and none of the live units waits for it."""
        unit = ticket.unit
        if self.current is not None or self._live or (unit is not None and not (unit.live and unit.hold_until <= now)):
            return False
        ticket.window, self.current = ticket.timeout, ticket
        return True

    def ask(self, ticket: Ticket) -> None:
        """Queue for a turn."""
        unit = ticket.unit
        if unit is None or unit.live:
            self._live.append(ticket)
        else:
            self._probes.append(ticket)

    def withdraw(self, ticket: Ticket) -> None:
        """Leave the queue."""
        queue = self._probes if ticket in self._probes else self._live
        queue.remove(ticket)

    def answered(self, unit: Unit, took: float, now: float) -> None:
        """Note an answer, which came after so many seconds; a unit that was silent waits among the live ones now."""
        was_live = unit.live
        unit.answered(took, now)
        if was_live or not self._probes:
            return
        found = [ticket for ticket in self._probes if ticket.unit is unit]
        self._probes = [ticket for ticket in self._probes if ticket.unit is not unit]
        self._live.extend(found)

    def release(self, now: float, used: float) -> None:
        """End the current turn, which took so many seconds of the line."""
        ticket, self.current = self.current, None
        if ticket is not None and ticket.budgeted:
            # Who cuts a probe short does not stop a gateway from waiting on for the unit: it counts as a whole.
            # If something came before the window was over, if only the wrong thing, nobody waits on.
            is_cut = ticket.window < ticket.timeout and used >= ticket.window
            self.account.charge(max(used, ticket.cost) if is_cut else used, now)

    def choose(self, now: float) -> tuple[Ticket | None, float]:
        """Give the turn to whoever may have it now; else say when that may change without anybody's doing."""
        if self.current is not None:
            return None, inf
        look = inf
        for ticket in tuple(self._live):
            if ticket.unit is not None and not ticket.unit.live:
                self._live.remove(ticket)  # it fell silent while this one waited
                self._probes.append(ticket)
            elif (held := _held_until(ticket)) > now:
                look = min(look, held)
            else:
                return self._granted(ticket, ticket.timeout), inf
        if not self._probes:
            return None, look
        protected = [unit for unit in self.units.values() if unit.needs_protection(now)]
        chosen, later = self._probe(protected, now) if protected else self._first_come(now)
        return chosen, min(look, later)

    def _first_come(self, now: float) -> tuple[Ticket | None, float]:
        """Serve units that were never asked first: one of them may be live, and then it counts."""
        free = [ticket for ticket in self._probes if _held_until(ticket) <= now]
        if not free:
            return None, min(map(_held_until, self._probes))
        first = next(filter(_is_exempt, free), free[0])
        return self._granted(first, first.timeout), inf

    def _probe(self, protected: Sequence[Unit], now: float) -> tuple[Ticket | None, float]:
        pause = min(unit.wanted_at(now) for unit in protected) - now - MARGIN_S
        self._pauses.note(max(0.0, pause), now)
        look = min((unit.busy_until for unit in protected if unit.busy_until > now), default=inf)
        if pause <= 0:
            look = min(look, now + LATE_S)
            if self._pauses.longest > 0:
                return None, look
        for ticket in sorted(self._probes, key=_urgency):
            may_at = self._may_begin_at(ticket, now)
            if may_at > now:
                look = min(look, may_at)
                continue
            # Nobody overtakes who waits for a pause only: easier ones would use up the share, again and again.
            window = self._window(ticket, pause)
            if not window:
                break
            ticket.budgeted = not _is_exempt(ticket)
            return self._granted(ticket, window), inf
        return None, look

    def _may_begin_at(self, ticket: Ticket, now: float) -> float:
        """From when on the share of silent units, and the unit itself, allow a probe."""
        held = _held_until(ticket)
        if _is_exempt(ticket):
            return held
        first = ticket.unit is not None and ticket.unit.misses == 1
        return max(held, self.account.when(-RESERVE_S if first else 0.0, now))

    def _window(self, ticket: Ticket, pause: float) -> float:
        """Give how long a probe may take if it begins now; 0 if it is to wait for a longer pause."""
        # Who was never asked may well be live, and does not wait to see whether longer pauses come.
        longest = self._pauses.seen if _is_new(ticket) else self._pauses.longest
        if ticket.cost <= pause:
            return ticket.timeout
        if ticket.cost <= longest:
            return 0.0
        if self.shortens and longest >= SHORTEST_S:
            return pause if pause >= max(SHORTEST_S, _NEARLY * longest) else 0.0
        # No pause is of any use: it costs the next poll a delay, but seldom.
        return min(ticket.timeout, SHORTEST_S) if self.shortens else ticket.timeout

    def _granted(self, ticket: Ticket, window: float) -> Ticket:
        (self._live if ticket in self._live else self._probes).remove(ticket)
        ticket.window = window
        self.current = ticket
        return ticket


def _held_until(ticket: Ticket) -> float:
    return ticket.unit.hold_until if ticket.unit is not None else -inf


def _is_new(ticket: Ticket) -> bool:
    return ticket.unit is not None and ticket.unit.is_new


def _is_exempt(ticket: Ticket) -> bool:
    """Whether a probe does not count against the silent units' share, though it has to fit into a pause."""
    return ticket.in_person or _is_new(ticket)


def _urgency(ticket: Ticket) -> tuple[int, float]:
    """New units and people first, then those that missed one answer, then the rest; each in the order of asking."""
    misses = 0 if ticket.unit is None or ticket.in_person else min(ticket.unit.misses, 2)
    return misses, ticket.asked_at
