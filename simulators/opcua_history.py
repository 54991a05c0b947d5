"""What a simulated OPC UA server remembers of its variables: HistoryRead of raw values (OPC 10000-11 section 6.5.3)."""

import itertools
from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Final

import asyncua

from simulators.opcua_limits import Limits

ua: Any = asyncua.ua
KEPT: Final = 10_000
"""Values of each variable: some 17 minutes at ten in a second."""
A_RESPONSE: Final = 1_000
"""Values of a variable in one response; a continuation point leads to more."""
_NO_TIME: Final = ua.get_win_epoch()


class History:
    """Raw values in memory, each change once; it grows while `on`, also when no client is there.

    `given` counts the values that clients have read, by the node's identifier.
    """

    def __init__(self, limits: Limits, *, on: bool) -> None:
        self.on = on
        self.given: Counter[str] = Counter()
        self._limits = limits
        self._values: dict[Any, deque[Any]] = {}
        self._continuations: dict[bytes, list[Any]] = {}
        self._numbers = itertools.count(1)

    def record(self, nodeid: Any, value: Any) -> None:
        """Keep a value, if it or its status differs from the last one."""
        if not self.on:
            return
        kept = self._values.setdefault(nodeid, deque(maxlen=KEPT))
        if not kept or (kept[-1].Value, kept[-1].StatusCode) != (value.Value, value.StatusCode):
            kept.append(value)

    def read(self, params: Any) -> list[Any]:
        """Answer a HistoryRead request. Raises ServiceError."""
        self._limits.check("nodes_per_history_read", len(params.NodesToRead))
        if params.ReleaseContinuationPoints:
            for wanted in params.NodesToRead:
                self._continuations.pop(wanted.ContinuationPoint, None)
            return [ua.HistoryReadResult() for _ in params.NodesToRead]
        return [self._of(wanted, params.HistoryReadDetails) for wanted in params.NodesToRead]

    def _of(self, wanted: Any, details: Any) -> Any:
        result = ua.HistoryReadResult()
        if not self.on or not isinstance(details, ua.ReadRawModifiedDetails) or details.IsReadModified:
            result.StatusCode = ua.StatusCode(ua.StatusCodes.BadHistoryOperationUnsupported)
            return result
        most = min(details.NumValuesPerNode or A_RESPONSE, A_RESPONSE)
        if wanted.ContinuationPoint:
            values = self._continuations.pop(wanted.ContinuationPoint, None)
            if values is None:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadContinuationPointInvalid)
                return result
        else:
            values = _between(self._values.get(wanted.NodeId, ()), details)
        result.HistoryData = ua.HistoryData()
        result.HistoryData.DataValues = values[:most]
        self.given[str(wanted.NodeId.Identifier)] += len(values[:most])
        if len(values) > most:
            result.ContinuationPoint = f"{next(self._numbers)}".encode()
            self._continuations[result.ContinuationPoint] = values[most:]
        if not values:
            result.StatusCode = ua.StatusCode(ua.StatusCodes.GoodNoData)
        return result


def _between(values: Iterable[Any], details: Any) -> list[Any]:
    """The values from the start, which is included, to the end, which is not; backwards where the end comes first."""
    start, end = details.StartTime, details.EndTime
    if start in (None, _NO_TIME):  # the latest ones up to the end
        found = [each for each in values if end in (None, _NO_TIME) or each.SourceTimestamp <= end]
        return found[::-1][: details.NumValuesPerNode or None]
    if end in (None, _NO_TIME):
        return [each for each in values if each.SourceTimestamp >= start][: details.NumValuesPerNode or None]
    if end < start:
        return [each for each in values if end < each.SourceTimestamp <= start][::-1]
    return [each for each in values if start <= each.SourceTimestamp < end]
