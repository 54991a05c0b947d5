"""Columns of many values at once: elements taken out of a sequence without a step of Python's for each."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

Pick = Callable[[Sequence[Any]], Sequence[Any]]
"""Takes elements out of a sequence: a tuple of them, or the sequence itself where it is all of them in their order."""


def picker(positions: Sequence[int], count: int) -> Pick:
    """Give a function that takes the elements at these positions out of a sequence of `count`."""
    if len(positions) == count and all(position == at for at, position in enumerate(positions)):
        return lambda values: values
    if len(positions) == 1:
        only = positions[0]
        return lambda values: (values[only],)
    return itemgetter(*positions) if positions else lambda _: ()
