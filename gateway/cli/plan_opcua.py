"""What `edge-gateway plan` says of an OPC UA server."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from gateway.cli.output import count
from gateway.commissioning.forecast import DevicePlan
from gateway.drivers.opcua.limits import CHUNK, Service
from gateway.drivers.opcua.section import OpcuaDevice
from gateway.logs import printable
from gateway.quantities import format_duration

if TYPE_CHECKING:
    from gateway.drivers.opcua.outlook import Outlook, Subscription

_SHOWN: Final = 5
_SOURCES: Final = {"told": "the server says so", "found": "found by trying", "config": "by the config"}


def server(plan: DevicePlan) -> Iterator[str]:
    """Give the lines about one server; none for a device that is no OPC UA server."""
    section, outlook = plan.section, plan.outlook
    if outlook is None or not isinstance(section, OpcuaDevice):
        return
    if section.browse:
        yield f"  {_browsed(plan)}"
    for subscription in outlook.subscriptions:
        yield f"  {_subscription(subscription)}"
    for poll in outlook.polls:
        every = format_duration(round(1 / poll.rate, 3))
        yield f"  reads {count(poll.tags, 'node')} in {count(poll.requests, 'request')}, every {every}"
    connect = ", ".join(f"{number} {service}" for service, number in outlook.connect)
    more = "browsing, units and structures" if section.browse else "units and structures"
    yield f"  at the first connect: {connect}, and what {more} take"
    yield f"  {_rate(section, outlook)}"
    yield from (f"  {line}" for line in _limits(plan))


def not_known(plans: Sequence[DevicePlan], why: Mapping[str, str]) -> str:
    """Say why the limits of servers are not known here; nothing if they are."""
    unknown = [plan for plan in plans if plan.outlook is not None and plan.known is None]
    if not unknown:
        return ""
    reasons = "; ".join(dict.fromkeys(why[plan.section.name] for plan in unknown if plan.section.name in why))
    browsed = any(getattr(plan.section, "browse", ()) for plan in unknown)
    what = (
        "An OPC UA server's limits, and the tags that browse takes, are" if browsed else "An OPC UA server's limits are"
    )
    return f"{what} read at connect: {reasons or 'start the gateway on this machine, and plan asks it'}."


def _browsed(plan: DevicePlan) -> str:
    if plan.known is None:
        return "and the tags that browse takes, which are found at connect: they are not in what follows"
    if plan.known.stale:
        return "and the tags that browse takes: the gateway runs with another browse, reload it to see them"
    if not plan.known.tags:
        return "browse takes no further tag"
    names = [printable(tag.name) for tag in plan.known.tags]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{len(names)} of them taken by browse: {', '.join(names[:_SHOWN])}{more}"


def _subscription(each: "Subscription") -> str:
    sampling = _span(*map(format_duration, each.sampling_s))
    return (
        f"subscription published every {format_duration(each.publishing_s)}: {count(each.items, 'item')}, "
        f"sampled every {sampling}, queues of {_span(*map(str, each.queue))}"
    )


def _rate(section: OpcuaDevice, outlook: "Outlook") -> str:
    most = section.max_requests_per_second
    text = f"then {'up to ' if outlook.subscriptions else ''}{outlook.per_second:.3g} requests a second"
    polled = sum(poll.rate * poll.requests for poll in outlook.polls)
    if polled > most:
        return f"{text}, and max_requests_per_second is {most}: raise it, or lengthen intervals"
    return text


def _limits(plan: DevicePlan) -> Iterator[str]:
    limits = plan.limits
    shown = []
    for name, most in limits.document.items():
        if name == Service.REGISTER and not most:
            shown.append(f"{name}: not used, it is refused or gives the same ids")
        else:
            shown.append(f"{name} {most} ({_SOURCES[limits.sources[name]]})")
    if shown:
        yield f"limits: {'; '.join(shown)}"
    if plan.known is not None:
        yield f"no request has more than {CHUNK} operations, and fewer where the server refuses so many"


def _span(least: str, most: str) -> str:
    return least if least == most else f"{least} to {most}"
