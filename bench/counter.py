"""The number that a baseline writes, for whoever measures it. Imports nothing: a baseline has nothing to carry."""

import os
from pathlib import Path
from typing import Final

_DIGITS: Final = 20


class Counter:
    """A number in a file, which others may read at any time: it is written in one piece, over the one before."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_CREAT | os.O_WRONLY)
        self.write(0)

    def write(self, count: int) -> None:
        """Write the number."""
        os.pwrite(self._descriptor, f"{count:{_DIGITS}}".encode(), 0)
