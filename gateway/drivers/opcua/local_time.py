"""From the local time of a PLC's clock to UTC."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gateway.drivers.opcua.types.values import DataValue

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_AHEAD_MS: Final = 600_000
"""A PLC's clock may be so far ahead of ours."""


class LocalClock:
    """Converts timestamps of one PLC whose clock runs the local time of a zone, and calls it UTC.

    An hour that happens twice, at the end of summer time, is told apart by our own clock: it is the second one, unless
    that is still to come. A value from the first one that is read again in the second gets the second's time then. A
    time that the change skips is taken as if the clock had not been put forward yet.
    """

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def utc(self, local_ms: int, rx: int) -> int:
        """Give ms since the Unix epoch for local ms, received at `rx` (ms since the Unix epoch)."""
        try:
            wall = (_EPOCH + local_ms * _MS).replace(tzinfo=self._zone)
            meanings = {local_ms - wall.replace(fold=fold).utcoffset() // _MS for fold in (0, 1)}  # type: ignore[operator]
        except (OverflowError, ValueError):
            return local_ms  # before the year 1 or after 9999: no zone has rules for it
        if len(meanings) == 1:
            return meanings.pop()
        earlier, later = sorted(meanings)
        return later if self._is_skipped(wall) or later <= rx + _AHEAD_MS else earlier

    def converted(self, readings: Iterable[tuple[int, DataValue]], rx: int) -> list[tuple[int, DataValue]]:
        """Give readings (column, value) with their source timestamps in UTC."""
        return [
            (column, value if value.source is None else value._replace(source=self.utc(value.source, rx)))
            for column, value in readings
        ]

    def _is_skipped(self, wall: datetime) -> bool:
        return wall.astimezone(UTC).astimezone(self._zone).replace(tzinfo=None) != wall.replace(tzinfo=None)
