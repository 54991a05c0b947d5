"""What the registers that a scan found may hold: a few values of a range, each as the most plausible type."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.commissioning.interpretations import Interpretation, interpret
from gateway.commissioning.search import Span

_SURE: Final = 0.6
"""The plausibility from which on two registers are shown as one value."""
_TEXT_FROM: Final = 4


def guess(values: Mapping[int, int], span: Span, most: int) -> list[tuple[int, Interpretation]]:
    """Give the first values of a range that are not 0, with their registers."""
    found = []
    for each in _guesses(values, span):
        found.append(each)
        if len(found) == most:
            break
    return found


def _guesses(values: Mapping[int, int], span: Span) -> Iterator[tuple[int, Interpretation]]:
    at, end = span
    while at < end:
        length = _text_length(values, at, end)
        if length >= _TEXT_FROM:
            yield at, interpret([values[at + n] for n in range(length)])[0]
            at += length
            continue
        pair = _pair(values, at, span)
        if pair is not None:
            yield at, pair
            at += 2
            continue
        if values[at]:
            yield at, interpret([values[at]])[0]
        at += 1


def _pair(values: Mapping[int, int], at: int, span: Span) -> Interpretation | None:
    """Give two registers as one value, if that is likely: a float anywhere, an integer at an even distance only."""
    start, end = span
    if at + 1 >= end or not (values[at] or values[at + 1]):
        return None
    best = interpret([values[at], values[at + 1]])[0]
    likely = best.type == "float32" or (best.type in {"uint32", "int32"} and (at - start) % 2 == 0)
    return best if likely and best.share >= _SURE else None


def _text_length(values: Mapping[int, int], at: int, end: int) -> int:
    """Count the registers from here on that hold two printable characters each, the last one perhaps one."""
    length = 0
    while at + length < end:
        high, low = divmod(values[at + length], 256)
        if not 0x20 < high < 0x7F or not (0x20 <= low < 0x7F or low == 0):
            break
        length += 1
        if low == 0:
            break
    return length
