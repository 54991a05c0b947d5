"""Browsing in pages: continuation points and BrowseNext (OPC 10000-4 section 5.9), which asyncua's server has not."""

import itertools
from typing import Any

import asyncua

from simulators.opcua_limits import Limits

ua: Any = asyncua.ua


class Pages:
    """What is left of a session's Browse results, by continuation point.

    A session has `limits.continuation_points` at most: where they are all in use, another node's is refused, or with
    `limits.oldest_point_is_dropped` granted at the cost of the oldest.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left: dict[bytes, tuple[int, list[Any]]] = {}
        self._numbers = itertools.count(1)

    def first(self, results: list[Any], most: int) -> list[Any]:
        """Cut results down to so many references each; 0 leaves them whole."""
        for result in results:
            self._cut(result, result.References, most)
        return results

    def next(self, params: Any) -> list[Any]:
        """Answer a BrowseNext request."""
        results = []
        for point in params.ContinuationPoints:
            result = ua.BrowseResult()
            most, left = self._left.pop(point, (0, None))
            if left is None:
                result.StatusCode = ua.StatusCode(ua.StatusCodes.BadContinuationPointInvalid)
            elif not params.ReleaseContinuationPoints:
                self._cut(result, left, most)
            results.append(result)
        return results

    def _cut(self, result: Any, references: list[Any], most: int) -> None:
        result.References = references[:most] if most else references
        if most and len(references) > most:
            if self._limits.continuation_points and len(self._left) >= self._limits.continuation_points:
                if not self._limits.oldest_point_is_dropped:
                    result.References = []
                    result.StatusCode = ua.StatusCode(ua.StatusCodes.BadNoContinuationPoints)
                    return
                self._left.pop(next(iter(self._left)))
            result.ContinuationPoint = f"{next(self._numbers)}".encode()
            self._left[result.ContinuationPoint] = (most, references[most:])
