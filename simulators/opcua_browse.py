"""Browsing in pages: continuation points and BrowseNext (OPC 10000-4 section 5.9), which asyncua's server has not."""

import itertools
from typing import Any

import asyncua

ua: Any = asyncua.ua


class Pages:
    """What is left of a session's Browse results, by continuation point."""

    def __init__(self) -> None:
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
            result.ContinuationPoint = f"{next(self._numbers)}".encode()
            self._left[result.ContinuationPoint] = (most, references[most:])
