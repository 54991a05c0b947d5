"""Which tags share a subscription: those that are to be published about equally often."""

from collections.abc import Iterable
from typing import Final

from gateway.drivers.opcua.section import OpcuaDevice

_ALIKE: Final = 2.0
"""Tags whose interval is less than so many times another's are published with it: sampling is each item's own."""


def by_interval(section: OpcuaDevice, columns: Iterable[int]) -> list[tuple[float, list[int]]]:
    """Sort tags into few groups: (publishing interval in seconds, columns), the fastest first."""
    groups: list[tuple[float, list[int]]] = []
    for interval, column in sorted((section.interval_of(section.tags[column]), column) for column in columns):
        if groups and interval < _ALIKE * groups[-1][0]:
            groups[-1][1].append(column)
        else:
            groups.append((interval, [column]))
    return groups
