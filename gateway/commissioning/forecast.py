"""What a config leads to before it runs: requests, the line's time, messages."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from gateway.commissioning.known import Known
from gateway.commissioning.traffic import Traffic, least_polls, traffic_of
from gateway.config.schema import Config
from gateway.control.messages import name_of
from gateway.drivers.base import DeviceSection
from gateway.drivers.modbus.fields import Fields, fields_of
from gateway.drivers.modbus.plan import Block, better_gap, limits_of, plan, total, unneeded
from gateway.drivers.modbus.section import ModbusDevice
from gateway.drivers.opcua.limits import Limits
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.schedule import Schedule

if TYPE_CHECKING:
    from gateway.drivers.opcua.outlook import Outlook

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
    """What a device's config leads to. `load` is the share of its line's time; nothing of it for OPC UA.

    `outlook` is what an OPC UA server is asked for, `known` what the running gateway knows of it.
    """

    section: DeviceSection
    polls: tuple[Poll, ...]
    most: Traffic
    least: Traffic
    saving: Saving | None = None
    models: bool = False
    outlook: "Outlook | None" = None
    known: Known | None = None

    @property
    def load(self) -> float:
        """The share of the line's time that the device needs."""
        return sum(poll.busy_s * poll.rate for poll in self.polls)

    @property
    def limits(self) -> Limits:
        """The limits of an OPC UA server, as far as they are known."""
        return _limits(self.section, self.known)

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


def planned(config: Config, names: Sequence[str] = ()) -> list[DeviceSection]:
    """Give the enabled devices of a config, or those that are named."""
    return [section for section in config.devices if section.enabled and (not names or section.name in names)]


def forecast(
    config: Config, names: Sequence[str] = (), known: Mapping[str, Known] = MappingProxyType({})
) -> list[DevicePlan]:
    """Plan these devices, with what is known of them by their names."""
    return [_device(config, section, known.get(section.name)) for section in planned(config, names)]


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


def _device(config: Config, section: DeviceSection, known: Known | None) -> DevicePlan:
    if known is not None:
        section = known.complete(section)
    due = due_together(tuple(section.interval_of(tag) for tag in section.tags))
    most = traffic_of(config, section, due)
    least = traffic_of(config, section, least_polls(section, due))
    if isinstance(section, OpcuaDevice):
        return DevicePlan(section, (), most, least, outlook=_outlook(section, due, known), known=known)
    if not isinstance(section, ModbusDevice) or not section.tags:
        return DevicePlan(section, tuple(Poll(columns, rate, (), (), 0.0) for columns, rate in due), most, least)
    fields = fields_of(section)
    polls = tuple(_poll(section, fields, columns, rate) for columns, rate in due)
    has_models = any(field.absent for field in fields.all)
    return DevicePlan(section, polls, most, least, _saving(section, fields), has_models)


def _outlook(section: OpcuaDevice, due: Sequence[tuple[Sequence[int], float]], known: Known | None) -> "Outlook":
    from gateway.drivers.opcua.outlook import look_ahead  # asyncua is imported where OPC UA is planned

    return look_ahead(section, _limits(section, known), due)


def _limits(section: DeviceSection, known: Known | None) -> Limits:
    given = section.limits if isinstance(section, OpcuaDevice) else {}
    return Limits(given=given) if known is None else known.limits(given)


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
    return found | _opcua_document(each)


def _opcua_document(each: DevicePlan) -> dict[str, Any]:
    outlook, section, known, limits = each.outlook, each.section, each.known, each.limits
    if outlook is None or not isinstance(section, OpcuaDevice):
        return {}
    return {
        "subscriptions": [asdict(subscription) for subscription in outlook.subscriptions],
        "polls": [
            {"polls_per_second": round(poll.rate, 6), "tags": poll.tags, "requests": poll.requests}
            for poll in outlook.polls
        ],
        "requests_at_connect": dict(outlook.connect),
        "requests_per_second": round(outlook.per_second, 6),
        "max_requests_per_second": section.max_requests_per_second,
        "limits": {name: {"most": most, "from": limits.sources[name]} for name, most in limits.document.items()},
        "found_tags": None if known is None or not section.browse else [tag.name for tag in known.tags],
        "known": known is not None,
    }


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
