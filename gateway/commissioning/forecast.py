"""What a config leads to before it runs: requests, the line's time, messages."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from gateway.commissioning.traffic import Traffic, least_polls, traffic_of
from gateway.config.schema import Config
from gateway.control.messages import name_of
from gateway.drivers.base import DeviceSection
from gateway.drivers.modbus.fields import Fields, fields_of
from gateway.drivers.modbus.plan import Block, better_gap, limits_of, plan, total, unneeded
from gateway.drivers.modbus.section import ModbusDevice
from gateway.schedule import Schedule

_MOST_POLLS: Final = 5000
"""Polls that are played through to see which tags are due together, and how often."""


@dataclass(frozen=True, slots=True)
class Poll:
    """A set of tags that are read together: so many times a second, in these blocks, keeping the line busy so long."""

    columns: tuple[int, ...]
    rate: float
    blocks: tuple[Block, ...]
    unneeded: tuple[int, ...]
    busy_s: float

    @property
    def registers(self) -> int:
        """Registers and bits that are read."""
        return sum(block.count for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Saving:
    """What another `max_gap` would save each time that all tags are read, and what it reads for that."""

    max_gap: int
    requests: int
    seconds: float
    registers: int


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What a device's config leads to. `load` is the share of its line's time; nothing of it for OPC UA."""

    section: DeviceSection
    polls: tuple[Poll, ...]
    most: Traffic
    least: Traffic
    saving: Saving | None = None
    models: bool = False

    @property
    def load(self) -> float:
        """The share of the line's time that the device needs."""
        return sum(poll.busy_s * poll.rate for poll in self.polls)

    @property
    def interval(self) -> float:
        """Seconds between polls, the shortest."""
        section = self.section
        return min([section.interval_of(tag) for tag in section.tags], default=section.interval)


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """A line or endpoint: the devices on it, and the share of its time that they need."""

    name: str
    address: str
    protocol: str
    devices: tuple[str, ...]
    load: float


def forecast(config: Config, names: Sequence[str] = ()) -> list[DevicePlan]:
    """Plan the enabled devices of a config, or those that are named."""
    sections = [section for section in config.devices if section.enabled and (not names or section.name in names)]
    return [_device(config, section) for section in sections]


def links_of(config: Config, plans: Sequence[DevicePlan]) -> list[LinkPlan]:
    """Sum up the devices of each line. Devices that were not planned are not counted."""
    by_key: dict[Hashable, list[DevicePlan]] = {}
    for each in plans:
        if isinstance(each.section, ModbusDevice):
            by_key.setdefault(each.section.link_key, []).append(each)
    return [
        LinkPlan(
            name_of(key),
            found[0].section.address,
            getattr(found[0].section, "protocol", ""),
            tuple(each.section.name for each in found),
            sum(each.load for each in found),
        )
        for key, found in by_key.items()
    ]


def _device(config: Config, section: DeviceSection) -> DevicePlan:
    due = due_together(tuple(section.interval_of(tag) for tag in section.tags))
    most = traffic_of(config, section, due)
    least = traffic_of(config, section, least_polls(section, due))
    if not isinstance(section, ModbusDevice) or not section.tags:
        return DevicePlan(section, tuple(Poll(columns, rate, (), (), 0.0) for columns, rate in due), most, least)
    fields = fields_of(section)
    polls = tuple(_poll(section, fields, columns, rate) for columns, rate in due)
    has_models = any(field.absent for field in fields.all)
    return DevicePlan(section, polls, most, least, _saving(section, fields), has_models)


@lru_cache(maxsize=256)
def due_together(intervals: tuple[float, ...]) -> tuple[tuple[tuple[int, ...], float], ...]:
    """Give the sets of tags that are due together, the most frequent first, with how often a second each is."""
    if not intervals:
        return ()
    schedule = Schedule(intervals, 0.0)
    began, now = schedule.next, schedule.next
    counted: Counter[tuple[int, ...]] = Counter()
    longest = max(intervals)
    while counted.total() < _MOST_POLLS and now - began < 20 * longest:
        counted[schedule.take(now).columns] += 1
        now = schedule.next
    return tuple((columns, count / (now - began)) for columns, count in counted.most_common())


def _poll(section: ModbusDevice, fields: Fields, columns: tuple[int, ...], rate: float) -> Poll:
    limits = limits_of(section)
    blocks = plan(fields.all, _asked(fields, columns), limits)
    spare = tuple(unneeded(fields.all, block) for block in blocks)
    return Poll(columns, rate, blocks, spare, total(blocks, limits.cost))


def _asked(fields: Fields, columns: Iterable[int]) -> list[int]:
    return [at for at in fields.wanted(tuple(columns)) if not fields.all[at].absent]


def _saving(section: ModbusDevice, fields: Fields) -> Saving | None:
    """Look whether reading over gaps would pay; nothing if it would save less than a tenth of the line's time."""
    limits = limits_of(section)
    asked = _asked(fields, range(len(section.tags)))
    now = plan(fields.all, asked, limits)
    gap, better = better_gap(fields.all, asked, limits)
    before, after = total(now, limits.cost), total(better, limits.cost)
    if gap == limits.max_gap or after > 0.9 * before:
        return None
    more = sum(block.count for block in better) - sum(block.count for block in now)
    return Saving(gap, len(now) - len(better), before - after, more)


def document_of(each: DevicePlan) -> dict[str, Any]:
    """Give a plan as JSON has it."""
    section = each.section
    found: dict[str, Any] = {
        "device": section.name,
        "protocol": getattr(section, "protocol", ""),
        "address": section.address,
        "tags": len(section.tags),
        "load": round(each.load, 6) if isinstance(section, ModbusDevice) else None,
        "sent_at_most": each.most.document(),
        "sent_at_least": each.least.document(),
    }
    if isinstance(section, ModbusDevice):
        found["unit_id"] = section.unit_id
        found["polls"] = [_poll_document(poll) for poll in each.polls]
        saving = each.saving
        found["another_max_gap"] = None if saving is None else {
            "max_gap": saving.max_gap, "requests_saved": saving.requests, "seconds_saved": round(saving.seconds, 6),
            "registers_more": saving.registers,
        }  # fmt: skip
    else:
        found["mode"] = getattr(section, "mode", "")
        found["interval_s"] = section.interval
    return found


def _poll_document(poll: Poll) -> dict[str, Any]:
    return {
        "polls_per_second": round(poll.rate, 6),
        "tags": len(poll.columns),
        "requests": len(poll.blocks),
        "registers": poll.registers,
        "unneeded": sum(poll.unneeded),
        "busy_s": round(poll.busy_s, 6),
        "blocks": [
            {
                "table": block.table,
                "start": block.start,
                "count": block.count,
                "tags": len(block.columns),
                "unneeded": n,
            }
            for block, n in zip(poll.blocks, poll.unneeded, strict=True)
        ],
    }
