"""Whether the system's clock is synchronised, as far as a program without privileges can tell."""

import time
from pathlib import Path
from typing import Final

_TIMESYNCD: Final = Path("run/systemd/timesync")


def synchronised(root: Path = Path("/")) -> bool | None:
    """Say whether a time server has set the clock since the boot; None where nobody tells.

    systemd-timesyncd makes the file `synchronized` with its first success (systemd-timesyncd.service(8)). chrony and
    ntpd leave no such mark, and the kernel's own (adjtimex(2)) is behind a system call that the service is denied:
    with them the answer is None, which is no fault.
    """
    folder = root / _TIMESYNCD
    try:
        if (folder / "synchronized").exists():
            return True
        return False if folder.is_dir() else None
    except OSError:
        return None


class Remembered:
    """`synchronised`, asked again only after a while: it is wanted for every sample."""

    def __init__(self, root: Path = Path("/"), keep_s: float = 2.0) -> None:
        self._root = root
        self._keep_s = keep_s
        self._until = float("-inf")
        self._answer: bool | None = None

    def __call__(self) -> bool | None:
        """Say whether the clock is synchronised, as of at most `keep_s` seconds ago."""
        now = time.monotonic()
        if now >= self._until:
            self._answer, self._until = synchronised(self._root), now + self._keep_s
        return self._answer
